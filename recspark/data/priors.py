"""Priors of a side's vectors: a ridge map from features, such as text vectors, to the vectors, fitted over blocks by Spark."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.blocks import Links, Side, keep, map_blocks, row_counts, sum_matrices, to_blocks, unpack
from recspark.models.factors import FactorSettings, Floats, ridge, row_penalty

Weigh = Callable[[NDArray[np.int64], Floats], NDArray[np.floating]]  # (rows,) interactions, exposure -> weights


@dataclass(frozen=True)
class RidgePrior:
    """Features E of a side's rows in blocks (centred over the side, and a constant), and EᵀΛE.

    Only rows with interactions take part in the fit, each weighted by its Λ over their mean.
    """

    features: DataFrame  # block, matrix (rows, H + 1) float32, weights (rows,) float64
    centre: NDArray[np.float64]
    gram: NDArray[np.float64]
    penalty: float
    block_count: int

    @classmethod
    def of(cls, raw: DataFrame, side: Side, hidden: int, weigh: Weigh, penalty: float, scratch: str) -> "RidgePrior":
        """From blocks of `hidden` features for every row of the side."""
        column_sums = map_blocks(raw, lambda row: unpack(row.matrix, hidden).astype(np.float64).sum(0).tobytes())
        total = sum_matrices(column_sums, "matrix", side.blocks)
        centre = total / side.rows

        def feature(row) -> bytes:  # type: ignore[no-untyped-def]
            centred = unpack(row.matrix, hidden) - centre.astype(np.float32)
            return np.hstack([centred, np.ones((len(centred), 1), np.float32)]).tobytes()

        def weight(row) -> bytes:  # type: ignore[no-untyped-def]
            counts, exposure = row_counts(row.indptr), np.frombuffer(row.exposure, np.float32)
            return np.where(counts > 0, weigh(counts, exposure), 0.0).tobytes()

        weights = map_blocks(side.packed, weight).withColumnRenamed("matrix", "weights")
        features = keep(map_blocks(raw, feature).join(weights, "block"), f"{scratch}/features")

        def sums(row) -> bytes:  # type: ignore[no-untyped-def]
            weights = np.frombuffer(row.weights, np.float64)
            return np.array([weights.sum(), (weights > 0).sum()]).tobytes()

        weight_sum, met = sum_matrices(map_blocks(features, sums), "matrix", side.blocks)
        # (EᵀΛE / m + ridge I)⁻¹ EᵀΛQ / m with m the mean Λ: the same as scaling the ridge by m.
        squares = map_blocks(features, lambda row: cross(row.matrix, row.matrix, row.weights, hidden + 1))
        gram = sum_matrices(squares, "matrix", side.blocks).reshape(hidden + 1, hidden + 1)
        return cls(features, centre, gram, penalty * weight_sum / met, side.blocks)

    @property
    def size(self) -> int:
        return len(self.gram)

    def fit(self, blocks: DataFrame) -> NDArray[np.float64]:
        """(H + 1, k): the map W that best gives the rows' vectors from their features."""
        size = self.size
        joined = self.features.join(blocks.select("block", F.col("matrix").alias("factors")), "block")
        crossed = map_blocks(joined, lambda row: cross(row.matrix, row.factors, row.weights, size))
        return self.solve(sum_matrices(crossed, "matrix", self.block_count))

    def solve(self, crossed: NDArray[np.float64]) -> NDArray[np.float64]:
        """(H + 1, k): the map, from EᵀΛV, flat or not."""
        return ridge(self.gram, crossed.reshape(self.size, -1), self.penalty)

    def blocks(self, feature_map: NDArray[np.float64]) -> DataFrame:
        """(block, matrix): the priors E W of all rows."""
        size = self.size
        return map_blocks(
            self.features, lambda row: (unpack(row.matrix, size) @ feature_map).astype(np.float32).tobytes()
        )


def text_prior(vectors: DataFrame, links: Links, settings: FactorSettings, penalty: float, scratch: str) -> RidgePrior:
    """From (item_id, vector), a text vector for every item of the links; an item weighs as its λ in the solve."""
    side, users = links.items, links.users.rows
    raw = keep(to_blocks(vectors, side.index, "item_id"), f"{scratch}/texts")
    first = vectors.select(F.size("vector").alias("size")).first()

    def weigh(counts: NDArray[np.int64], exposure: Floats) -> NDArray[np.floating]:
        return row_penalty(counts, users * exposure, settings)

    return RidgePrior.of(raw, side, int(first["size"]) if first else 0, weigh, penalty, scratch)


def cross(left: bytes, right: bytes, weights: bytes, size: int) -> bytes:
    """LᵀΛR of two matrices with the same rows, L of `size` columns, in float64."""
    scale = np.frombuffer(weights, np.float64)
    wide = np.frombuffer(right, np.float32).reshape(len(scale), -1).astype(np.float64)
    return ((unpack(left, size) * scale[:, None]).T @ wide).tobytes()
