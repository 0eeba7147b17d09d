"""How many users any two items share: the Gram matrix of the interactions, as pairs, or dense where the catalogue fits in memory."""

import uuid

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from recspark.data.catalogue import Catalogue
from recspark.lake import local_folder

COUNTED = "item int, other int, users bigint"


def item_counts(pairs: DataFrame, catalogue: Catalogue, blocks: int, scratch: str) -> NDArray[np.float64]:
    """(M, M) by position: users who have both items; on the diagonal, who have the one. pairs: (user_id, item_id), each once.

    The driver holds them, 8 M² bytes.
    """
    return dense_counts(write_counts(pairs, catalogue, blocks, scratch), catalogue.items)


def write_counts(pairs: DataFrame, catalogue: Catalogue, blocks: int, scratch: str) -> str:
    """The folder of (item, other, users), by position, of all items that share a user, an item with itself among them.

    Blocks of users are multiplied on the executors.
    """
    size = catalogue.items

    def multiply(block: pd.DataFrame) -> pd.DataFrame:
        users, _ = pd.factorize(block.user_id)
        ones = np.ones(len(block), np.int64)
        have = csr_matrix((ones, (users, block.position.to_numpy())), (users.max() + 1, size))
        both = (have.T @ have).tocoo()
        return pd.DataFrame({"item": both.row, "other": both.col, "users": both.data})

    placed = pairs.join(catalogue.positions(pairs.sparkSession), "item_id")
    located = placed.select("user_id", "position", F.pmod(F.xxhash64("user_id"), F.lit(blocks)).alias("block"))
    shared = located.groupBy("block").applyInPandas(multiply, COUNTED)
    folder = f"{scratch}/item_counts-{uuid.uuid4().hex}"
    shared.groupBy("item", "other").agg(F.sum("users").alias("users")).write.parquet(folder)
    return folder


def dense_counts(folder: str, size: int) -> NDArray[np.float64]:
    """The dense matrix, a batch of its entries at a time."""
    counts = np.zeros((size, size), order="F")
    for path in sorted(local_folder(folder).glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches():
            item, other, users = (batch.column(name).to_numpy() for name in ("item", "other", "users"))
            counts[item, other] = users
    return counts


def nearest(counts: DataFrame, neighbours: int) -> DataFrame:
    """(item, other, weight float): the cosine of two items' sets of users, for the so many others nearest to each item.

    counts: (item, other, users) of `write_counts`. Of equally near ones the first by position are kept.
    """
    own = counts.where("item = other").select("item", F.col("users").alias("have"))
    both = counts.where("item <> other").join(own, "item")
    both = both.join(own.select(F.col("item").alias("other"), F.col("have").alias("others")), "other")
    cosine = (F.col("users") / F.sqrt(F.col("have") * F.col("others"))).cast("float")
    best = Window.partitionBy("item").orderBy(F.desc("weight"), "other")
    placed = both.select("item", "other", cosine.alias("weight")).withColumn("place", F.row_number().over(best))
    return placed.where(F.col("place") <= neighbours).drop("place")
