import itertools

import numpy as np
import pytest

from recspark.models.factors import Rows
from recspark.models.ratings import (
    RatingSettings,
    Scale,
    confidence,
    respond,
    solve_ratings,
    start_of,
    stretched,
    stretched_offset,
)


def rows_of(shares_UI: np.ndarray, source: np.ndarray) -> Rows:
    """The ratings of a matrix in which NaN is no rating, beside the other side's [q, b]."""
    there = ~np.isnan(shares_UI)
    indptr = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int64)
    ones = np.ones(len(shares_UI), np.float32)
    return Rows(indptr, np.nonzero(there)[1], shares_UI[there].astype(np.float32), source.astype(np.float32), ones)


def alternate(shares_UI: np.ndarray, settings: RatingSettings, rounds: int) -> np.ndarray:
    """Predicted shares of the scale after so many rounds."""
    draw, size = np.random.default_rng(1), settings.embedding_size + 1
    offset = start_of(settings.link, float(np.nanmean(shares_UI)))
    items = np.hstack([draw.normal(0, 0.1, (shares_UI.shape[1], size - 1)), np.zeros((shares_UI.shape[1], 1))])
    users, items = None, items.astype(np.float32)
    for _ in range(rounds):
        users = solve_ratings(rows_of(shares_UI, items), offset, settings, None, users)
        items = solve_ratings(rows_of(shares_UI.T, users), offset, settings, None, items)
    x_UI = users[:, :-1] @ items[:, :-1].T + users[:, -1:] + items[:, -1] + offset
    return respond(settings.link, x_UI.astype(np.float64))[0]


