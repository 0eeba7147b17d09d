"""Differences of two models over the same users: by hand, against the t-test, and where nothing can be said."""

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_rel

from recspark.evaluation.bootstrap import bootstrap_sums, estimate, poisson_weights
from recspark.evaluation.comparison import compare, holm

REPLICATES = 1000


def sums(values: list[float] | np.ndarray, replicates: int = REPLICATES, first: int = 0) -> np.ndarray:
    """Of users `first`, `first` + 1, … with one value each."""
    column = np.asarray(values, float)[:, None]
    return bootstrap_sums(np.arange(first, first + len(column)), column, replicates)


def test_two_users_and_their_weights_by_hand():
    """User 0 gains 1/2 and user 1 nothing: with weights v and w a replicate's difference is v / 2 (v + w)."""
    found = compare(sums([0.75, 0.25]), sums([0.25, 0.25]))
    v, w = poisson_weights(np.arange(2), REPLICATES).astype(float)
    drawn = v + w > 0
    replicates = (v / 2 / np.where(drawn, v + w, 1))[drawn]
    assert found.difference.tolist() == [0.25]
    assert found.users == 2
    assert (found.low[0], found.high[0]) == tuple(np.percentile(replicates, [2.5, 97.5]))
    assert found.p[0] == pytest.approx(2 * t.sf(0.25 / (replicates.std(ddof=1) * 2**0.5), 1))


@pytest.mark.parametrize("gain", [0.0, 0.004, 0.012, -0.02])
def test_the_paired_t_test_agrees_where_the_users_are_many(gain):
    """2,000 users who differ much more among themselves than the models do on one of them."""
    rng = np.random.default_rng(3)
    easy = rng.uniform(0.3, 0.6, 2000)
    ours, theirs = (
        easy + gain + rng.normal(0, 0.1, 2000).clip(-0.2, 0.2),
        easy + rng.normal(0, 0.1, 2000).clip(-0.2, 0.2),
    )
    found, test = compare(sums(ours, 4000), sums(theirs, 4000)), ttest_rel(ours, theirs)
    assert norm.isf(found.p[0] / 2) == pytest.approx(norm.isf(test.pvalue / 2), rel=0.05, abs=0.02)
    low, high = test.confidence_interval()
    np.testing.assert_allclose([found.low[0], found.high[0]], [low, high], atol=0.08 * (high - low))


def test_a_pair_is_told_apart_whose_own_intervals_overlap():
    """Each of 400 users gains .02 or .04, and has by itself anything from 0 to .9."""
    rng = np.random.default_rng(5)
    theirs = rng.uniform(0, 0.9, 400)
    ours = theirs + rng.choice([0.02, 0.04], 400)
    found = compare(sums(ours), sums(theirs))
    assert estimate(sums(ours)).low[0] < estimate(sums(theirs)).high[0]
    assert 0.028 < found.low[0] < found.difference[0] < found.high[0] < 0.032
    assert found.p[0] < 1e-6


def test_equal_models_do_not_differ_and_p_is_one():
    found = compare(sums([0.1, 0.7, 0.3]), sums([0.1, 0.7, 0.3]))
    assert (found.difference[0], found.low[0], found.high[0], found.p[0]) == (0, 0, 0, 1)


def test_models_of_equal_means_have_an_interval_and_p_one():
    found = compare(sums([0.2, 0.6]), sums([0.6, 0.2]))
    assert found.p[0] == 1
    assert found.low[0] < 0 < found.high[0]


def test_one_user_proves_nothing():
    found = compare(sums([0.75]), sums([0.25]))
    assert (found.difference[0], found.low[0], found.high[0], found.p[0], found.users) == (0.5, 0.5, 0.5, 1, 1)


@pytest.mark.parametrize(("users", "p"), [(2, 0.5), (3, 0.25), (5, 0.0625), (40, 2.0**-39)])
def test_users_who_all_gain_the_same_leave_the_doubt_that_their_number_leaves(users, p):
    """As many heads in a row, or as many tails, have this probability."""
    theirs = np.linspace(0.2, 0.8, users)
    found = compare(sums(theirs + 0.1), sums(theirs))
    assert found.p[0] == p
    assert found.difference[0] == pytest.approx(0.1, abs=1e-7)


def test_a_handful_of_users_tells_no_models_apart():
    """The normal distribution would have p < 1e-6."""
    found = compare(sums([0.1, 0.2, 0.1, 0.3, 0.2]), sums([0.0] * 5))
    assert 0.0625 <= found.p[0] < 0.1


def test_the_other_way_round_only_the_signs_change():
    one, two = sums([0.9, 0.1, 0.5, 0.4]), sums([0.2, 0.3, 0.4, 0.4])
    there, back = compare(one, two), compare(two, one)
    assert there.p[0] == back.p[0]
    assert (there.difference[0], there.low[0]) == (-back.difference[0], pytest.approx(-back.high[0]))


def test_other_users_cannot_be_compared():
    with pytest.raises(ValueError, match="not of the same users"):
        compare(sums([0.1, 0.2]), sums([0.1, 0.2], first=7))
    with pytest.raises(ValueError, match="no user"):
        compare(sums([]), sums([]))


def test_holm_multiplies_the_smallest_by_all_and_never_turns_the_order():
    """.01 · 4, .02 · 3, and .022 · 2 = .044, which may not fall below the .06 before it; .9 stays."""
    columns = np.array([[0.022, 1.0], [0.9, 1.0], [0.01, 0.3], [0.02, 0.3]])
    np.testing.assert_allclose(holm(columns), [[0.06, 1], [0.9, 1], [0.04, 1], [0.06, 1]])
    assert holm(np.array([[0.03]])).tolist() == [[0.03]]
