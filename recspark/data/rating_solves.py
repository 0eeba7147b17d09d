"""The solves of `models.ratings`, run over the blocks of a sparse matrix of ratings by Spark."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recspark.data.blocks import FACTORS, Links, Side, from_blocks, keep, map_blocks, map_rows, sum_matrices, unpack
from recspark.data.features import beside
from recspark.data.priors import RidgePrior
from recspark.data.solves import row_counts_of
from recspark.models.factors import Rows, keyed_normal
from recspark.models.ratings import RatingSettings, Scale, confidence, solve_ratings, stretched

SOLVED = "block int, matrix binary, crossed binary"
START_VARIANCE = 0.1  # over k, of an item's factors before the first solve


@dataclass(frozen=True)
class Fit:
    """Both sides' blocks of [p, b] after the last iteration, and the maps that their priors came from (None without)."""

    users: DataFrame
    items: DataFrame
    user_map: NDArray[np.float64] | None
    item_map: NDArray[np.float64] | None


def last_ratings(interactions: DataFrame) -> DataFrame:
    """(user_id, item_id, split, rating): of each pair the newest event of a split that has a rating."""
    newest = Window.partitionBy("user_id", "item_id", "split").orderBy(F.desc("order_key"), F.desc("rating"))
    rated = interactions.where("rating IS NOT NULL").withColumn("place", F.row_number().over(newest))
    return rated.where("place = 1").select("user_id", "item_id", "split", "rating")


def fit_ratings(
    links: Links,
    offset: float,
    settings: RatingSettings,
    iterations: int,
    user_prior: RidgePrior | None,
    item_prior: RidgePrior | None,
    seed: int,
    scratch: str,
) -> Fit:
    """The solves of users and items by turns, each pulled to a ridge map of its features from the second iteration on.

    links: weights are the ratings as shares of the scale. The maps are fitted to the vectors of the iteration before.
    """
    users, items = None, keep(random_start(links.items, seed, settings.embedding_size), f"{scratch}/items-0")
    user_map = item_map = None
    for iteration in range(1, iterations + 1):
        solved = solve_side(links.users, items, offset, settings, Pull(user_prior, user_map), users)
        users = keep(solved, f"{scratch}/users-{iteration}")
        solved = solve_side(links.items, users, offset, settings, Pull(item_prior, item_map), items)
        items = keep(solved, f"{scratch}/items-{iteration}")
        user_map, item_map = next_map(user_prior, users), next_map(item_prior, items)
    assert users is not None  # there is at least one iteration
    return Fit(users, items, user_map, item_map)


@dataclass(frozen=True)
class Pull:
    """What a side's rows are pulled to: the map's prior, nothing without a map; no prior: zero."""

    prior: RidgePrior | None = None
    feature_map: NDArray[np.float64] | None = None


def rating_prior(blocks: DataFrame, side: Side, size: int, ridge: float, scratch: str) -> RidgePrior:
    """The prior from blocks of `size` features: a row weighs n / (n + 5) in its fit."""
    return RidgePrior.of(blocks, side, size, lambda counts, _: confidence(counts), ridge, scratch)


def next_map(prior: RidgePrior | None, solved: DataFrame) -> NDArray[np.float64] | None:
    """The map that best gives the rows that `solve_side` made."""
    return prior.solve(sum_matrices(solved, "crossed", prior.block_count)) if prior else None


def solve_side(
    side: Side,
    others: DataFrame,
    offset: float,
    settings: RatingSettings,
    pull: Pull = Pull(),
    current: DataFrame | None = None,
) -> DataFrame:
    """One half-step: blocks of a side's [p, b] from the other side's, (block, matrix, crossed).

    crossed: what the block adds to EᵀΛV, from which the prior's next map comes. current: where the sigmoid's step begins.
    """
    size, hidden = settings.embedding_size + 1, pull.prior.size if pull.prior else 0
    if settings.link == "identity":
        current = None
    extra = pull.prior.features if pull.prior else current
    if pull.prior and current is not None:
        extra = beside(pull.prior.features, hidden, current, size)
    feature_map, width = pull.feature_map, hidden + (size if current is not None else 0)

    def solve(block: int, rows: Rows, matrix: bytes | None) -> pd.DataFrame:
        given = np.zeros((len(rows), 0), np.float32) if matrix is None else unpack(matrix, width)
        features, here = given[:, :hidden], given[:, hidden:]
        known = None if feature_map is None else (features @ feature_map).astype(np.float32)
        solved = solve_ratings(rows, offset, settings, known, here if here.shape[1] else None)
        weighted = features * confidence(rows.counts)[:, None]
        crossed = weighted.T @ solved.astype(np.float64)
        return pd.DataFrame({"block": [block], "matrix": [solved.tobytes()], "crossed": [crossed.tobytes()]})

    return map_rows(side, others, solve, SOLVED, size, extra)


