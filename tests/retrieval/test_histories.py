"""Histories as sparse matrices, worked out by hand."""

import numpy as np
import pyarrow as pa

from recspark.retrieval.histories import history_matrix

POSITIONS = pa.list_(pa.int32())


def test_an_item_counts_half_a_place_back_and_a_quarter_two_places_back():
    histories = pa.chunked_array([[[2, 0, 1], None], [[], [1]]], POSITIONS)
    weights_UM = history_matrix(histories, 3, decay=0.5)
    assert weights_UM.dtype == np.float32
    assert weights_UM.toarray().tolist() == [[0.5, 0.25, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_without_decay_each_item_counts_one_and_a_slice_begins_at_its_own_first_user():
    histories = pa.array([[2], [1, 0], None], POSITIONS).slice(1)
    assert history_matrix(histories, 3).toarray().tolist() == [[1, 1, 0], [0, 0, 0]]


def test_no_users_make_a_matrix_without_rows():
    assert history_matrix(pa.chunked_array([], POSITIONS), 3).shape == (0, 3)
