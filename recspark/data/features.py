"""Features of a side's rows: groups of different kinds, each made to weigh the same in one ridge."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.blocks import Side, keep, map_blocks, sum_matrices, to_blocks, unpack
from recspark.models.factors import Floats


@dataclass(frozen=True)
class Features:
    """blocks of (rows, places) float32: (x - centre) · scale, 0 where a row has no such group."""

    blocks: DataFrame
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def size(self) -> int:
        return len(self.centre)


def features(groups: Sequence[DataFrame], side: Side, id_column: str, scratch: str) -> Features:
    """Of frames (id, vector), one a group: each centred, and scaled to a mean square length of 1 over the rows that have it.

    A row that a group lacks is at that group's mean.
    """
    parts = [centred(frame, side, id_column, f"{scratch}/group-{n}") for n, frame in enumerate(groups)]
    together, width = parts[0].blocks, parts[0].size
    for part in parts[1:]:
        together, width = beside(together, width, part.blocks, part.size), width + part.size
    centre, scale = (np.concatenate([getattr(part, name) for part in parts]) for name in ("centre", "scale"))
    return Features(keep(together, f"{scratch}/groups"), centre, scale)


def beside(left: DataFrame, left_size: int, right: DataFrame, right_size: int) -> DataFrame:
    """Blocks [L R] of two frames of blocks of one side."""
    both = left.join(right.select("block", F.col("matrix").alias("right")), "block")
    return map_blocks(
        both, lambda row: np.hstack([unpack(row.matrix, left_size), unpack(row.right, right_size)]).tobytes()
    )


def centred(vectors: DataFrame, side: Side, id_column: str, scratch: str) -> Features:
    """One group."""
    first = vectors.select(F.size("vector").alias("size")).first()
    size = int(first["size"]) if first else 0
    everyone = side.index.select(F.col("id").alias(id_column)).join(vectors, id_column, "left")
    missing = F.array_repeat(F.lit(float("nan")).cast("float"), size)
    filled = everyone.select(id_column, F.coalesce("vector", missing).alias("vector"))
    raw = keep(to_blocks(filled, side.index, id_column), scratch)
    sums = sum_matrices(map_blocks(raw, lambda row: moments(unpack(row.matrix, size))), "matrix", side.blocks)
    rows = max(sums[0], 1.0)
    centre = sums[2:] / rows
    square = sums[1] / rows - centre @ centre
    scale = 1.0 / np.sqrt(square) if square > 1e-9 else 0.0

    def scaled(row) -> bytes:  # type: ignore[no-untyped-def]
        return np.nan_to_num((unpack(row.matrix, size) - centre) * scale).astype(np.float32).tobytes()

    return Features(map_blocks(raw, scaled), centre, np.full(size, scale))


def moments(matrix: Floats) -> bytes:
    """The number of rows that are not missing, the sum of their squares, and their sum, as float64."""
    there = matrix[~np.isnan(matrix).any(1)].astype(np.float64)
    return np.concatenate([[len(there), (there**2).sum()], there.sum(0)]).tobytes()


def unit_length(vectors: DataFrame, id_column: str) -> DataFrame:
    """(id, vector) with each vector of length 1; a zero vector says nothing and is left out."""

    def run(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for piece in pieces:
            matrix = np.stack(list(piece.vector)).astype(np.float32) if len(piece) else np.zeros((0, 1), np.float32)
            length = np.linalg.norm(matrix, axis=1)
            kept = length > 0
            yield piece[kept][[id_column]].assign(vector=list(matrix[kept] / length[kept, None]))

    id_type = vectors.schema[id_column].dataType.simpleString()
    return vectors.select(id_column, "vector").mapInPandas(run, f"{id_column} {id_type}, vector array<float>")
