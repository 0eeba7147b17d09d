"""Two models over the same users: is the difference of their means more than chance?

A user has the same bootstrap weights under every model (`bootstrap`), so the difference of two models' means in a replicate is
that of a paired bootstrap, in which whatever makes a user easy or hard for both cancels. With Δ the difference of the means and
Δ*_b its replicates, the interval is from the 2.5 % to the 97.5 % of the Δ*_b, and

    p = 2 (1 − T(|Δ| / se)),    se² = n / (n − 1) · Σ_b (Δ*_b − mean Δ*)² / (B − 1),

two-sided, by the bootstrap's standard error (Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 6 and 13) and
T, Student's t distribution with n − 1 degrees of freedom, n being the users: the paired t-test, whose heavier tails count where users are
few. It is never below 2^(1 − n), the least p of an exact test that turns signs round (Fisher 1935): of five users .0625, so that a handful
tells no two models apart.

Dimensions: C columns (a metric at a cut-off), R replicates, P pairs.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recspark.evaluation.bootstrap import SCALE, Floats, ratios, replicated


@dataclass(frozen=True)
class Comparison:
    """One model's means less another's: (C,) differences, the ends of their 95 % intervals and p, over so many users."""

    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    users: int


def compare(sums: NDArray[np.int64], other: NDArray[np.int64]) -> Comparison:
    """From the `bootstrap_sums` (R + 1, C + 1) of two models over the same users.

    p is 1 where the models are equal, and where there is but one user, of whom nothing can be concluded. Raises ValueError if the users are not the same, or there is none.
    """
    if not np.array_equal(sums[:, -1], other[:, -1]):
        raise ValueError("the sums are not of the same users, so that no replicate of one is of the other")
    users = int(sums[0, -1] // SCALE)
    if not users:
        raise ValueError("no user to compare by")
    apart, weights = sums[:, :-1] - other[:, :-1], sums[:, -1]
    difference, low, high = ratios(apart, weights)
    p = p_value(difference, replicated(apart, weights), users) if users > 1 else np.ones_like(difference)
    return Comparison(difference, low, high, p, users)


def p_value(difference: Floats, replicates_RC: Floats, users: int) -> Floats:
    """(C,) two-sided p of the differences, of two users or more."""
    from scipy.stats import t  # takes longer to load than all else that a command needs

    error = replicates_RC.std(0, ddof=1) * math.sqrt(users / (users - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * t.sf(np.abs(difference) / error, users - 1)
    return np.where(difference == 0, 1.0, np.maximum(p, 2.0 ** (1 - users)))


def holm(p_PC: Floats) -> Floats:
    """(P, C) p adjusted for P comparisons made at once, column by column.

    The i-th smallest of P becomes the largest of (P − j + 1) p_(j) over j ≤ i, at most 1 (Holm 1979, "A simple sequentially
    rejective multiple test procedure"): the chance that any of the truly equal pairs is called apart stays below the level.
    """
    order = np.argsort(p_PC, axis=0, kind="stable")
    factors = np.arange(len(p_PC), 0, -1)[:, None]
    steps = np.minimum(1.0, np.maximum.accumulate(factors * np.take_along_axis(p_PC, order, 0), axis=0))
    adjusted = np.empty_like(p_PC)
    np.put_along_axis(adjusted, order, steps, axis=0)
    return adjusted
