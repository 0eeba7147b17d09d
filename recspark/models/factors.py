"""Implicit ALS over all user-item pairs, as closed-form solves on arrays.

The loss is the squared error over every pair: 1 for an interaction (weight w), 0 for each other pair (weight a). Its sum
over all pairs costs one Gram matrix, not N·M terms (Hu, Koren and Volinsky 2008); the regularisation is scaled by
frequency (Rendle et al. 2022, "Revisiting the performance of iALS"); an item is pulled to a prior that its text predicts
(Wang and Blei 2011, collaborative topic regression). Symbols: k factors, N users, M items, n a row's interactions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri

from recspark.config import Settings

Floats = NDArray[np.float32]


class FactorSettings(Settings):
    """What a solve needs beside the data."""

    embedding_size: int = Field(128, ge=1, le=1024, description="k, length of a user's and an item's vector")
    unobserved_weight: float = Field(0.15, ge=0, description="a, weight of a pair without an interaction")
    regularization: float = Field(0.03 * 100**0.25, gt=0, description="r in λ = r (n + a · others)^ν")
    frequency_exponent: float = Field(0.75, ge=0, le=2, description="ν in λ = r (n + a · others)^ν")


@dataclass(frozen=True)
class Rows:
    """Some rows of the interaction matrix beside the vectors of the columns they touch.

    indptr (rows + 1,) and indices (nonzeros,) into source (columns, k); weights (nonzeros,) of the interactions; exposure
    (rows,): the share of a row's unobserved pairs that count (He et al. 2016, eALS: they need not all weigh the same).
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    weights: Floats
    source: Floats
    exposure: Floats

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """(rows,) interactions of each row."""
        return np.diff(self.indptr)

    def vectors(self, row: int) -> tuple[Floats, Floats]:
        """(n, k) vectors of the row's columns and their (n,) weights."""
        span = slice(self.indptr[row], self.indptr[row + 1])
        return self.source[self.indices[span]], self.weights[span]


def row_penalty(
    counts: NDArray[np.integer], others: int | NDArray[np.floating], settings: FactorSettings
) -> NDArray[np.float64]:
    """λ of each row: r (n + a · others)^ν, with `others` the number of rows on the other side, as far as they count."""
    return settings.regularization * (counts + settings.unobserved_weight * others) ** settings.frequency_exponent


def ridge(gram: NDArray[np.float64], cross: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """(H + 1, k) map W of the features (the last is the constant, unpenalised): (EᵀΛE + ridge · I)⁻¹ EᵀΛQ."""
    damped = gram + penalty * np.diag(np.append(np.ones(len(gram) - 1), 0.0))
    return np.linalg.solve(damped, cross)


def square_root(rows: Rows) -> list[Floats]:
    """For each row an (m, k) matrix F, m <= k, with FᵀF = Σ w v vᵀ, exact up to rounding.

    With at most k interactions F holds the vectors themselves; beyond, the scaled eigenvectors of the sum. So what a loss
    needs of an item's users never takes more than k x k numbers, however many users there are.
    """
    roots = []
    for row in range(len(rows)):
        vectors, weights = rows.vectors(row)
        scaled = vectors * np.sqrt(weights)[:, None]
        if len(scaled) > scaled.shape[1]:
            values, directions = np.linalg.eigh(scaled.T.astype(np.float64) @ scaled)
            scaled = (np.sqrt(values.clip(0))[:, None] * directions.T).astype(np.float32)
        roots.append(np.ascontiguousarray(scaled))
    return roots


def keyed_normal(hashes: NDArray[np.int64], size: int, variance: float) -> Floats:
    """(len(hashes), size) normal numbers that depend on each row's hash alone (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        state = hashes.astype(np.uint64)[:, None] + np.uint64(0x9E3779B97F4A7C15) * np.arange(
            1, size + 1, dtype=np.uint64
        )
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    uniform = ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return (np.sqrt(variance) * ndtri(uniform)).astype(np.float32)
