"""Blends, places and gains worked out by hand."""

import numpy as np
import pytest

from recspark.retrieval.reorder import gain, reorder

SCORES = np.array([3.0, 2.0, 1.0, 0.5, 0.5])
POSITIONS = np.array([7, 8, 5, 1, 2])


def test_half_of_each_score_lifts_the_last_of_three_over_the_second():
    # Standardised: the retriever 1.22, 0, -1.22; the reranker 0.71, -1.41, 0.71. Halves: .97, -.71, -.26.
    order, scores = reorder(SCORES, np.array([1.0, -2.0, 1.0]), POSITIONS, 0.5)
    assert order.tolist() == [0, 2, 1, 3, 4]
    assert np.allclose(scores[:3], [0.9659, -0.2588, -0.7071], atol=1e-4)
    assert np.allclose(scores[3:], -0.7071 - 0.5 / 0.8165, atol=1e-4)


def test_weight_0_leaves_the_order_and_weight_1_takes_the_rerankers():
    own = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert reorder(SCORES, own, POSITIONS, 0.0)[0].tolist() == [0, 1, 2, 3, 4]
    assert reorder(SCORES, own, POSITIONS, 1.0)[0].tolist() == [4, 3, 2, 1, 0]


def test_a_tie_goes_to_the_lower_position():
    assert reorder(SCORES, np.zeros(3), POSITIONS, 1.0)[0].tolist() == [2, 0, 1, 3, 4]


def test_nothing_reranked_leaves_the_list_and_a_list_of_one_is_a_list():
    order, scores = reorder(SCORES, np.empty(0), POSITIONS, 1.0)
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(scores) <= 0).all()
    assert reorder(np.array([9.0]), np.array([2.0]), np.array([4]), 0.3)[1].tolist() == [0.0]
    assert len(reorder(np.empty(0), np.empty(0), np.empty(0, int), 0.3)[0]) == 0


@pytest.mark.parametrize(("place", "expected"), [(0, 1.0), (2, 0.5), (9, 1 / np.log2(11)), (10, 0.0), (None, 0.0)])
def test_gain_is_one_over_the_logarithm_of_the_rank_plus_one(place, expected):
    assert gain(place, 10) == pytest.approx(expected)
