from dataclasses import replace

import numpy as np
import pytest

from recspark.models.factors import FactorSettings, Rows, keyed_normal, ridge, row_penalty, solve_rows, square_root


def make_rows(columns: list[list[int]], source: np.ndarray, weights: list[float] | None = None) -> Rows:
    indices = np.array([c for row in columns for c in row], np.int64)
    indptr = np.cumsum([0, *(len(row) for row in columns)]).astype(np.int64)
    given = np.ones(len(indices), np.float32) if weights is None else np.array(weights, np.float32)
    return Rows(indptr, indices, given, source.astype(np.float32), np.ones(len(columns), np.float32))


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_a_solve_is_the_minimum_of_its_loss():
    source, prior = random((6, 3)), random((2, 3), 1).astype(np.float32)
    rows, a, lam = make_rows([[0, 2, 5], [1]], source, [1.0, 2.0, 1.0, 3.0]), 0.2, np.array([0.5, 0.7])
    solved = solve_rows(rows, source.T @ source, lam, prior, a)

    def loss(x: np.ndarray, row: int) -> float:
        vectors, weights = rows.vectors(row)
        fit = (weights * (1 - vectors @ x) ** 2).sum() + a * ((source @ x) ** 2).sum()
        return float(fit + lam[row] * ((x - prior[row]) ** 2).sum())

    for row in range(2):
        here = loss(solved[row], row)
        assert all(loss(solved[row] + step, row) > here for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.01)


def test_one_interaction_in_one_dimension_by_hand():
    # (a G + w v² + λ)⁻¹ (w v + λ z) with a = .5, G = 4, w = 1, v = 2, λ = 1, z = 3: 5 / 7
    rows = make_rows([[0]], np.array([[2.0]]))
    solved = solve_rows(rows, np.array([[4.0]]), np.array([1.0]), np.array([[3.0]], np.float32), 0.5)
    assert solved[0, 0] == pytest.approx(5 / 7)


def test_a_row_with_half_the_exposure_has_half_the_unobserved_weight():
    source, lam = random((6, 3)), np.array([0.5, 0.7])
    rows = make_rows([[0, 2, 5], [1]], source)
    half = replace(rows, exposure=np.full(2, 0.5, np.float32))
    np.testing.assert_allclose(
        solve_rows(half, source.T @ source, lam, None, 0.2), solve_rows(rows, source.T @ source, lam, None, 0.1)
    )


@pytest.mark.parametrize("weight", [1.0, 1e6, 1e9])  # milliseconds played, say
def test_large_weights_are_solved_as_exactly_as_small_ones(weight: float):
    """Vectors of so many dimensions as rows, so that only λ holds what the data leave open."""
    source = random((60, 16)).astype(np.float32)
    source[:, 8:] = source[:, :8] * 2  # half of the directions are nobody's
    rows = make_rows([list(range(50)), [3]], source, [weight] * 51)
    gram, lam = source.T.astype(float) @ source, np.array([0.7, 0.7])
    solved = solve_rows(rows, gram, lam, None, 0.0)
    for row in range(2):
        vectors, weights = (part.astype(np.float64) for part in rows.vectors(row))
        exact = np.linalg.solve((vectors.T * weights) @ vectors + 0.7 * np.eye(16), weights @ vectors)
        np.testing.assert_allclose(solved[row], exact, rtol=1e-3, atol=1e-5)


def test_a_row_without_interactions_and_prior_is_zero():
    assert not solve_rows(make_rows([[]], random((2, 3))), np.eye(3), np.ones(1), None, 0.1).any()


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
