"""Bootstrap intervals of a mean over users, in one pass and in any order.

In the Poisson bootstrap (Chamandy, Muralidharan, Najmi and Naidu 2012, "Estimating uncertainty for massive data streams")
a user counts w ~ Poisson(1) times in a replicate. Here w is a function of the user's hash and the replicate alone, so the
same user has the same weights under every model and wherever Spark put the row; and the sums are whole numbers, so that
they come out the same to the last bit however they are added up.

Dimensions: U users, C columns (a metric at a cut-off), R replicates.
"""

from dataclasses import dataclass
from math import exp, factorial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Hashes = NDArray[np.int64] | NDArray[np.uint64]

SCALE = 2**26  # values are rounded to multiples of 1.5e-8
LARGEST = 64.0  # of a value: keeps CHUNK · w · LARGEST · SCALE below 2^53 (exact in float64), and sums over 10^9 users in int64
CHUNK = 1024
CONFIDENCE = 0.95
GAMMA = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Estimate:
    """Means (C,) and the ends (C,) of their 95 % intervals, over so many users."""

    value: Floats
    low: Floats
    high: Floats
    users: int


def bootstrap_sums(hashes_U: Hashes, values_UC: Floats, replicates: int) -> NDArray[np.int64]:
    """(R + 1, C + 1) sums over users of weight times value, in units of 1 / SCALE; in the last column of weights.

    Row 0 is the sample itself, each user once. Sums of parts of the users add up to the sums of all. Values lie in
    [0, 64). Raises ValueError otherwise.
    """
    if values_UC.size and not (values_UC.min() >= 0 and values_UC.max() < LARGEST):
        raise ValueError(f"values must lie in [0, {LARGEST:g}); found {values_UC.min()} to {values_UC.max()}")
    whole_UC = np.hstack([np.rint(values_UC * SCALE), np.full((len(values_UC), 1), float(SCALE))])
    sums = np.zeros((replicates + 1, whole_UC.shape[1]), np.int64)
    for start in range(0, len(hashes_U), CHUNK):
        part = whole_UC[start : start + CHUNK]
        weights_UR = poisson_weights(hashes_U[start : start + CHUNK], replicates)
        sums[0] += part.sum(0).astype(np.int64)
        sums[1:] += (weights_UR.T.astype(np.float64) @ part).astype(np.int64)
    return sums


def estimate(sums: NDArray[np.int64]) -> Estimate:
    """Means and percentile intervals.

    Raises ValueError if there is no user.
    """
    users = int(sums[0, -1] // SCALE)
    if not users:
        raise ValueError("no user to take a mean over")
    return Estimate(*ratios(sums[:, :-1], sums[:, -1]), users)


def ratios(sums: NDArray[np.int64], over: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """(C,) sums over a column (R + 1,) of the same replicates, and the ends of their 95 % intervals.

    Over the weights, these are means; over another sum, ratios of means.
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(replicated(sums, over), [tail, 100 - tail], axis=0)
    return sums[0] / over[0], low, high


def replicated(sums: NDArray[np.int64], over: NDArray[np.int64]) -> Floats:
    """The same by replicate, (R, C); those in which the column is 0 (that drew nobody, of very few users) are left out."""
    drawn = over[1:] > 0
    return sums[1:][drawn] / over[1:][drawn][:, None]


def poisson_weights(hashes_U: Hashes, replicates: int) -> NDArray[np.uint8]:
    """(U, R) Poisson(1) draws keyed by (hash, replicate): 16 bits each of a counter-based generator (SplitMix64)."""
    words = -(-replicates // 4)
    counters = GAMMA * np.arange(1, words + 1, dtype=np.uint64)  # wraps around, as it should
    mixed = mix(hashes_U.astype(np.uint64)[:, None] + counters)
    return POISSON[mixed.astype("<u8").view("<u2")[:, :replicates]]


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014); every bit of the input moves every bit out."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def poisson_table() -> NDArray[np.uint8]:
    """(65536,) the inverse of the Poisson(1) distribution function at each 16-bit number."""
    cumulated = np.cumsum([exp(-1) / factorial(n) for n in range(16)])
    return np.searchsorted(np.rint(cumulated * 2**16), np.arange(2**16), side="right").astype(np.uint8)


POISSON = poisson_table()
