import numpy as np
import pytest

from recspark.models.factors import FactorSettings, keyed_normal, ridge, row_penalty, square_root
from tests.models.sparse_rows import make_rows, random


def test_penalty_grows_with_the_count_by_the_exponent():
    settings = FactorSettings(regularization=2.0, unobserved_weight=0.5, frequency_exponent=0.5)
    assert row_penalty(np.array([0, 9]), 32, settings) == pytest.approx([8.0, 10.0])


def test_square_root_gives_the_sum_of_outer_products_in_at_most_k_rows():
    source = random((40, 4))
    rows = make_rows([[1, 2], list(range(40)), []], source, list(np.linspace(0.5, 2, 42)))
    for row, root in enumerate(square_root(rows)):
        vectors, weights = rows.vectors(row)
        assert len(root) == min(len(vectors), 4)
        np.testing.assert_allclose(root.T @ root, (vectors * weights[:, None]).T @ vectors, atol=1e-4)


def test_ridge_without_penalty_is_least_squares_and_never_shrinks_the_constant():
    features = np.hstack([random((50, 3)), np.ones((50, 1))])
    target = features @ random((4, 2), 1)
    np.testing.assert_allclose(ridge(features.T @ features, features.T @ target, 0.0), random((4, 2), 1), atol=1e-9)
    shrunk = ridge(features.T @ features, features.T @ np.full((50, 1), 7.0), 1e9)
    np.testing.assert_allclose(shrunk, [[0], [0], [0], [7.0]], atol=1e-6)


def test_keyed_normal_depends_on_the_hash_alone_and_looks_normal():
    hashes = np.array([3, -8, 2**62], np.int64)
    drawn = keyed_normal(hashes, 4000, 4.0)
    np.testing.assert_array_equal(drawn[::-1], keyed_normal(hashes[::-1], 4000, 4.0))
    assert abs(drawn.mean()) < 0.1
    assert drawn.std() == pytest.approx(2.0, rel=0.05)
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.05