def random_start(side: Side, seed: int, k: int) -> DataFrame:
    """Blocks of [normal numbers keyed by id, 0]."""

    def draw(ids: pd.DataFrame) -> pd.DataFrame:
        factors = keyed_normal(ids.sort_values("local")["hash"].to_numpy(), k, START_VARIANCE / max(k, 1))
        matrix = np.hstack([factors, np.zeros((len(ids), 1), np.float32)])
        return pd.DataFrame({"block": ids.block[:1], "matrix": [matrix.tobytes()]})

    hashed = side.index.select("block", "local", F.xxhash64(F.lit(seed), F.col("id").cast("string")).alias("hash"))
    return hashed.groupBy("block").applyInPandas(draw, FACTORS)


def factor_rows(
    side: Side,
    blocks: DataFrame,
    prior: RidgePrior | None,
    feature_map: NDArray[np.float64] | None,
    settings: RatingSettings,
    scale: Scale,
    id_column: str,
) -> DataFrame:
    """(id, ratings, bias, vector, prior_bias, prior) of every row of a side; without ratings a row is its prior.

    As `stretched` says: the inner product of two rows, with the biases and the offset, is a rating or its log-odds.
    """
    size = settings.embedding_size + 1

    def stretch(frame: DataFrame) -> DataFrame:
        return map_blocks(frame, lambda row: stretched(unpack(row.matrix, size), settings.link, scale).tobytes())

    if prior is not None and feature_map is not None:
        known = prior.blocks(feature_map)
    else:
        known = map_blocks(blocks, lambda row: bytes(len(row.matrix)))
    rows = from_blocks(stretch(blocks), side.index, id_column, size).withColumnRenamed("vector", "found")
    rows = rows.join(
        from_blocks(stretch(known), side.index, id_column, size).withColumnRenamed("vector", "told"), id_column
    )
    rows = rows.join(
        row_counts_of(side).withColumnRenamed("id", id_column).withColumnRenamed("interactions", "ratings"), id_column
    )
    # Without ratings the last solve used the map before this one.
    rows = rows.withColumn("found", F.when(F.col("ratings") > 0, F.col("found")).otherwise(F.col("told")))
    return rows.select(
        id_column, "ratings", *split("found", size, "bias", "vector"), *split("told", size, "prior_bias", "prior")
    )


def split(column: str, size: int, bias: str, vector: str) -> list[Column]:
    """[p, b] as two columns."""
    return [
        F.get(column, F.lit(size - 1)).cast("double").alias(bias),
        F.slice(column, 1, size - 1).alias(vector),
    ]


def predicted(
    pairs: DataFrame, users: DataFrame, items: DataFrame, offset: float, settings: RatingSettings, scale: Scale
) -> DataFrame:
    """`pairs` with a column prediction, from the rows of `factor_rows`; a user or item that has none counts as 0.

    The identity's is clipped to the scale. offset: as the stretched rows want it.
    """
    one = users.select("user_id", F.col("bias").alias("_b_u"), F.col("vector").alias("_p"))
    other = items.select("item_id", F.col("bias").alias("_b_i"), F.col("vector").alias("_q"))
    joined = pairs.join(one, "user_id", "left").join(other, "item_id", "left")
    products = F.zip_with("_p", "_q", lambda p, q: p.cast("double") * q.cast("double"))
    inner = F.aggregate(products, F.lit(0.0), lambda total, product: total + product)
    x = F.lit(offset) + F.coalesce("_b_u", F.lit(0.0)) + F.coalesce("_b_i", F.lit(0.0)) + F.coalesce(inner, F.lit(0.0))
    if settings.link == "identity":
        rating = F.least(F.greatest(x, F.lit(scale.low)), F.lit(scale.high))
    else:
        rating = F.lit(scale.low) + F.lit(scale.width) / (F.lit(1.0) + F.exp(-x))
    return joined.withColumn("prediction", rating).drop("_b_u", "_p", "_b_i", "_q")
