"""EASE and the texts in it, against the definition written down densely."""

import numpy as np
from scipy.sparse import csr_matrix

from recspark.models.item_based import ease, ease_bytes, text_gram, word_weights

# Users by items: items 0 and 1 go together, 2 is had alone, nobody has 3.
HAD = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]], float)


def test_ease_is_the_best_linear_map_of_users_to_themselves_without_a_diagonal():
    found = ease(HAD.T @ HAD, ridge=0.4)
    penalty = 0.4 * np.diag(HAD.T @ HAD).mean()
    for item in range(4):
        others = [i for i in range(4) if i != item]
        rest = HAD[:, others]
        expected = np.linalg.solve(rest.T @ rest + penalty * np.eye(3), rest.T @ HAD[:, item])
        np.testing.assert_allclose(found[others, item], expected, atol=1e-6)
    assert (np.diag(found) == 0).all()
    assert (found[3] == 0).all()
    assert (found[:, 3] == 0).all()


def test_texts_alike_bring_an_item_that_nobody_has_near_those_it_is_like():
    texts = text_gram(np.zeros((4, 2), np.float32), csr_matrix(np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]))
    found = ease(HAD.T @ HAD, ridge=1.0, texts_MM=texts, text_weight=1.0)
    assert found[2, 3] > 0.1
    assert (found[[0, 1], 3] < 0.05).all()


def test_a_weight_of_zero_reads_no_text():
    texts = np.full((4, 4), np.nan, np.float32)
    np.testing.assert_array_equal(ease(HAD.T @ HAD, 1.0, texts, 0.0), ease(HAD.T @ HAD, 1.0))


def test_an_empty_log_says_nothing():
    assert (ease(np.zeros((3, 3)), 8.5) == 0).all()


def test_text_vectors_are_centred_before_they_are_multiplied():
    vectors = np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]], np.float32)
    found = text_gram(vectors, csr_matrix((3, 0), dtype=np.float32))
    np.testing.assert_allclose(found, [[1, -1, 0], [-1, 1, 0], [0, 0, 0]], atol=1e-6)


def test_words_are_of_unit_length_and_rare_ones_weigh_more():
    found = word_weights(["red pen", "red ink", ""])
    np.testing.assert_allclose(np.asarray(found.multiply(found).sum(1)).ravel(), [1, 1, 0], atol=1e-6)
    shared, own = sorted(found[0].data)
    assert own > shared
    assert word_weights(["", "!"]).shape == (2, 0)


def test_twenty_thousand_items_need_nine_gib():
    assert 8 < ease_bytes(20_000) / 2**30 < 9