def planted(link: str, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """A whole matrix of rank 2 with biases, and the same with three entries in ten left out."""
    draw = np.random.default_rng(0)
    users, items = draw.normal(0, spread, (40, 3)), draw.normal(0, spread, (30, 3))
    x_UI = users[:, :2] @ items[:, :2].T + users[:, 2:] + items[:, 2]
    truth = respond(link, x_UI)[0] + (0.5 if link == "identity" else 0.0)
    return truth, np.where(draw.random(truth.shape) < 0.3, np.nan, truth)


def test_one_rating_is_shared_out_by_hand_between_bias_and_factor():
    """y 0.9 over an offset of 0.4 and the other's bias 0.1 leaves 0.4: (1 + 1) v + λ v = 0.4 · x with q = 1, λ 1 on both: 0.4 / 3 each."""
    settings = RatingSettings(embedding_size=1, regularization=1, bias_regularization=1)
    solved = solve_ratings(rows_of(np.array([[0.9]]), np.array([[1.0, 0.1]])), 0.4, settings)
    np.testing.assert_allclose(solved, [[0.4 / 3, 0.4 / 3]], atol=1e-6)


@pytest.mark.parametrize("k", [0, 3])
def test_a_solve_equals_least_squares_with_a_row_more_for_each_ridge(k: int):
    draw = np.random.default_rng(2)
    settings = RatingSettings(embedding_size=k, regularization=2, bias_regularization=0.5)
    shares, source, prior = draw.random((4, 6)), draw.normal(size=(6, k + 1)), draw.normal(size=(4, k + 1))
    shares[draw.random(shares.shape) < 0.3] = np.nan
    solved = solve_ratings(rows_of(shares, source), 0.3, settings, prior.astype(np.float32))
    for row in range(4):
        met = ~np.isnan(shares[row])
        features = np.hstack([source[met, :-1], np.ones((met.sum(), 1))])
        root = np.diag(np.sqrt(np.append(np.full(k, 2.0), 0.5)))
        left = np.vstack([features, root])
        right = np.concatenate([shares[row, met] - source[met, -1] - 0.3, root @ prior[row]])
        np.testing.assert_allclose(solved[row], np.linalg.lstsq(left, right, rcond=None)[0], atol=1e-5)


def test_a_row_without_ratings_is_its_prior_and_zero_without_one():
    settings = RatingSettings(embedding_size=1)
    rows, prior = rows_of(np.array([[np.nan], [0.5]]), np.array([[1.0, 0.0]])), np.array([[3, 4], [0, 0]], np.float32)
    assert solve_ratings(rows, 0.5, settings, prior)[0].tolist() == [3.0, 4.0]
    assert solve_ratings(rows, 0.5, settings)[0].tolist() == [0.0, 0.0]


def test_more_ratings_move_a_row_further_from_its_prior():
    """Each of n ratings is 0.2 above the offset: the bias is 0.2 n / (n + 1)."""
    settings = RatingSettings(embedding_size=0, bias_regularization=1)
    for n in (1, 4, 9):
        solved = solve_ratings(rows_of(np.full((1, n), 0.7), np.zeros((n, 1))), 0.5, settings)
        np.testing.assert_allclose(solved, [[0.2 * n / (n + 1)]], atol=1e-6)


@pytest.mark.parametrize("link", ["identity", "sigmoid"])
def test_a_planted_matrix_is_found_again_where_it_was_left_out(link: str):
    truth, given = planted(link, 0.3 if link == "identity" else 0.6)
    found = alternate(
        given, RatingSettings(embedding_size=2, link=link, regularization=1e-3, bias_regularization=1e-3), 25
    )
    hidden = np.isnan(given)
    assert np.sqrt(np.mean((found - truth)[hidden] ** 2)) < 0.01
    assert truth[hidden].std() > 0.1


def test_the_sigmoid_stays_in_the_scale_where_the_identity_leaves_it():
    draw = np.random.default_rng(3)
    shares = np.where(draw.random((30, 20)) < 0.5, 0.0, 1.0)
    loose = {"embedding_size": 8, "regularization": 0.05, "bias_regularization": 0.05}
    inside = alternate(shares, RatingSettings(link="sigmoid", **loose), 10)
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert alternate(shares, RatingSettings(**loose), 10).max() > 1


def test_a_sigmoid_step_never_raises_a_rows_loss():
    """From far out on the flat side of the curve a full Gauss-Newton step would overshoot."""
    settings = RatingSettings(embedding_size=1, link="sigmoid", regularization=1e-3, bias_regularization=1e-3)
    shares, source = np.array([[0.05, 0.9, 0.5]]), np.array([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0]])
    rows, here = rows_of(shares, source), np.array([[3.0, 2.0]], np.float32)

    def loss(vector: np.ndarray) -> float:
        share = respond("sigmoid", source[:, 0] * vector[0, 0] + vector[0, 1])[0]
        return float(((shares[0] - share) ** 2).sum() + 1e-3 * (vector**2).sum())

    losses = [loss(here)]
    for _ in range(20):
        here = solve_ratings(rows, 0.0, settings, None, here)
        losses.append(loss(here))
    assert all(after <= before + 1e-7 for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.05 < losses[0]


def test_the_sigmoid_rises_by_one_at_its_middle_and_its_start_is_the_mean():
    share, slope = respond("sigmoid", np.array([0.0]))
    assert (share[0], slope[0]) == (0.5, 1.0)
    assert respond("sigmoid", np.array([start_of("sigmoid", 0.8)]))[0][0] == pytest.approx(0.8)
    assert np.isfinite(start_of("sigmoid", 0.0))
    assert start_of("identity", 0.8) == 0.8


@pytest.mark.parametrize("link", ["identity", "sigmoid"])
def test_stretched_rows_give_the_rating_or_its_log_odds(link: str):
    draw, scale = np.random.default_rng(4), Scale(1, 5)
    user, item = draw.normal(size=(1, 4)), draw.normal(size=(1, 4))
    share = respond(link, np.array([user[0, :3] @ item[0, :3] + user[0, 3] + item[0, 3] + 0.6]))[0][0]
    p, q = stretched(user, link, scale)[0], stretched(item, link, scale)[0]
    x = float(p[:3] @ q[:3]) + p[3] + q[3] + stretched_offset(0.6, link, scale)
    rating = x if link == "identity" else 1 + 4 / (1 + np.exp(-x))
    assert rating == pytest.approx(1 + 4 * share, rel=1e-5)


def test_five_ratings_count_half_in_a_prior():
    assert confidence(np.array([0, 5, 15])).tolist() == [0.0, 0.5, 0.75]


def test_a_sigmoid_step_that_would_overshoot_is_halved():
    """At b = 1 for y = 0.5 the full step goes to about -4.8, the other flat side: a loss of .27 where there was .23."""
    settings = RatingSettings(embedding_size=0, link="sigmoid", bias_regularization=1e-3)
    solved = solve_ratings(
        rows_of(np.array([[0.5]]), np.zeros((1, 1))), 0.0, settings, None, np.ones((1, 1), np.float32)
    )
    assert abs(solved[0, 0]) < 1
