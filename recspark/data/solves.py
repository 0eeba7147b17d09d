"""The closed-form solves of `models.row_solves`, run over the blocks of a sparse matrix by Spark."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.blocks import (
    Links,
    Side,
    from_blocks,
    gram_bytes,
    keep,
    map_blocks,
    map_rows,
    row_counts,
    sum_matrices,
    to_blocks,
    unpack,
)
from recspark.data.sums import exact_sum
from recspark.models.factors import FactorSettings, Rows, keyed_normal, row_penalty
from recspark.models.row_solves import solve_rows

SOLVED = "block int, matrix binary, gram binary"
LEARNED = ("train",)
FOLDED = ("train", "valid", "history")


def interaction_pairs(interactions: DataFrame, splits: Sequence[str]) -> DataFrame:
    """(user_id, item_id, weight): each pair of the splits once, its events' weights added up. A pair of weight 0 says nothing."""
    chosen = interactions.where(F.col("split").isin(*splits))
    return chosen.groupBy("user_id", "item_id").agg(exact_sum("weight").alias("weight")).where("weight > 0")


def solve_side(
    side: Side,
    factors: DataFrame,
    gram: NDArray[np.float64],
    others: float,
    settings: FactorSettings,
    prior: DataFrame | None = None,
) -> DataFrame:
    """One half-step: blocks of a side's vectors, (block, matrix, gram), from the other side's factor blocks.

    gram: Gram matrix of all the other side's vectors, each by its exposure; others: the sum of their exposures; prior: blocks
    of this side's priors. A row without interactions is its prior (zero without one), and stays out of the Gram matrix:
    nobody having met it yet is no evidence against it.
    """
    size = settings.embedding_size

    def solve(block: int, rows: Rows, extra: bytes | None) -> pd.DataFrame:
        counts = rows.counts
        known = None if extra is None else unpack(extra, size)
        penalty = row_penalty(counts, others * rows.exposure, settings)
        # These become their priors below; pulled by nothing, as where there are no others, they would have no solve.
        penalty[counts == 0] = 1.0
        solved = solve_rows(rows, gram, penalty, known, settings.unobserved_weight)
        solved[counts == 0] = 0.0 if known is None else known[counts == 0]
        return pd.DataFrame(
            {
                "block": [block],
                "matrix": [solved.tobytes()],
                "gram": [gram_bytes(solved[counts > 0], rows.exposure[counts > 0])],
            }
        )

    return map_rows(side, factors, solve, SOLVED, size, prior)


def gram_of(factors: DataFrame, size: int, blocks: int) -> NDArray[np.float64]:
    """(size, size) sum of a `gram` column over so many blocks: Σ s v vᵀ, s the exposure."""
    return sum_matrices(factors, "gram", blocks).reshape(size, size)


def gram_of_blocks(factors: DataFrame, size: int, blocks: int) -> NDArray[np.float64]:
    """(size, size) Gram matrix of all rows of so many factor blocks; zeros where there is none."""
    grams = map_blocks(factors, lambda row: gram_bytes(unpack(row.matrix, size)))
    total = sum_matrices(grams, "matrix", blocks)
    return total.reshape(size, size) if total.size else np.zeros((size, size))


def exposed(side: Side) -> float:
    """Rows of a side that have interactions, each by its exposure."""

    def total(row) -> bytes:  # type: ignore[no-untyped-def]
        exposure = np.frombuffer(row.exposure, np.float32).astype(np.float64)
        return exposure[row_counts(row.indptr) > 0].sum().tobytes()

    return float(sum_matrices(map_blocks(side.packed, total), "matrix", side.blocks)[0])


def row_counts_of(side: Side) -> DataFrame:
    """(id, interactions) of every row of a side."""
    id_type = side.index.schema["id"].dataType.simpleString()

    def count(ids: pd.DataFrame, packed: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {"id": ids.sort_values("local").id.to_numpy(), "interactions": row_counts(packed.indptr[0])}
        )

    return (
        side.index.groupBy("block")
        .cogroup(side.packed.groupBy("block"))
        .applyInPandas(count, f"id {id_type}, interactions bigint")
    )


def random_start(side: Side, seed: int, size: int) -> DataFrame:
    """Blocks (block, matrix, gram) of normal numbers of variance .01 / k, keyed by id; zero for rows without interactions."""

    def draw(ids: pd.DataFrame, packed: pd.DataFrame) -> pd.DataFrame:
        matrix = keyed_normal(ids.sort_values("local")["hash"].to_numpy(), size, 0.01 / size)
        matrix[row_counts(packed.indptr[0]) == 0] = 0.0
        gram = gram_bytes(matrix, np.frombuffer(packed.exposure[0], np.float32))
        return pd.DataFrame({"block": ids.block[:1], "matrix": [matrix.tobytes()], "gram": [gram]})

    hashed = side.index.select("block", "local", F.xxhash64(F.lit(seed), F.col("id").cast("string")).alias("hash"))
    return hashed.groupBy("block").cogroup(side.packed.groupBy("block")).applyInPandas(draw, SOLVED)


class Folding:
    """Users given vectors by one solve over each one's history, over the vectors of the same items again and again; no training.

    Where the pairs and items lie in blocks is found out once.
    """

    def __init__(self, pairs: DataFrame, items: DataFrame, settings: FactorSettings, blocks: int | None, scratch: str):
        """items: (item_id); pairs of others are left out."""
        self.links, self.settings, self.scratch = (
            Links(pairs, items.select("item_id"), blocks, scratch),
            settings,
            scratch,
        )

    def users(self, item_vectors: DataFrame) -> DataFrame:
        """(user_id, vector) given (item_id, vector, interactions, exposure) of all the items.

        As in the factorization, the Gram matrix runs over the items with training interactions, each by its exposure: that
        somebody has not met what nobody has met yet says nothing; where nobody has met any, what a user had is all there is.
        To be kept before the next are made.
        """
        links, size = self.links, self.settings.embedding_size
        item_blocks = keep(to_blocks(item_vectors, links.item_index, "item_id"), f"{self.scratch}/item_blocks")
        met = item_vectors.where("interactions > 0")
        root = F.transform("vector", lambda value: value * F.sqrt("exposure"))
        met_index = links.item_index.join(met.select(F.col("item_id").alias("id")), "id", "left_semi")
        gram = gram_of_blocks(to_blocks(met.withColumn("vector", root), met_index, "item_id"), size, links.blocks)
        others = met.agg(F.coalesce(exact_sum("exposure"), F.lit(0.0)).alias("others")).first()
        assert others is not None  # an aggregate without groups has one row
        solved = solve_side(links.users, item_blocks, gram, others["others"], self.settings)
        return from_blocks(solved.select("block", "matrix"), links.user_index, "user_id", size)


def fold_in(
    pairs: DataFrame, item_vectors: DataFrame, settings: FactorSettings, blocks: int | None, scratch: str
) -> DataFrame:
    """(user_id, vector) by one solve over each user's history: see `Folding`, for once."""
    return Folding(pairs, item_vectors, settings, blocks, scratch).users(item_vectors)
