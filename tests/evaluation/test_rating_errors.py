import numpy as np
import pytest

from recspark.evaluation.bootstrap import poisson_weights
from recspark.evaluation.rating_errors import error_sums, rating_rows


def test_errors_worked_out_by_hand():
    """Errors 1, -1, 2, 0: mean square 6 / 4, mean absolute 4 / 4."""
    sums = error_sums(np.array([1, 1, 2, 3]), np.array([[1.0], [-1.0], [2.0], [0.0]]), 2.0, 200)
    found = {metric: value for _, metric, value, *_ in rating_rows(sums, 2.0, ["one"])}
    assert found["rmse"] == pytest.approx(np.sqrt(1.5), abs=1e-6)
    assert found["mae"] == pytest.approx(1.0, abs=1e-6)


def test_values_agree_with_sklearn_and_intervals_with_users_drawn_one_by_one():
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    draw = np.random.default_rng(0)
    users = np.repeat(np.arange(50), draw.integers(1, 30, 50))
    truth = draw.integers(1, 6, len(users)).astype(float)
    predicted = np.stack([truth + draw.normal(0, s, len(users)) for s in (0.5, 2)], axis=1)
    errors = predicted - truth[:, None]
    unit, hashes = np.abs(errors).max(), users * 7919
    found = {(m, metric): row for m, metric, *row in rating_rows(error_sums(hashes, errors, unit, 300), unit, "ab")}
    for column, model in enumerate("ab"):
        assert found[model, "rmse"][0] == pytest.approx(root_mean_squared_error(truth, predicted[:, column]), abs=1e-6)
        assert found[model, "mae"][0] == pytest.approx(mean_absolute_error(truth, predicted[:, column]), abs=1e-6)

    weights_UR = poisson_weights(np.arange(50) * 7919, 300).astype(float)
    squares_U, counts_U = np.bincount(users, errors[:, 0] ** 2), np.bincount(users)
    replicates = np.sqrt((weights_UR.T @ squares_U) / (weights_UR.T @ counts_U))
    np.testing.assert_allclose(found["a", "rmse"][1:], np.percentile(replicates, [2.5, 97.5]), atol=1e-6)


def test_sums_of_two_halves_are_the_sums_of_the_whole_to_the_last_bit():
    draw = np.random.default_rng(1)
    hashes, errors = draw.integers(0, 20, 400), draw.normal(size=(400, 3)) * 100
    unit = float(np.abs(errors).max())
    whole = error_sums(hashes, errors, unit, 100)
    halves = [error_sums(hashes[part], errors[part], unit, 100) for part in (slice(0, 150), slice(150, 400))]
    assert (halves[0] + halves[1] == whole).all()


def test_perfect_predictions_have_no_error():
    sums = error_sums(np.array([1, 2]), np.zeros((2, 1)), 0.0, 100)
    assert [row[2:] for row in rating_rows(sums, 0.0, ["one"])] == [(0.0, 0.0, 0.0)] * 2
