from dataclasses import replace

import numpy as np
import pytest

from recspark.models.factors import Rows
from recspark.models.row_solves import solve_rows
from tests.models.sparse_rows import make_rows, random

K = 16  # rows of up to 8 interactions are systems of as many


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


def many_rows(seed: int = 3) -> Rows:
    """Rows of 0 to 29 interactions, of weights from none to large, over 40 vectors; of any exposure."""
    rng = np.random.default_rng(seed)
    columns = [sorted(rng.choice(40, n, replace=False)) for n in rng.permutation(np.repeat(np.arange(30), 3))]
    weights = rng.choice([0.0, 0.3, 1.0, 50.0], sum(map(len, columns)))
    rows = make_rows(columns, rng.normal(size=(40, K)), list(weights))
    return replace(rows, exposure=rng.uniform(0, 1, len(columns)).astype(np.float32))


def some(rows: Rows, chosen: list[int]) -> Rows:
    """The chosen rows alone, in that order."""
    spans = [np.arange(rows.indptr[row], rows.indptr[row + 1]) for row in chosen]
    indptr, places = np.cumsum([0, *map(len, spans)]), np.concatenate(spans)
    return Rows(indptr, rows.indices[places], rows.weights[places], rows.source, rows.exposure[chosen])


@pytest.mark.parametrize("pulled", [True, False])
def test_rows_of_few_interactions_and_of_many_solve_the_same_equations(pulled: bool):
    rows, lam = many_rows(), np.random.default_rng(1).uniform(0.05, 9, 90)
    prior = random((90, K), 2).astype(np.float32) if pulled else None
    gram = rows.source.T.astype(float) @ rows.source
    solved = solve_rows(rows, gram, lam, prior, 0.2)
    for row in range(len(rows)):
        vectors, weights = (part.astype(np.float64) for part in rows.vectors(row))
        left = 0.2 * rows.exposure[row] * gram + (vectors.T * weights) @ vectors + lam[row] * np.eye(K)
        right = weights @ vectors + (0 if prior is None else lam[row] * prior[row])
        np.testing.assert_allclose(solved[row], np.linalg.solve(left, right), rtol=1e-4, atol=1e-4)


def test_a_row_s_numbers_do_not_depend_on_the_other_rows():
    rows, lam = many_rows(), np.linspace(0.05, 9, 90)
    prior = random((90, K), 2).astype(np.float32)
    gram = rows.source.T.astype(float) @ rows.source
    whole = solve_rows(rows, gram, lam, prior, 0.2)
    for chosen in ([*range(89, -1, -1)], [*range(0, 90, 7)], [4], [50, 3]):
        np.testing.assert_array_equal(
            solve_rows(some(rows, chosen), gram, lam[chosen], prior[chosen], 0.2), whole[chosen]
        )
