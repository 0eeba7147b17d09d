"""Intervals that come out the same to the last bit however the users are split, and that cover what they should."""

import numpy as np
import pytest

from recspark.evaluation.bootstrap import bootstrap_sums, estimate, poisson_table, poisson_weights

REPLICATES = 1000


def sample(users: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.integers(-(2**63), 2**63 - 1, users), rng.random((users, 3))


def test_sums_are_the_same_to_the_last_bit_in_any_parts_and_any_order():
    hashes, values = sample(5000)
    whole = bootstrap_sums(hashes, values, REPLICATES)
    parts = np.split(np.random.default_rng(1).permutation(5000), [1, 17, 3000])
    assert (sum(bootstrap_sums(hashes[p], values[p], REPLICATES) for p in parts) == whole).all()


def test_the_value_is_the_mean_and_the_users_are_counted():
    hashes, values = sample(1000)
    found = estimate(bootstrap_sums(hashes, values, REPLICATES))
    assert found.users == 1000
    np.testing.assert_allclose(found.value, values.mean(0), atol=1e-8)


def test_the_interval_is_1_96_standard_errors_either_way():
    hashes, values = sample(2000)
    found = estimate(bootstrap_sums(hashes, values, 4000))
    error = values.std(0) / np.sqrt(2000)
    np.testing.assert_allclose((found.high - found.value) / error, 1.96, rtol=0.08)
    np.testing.assert_allclose((found.value - found.low) / error, 1.96, rtol=0.08)


def test_the_interval_holds_the_truth_19_times_in_20():
    held = []
    for seed in range(200):
        hashes, values = sample(200, seed)
        found = estimate(bootstrap_sums(hashes, values, 400))
        held += ((found.low <= 0.5) & (found.high >= 0.5)).tolist()
    assert 0.91 < np.mean(held) < 0.98


def test_weights_are_poisson_and_do_not_know_each_other_even_for_users_in_a_row():
    weights = poisson_weights(np.arange(20000), 40).astype(float)
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(weights.T) - np.eye(40)).max() < 0.04  # of 780 pairs; one alone has σ = .007
    assert np.abs(np.corrcoef(weights[:40]) - np.eye(40)).max() < 0.65


def test_the_table_draws_zero_in_1_of_e():
    assert (poisson_table() == 0).mean() == pytest.approx(np.exp(-1), abs=1e-5)
    assert poisson_table().mean() == pytest.approx(1, abs=1e-4)


def test_a_replicate_of_a_user_is_the_same_for_any_number_of_replicates():
    hashes, _ = sample(50)
    assert (poisson_weights(hashes, 1000)[:, :13] == poisson_weights(hashes, 13)).all()


def test_one_user_has_an_interval_of_no_width():
    found = estimate(bootstrap_sums(np.array([7]), np.array([[0.25]]), REPLICATES))
    assert (found.low[0], found.value[0], found.high[0], found.users) == (0.25, 0.25, 0.25, 1)


def test_nobody_has_no_mean():
    with pytest.raises(ValueError, match="no user"):
        estimate(bootstrap_sums(np.zeros(0, np.int64), np.zeros((0, 2)), REPLICATES))


@pytest.mark.parametrize("value", [-0.1, 64.0, np.nan])
def test_a_value_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="values must lie"):
        bootstrap_sums(np.array([1]), np.array([[value]]), REPLICATES)
