"""How many users any two items share: the Gram matrix of the interactions, as pairs, or dense where the catalogue fits in memory."""

import uuid
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from recspark.data.catalogue import Catalogue
from recspark.lake import local_folder

COUNTED = "item int, other int, users bigint"
TILE = 4_000_000  # entries of a product that are in memory together


def item_counts(pairs: DataFrame, catalogue: Catalogue, scratch: str) -> NDArray[np.float64]:
    """(M, M) by position: users who have both items; on the diagonal, who have the one. pairs: (user_id, item_id), each once.

    The driver holds them, 8 M² bytes.
    """
    return dense_counts(write_counts(pairs, catalogue, scratch), catalogue.items)


def shared_pairs(pairs: DataFrame) -> int:
    """What `write_counts` has to add up: the sum over users of the square of how many items they had. pairs: (user_id, item_id), each once."""
    had = pairs.groupBy("user_id").agg(F.count(F.lit(1)).alias("items"))
    row = had.agg(F.sum(F.col("items") * F.col("items"))).first()
    return int((row and row[0]) or 0)


def write_counts(pairs: DataFrame, catalogue: Catalogue, scratch: str) -> str:
    """The folder of (item, other, users), by position, of all items that share a user, an item with itself among them.

    Blocks of users, as many as a shuffle has partitions, are multiplied on the executors, some items at a time: one holds its block's pairs, and of the product TILE entries.
    """
    size = catalogue.items

    def multiply(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if not (rows := [batch for batch in batches if batch.num_rows]):
            return
        block = pa.Table.from_batches(rows)
        users = pc.dictionary_encode(block["user_id"].combine_chunks()).indices.to_numpy()
        ones = np.ones(len(block), np.int64)
        have_UM = csr_matrix((ones, (users, block["position"].to_numpy())), (users.max() + 1, size))
        had_MU = have_UM.T.tocsr()
        work_M = had_MU @ have_UM.sum(axis=1).A1  # at least as many as a row of the product has entries
        for first, last in tiles(work_M, TILE):
            both = (had_MU[first:last] @ have_UM).tocoo()
            item, other = (both.row + first).astype(np.int32), both.col.astype(np.int32)
            yield pa.RecordBatch.from_arrays(
                [pa.array(c) for c in (item, other, both.data)], ["item", "other", "users"]
            )

    placed = pairs.join(catalogue.positions(pairs.sparkSession), "item_id")
    shared = placed.select("user_id", "position").repartition("user_id").mapInArrow(multiply, COUNTED)
    folder = f"{scratch}/item_counts-{uuid.uuid4().hex}"
    shared.groupBy("item", "other").agg(F.sum("users").alias("users")).write.parquet(folder)
    return folder


def tiles(work_M: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of rows whose work is at most so much together, or of one that has more."""
    start, total = 0, 0
    for row, work in enumerate(work_M):
        if total and total + work > most:
            yield start, row
            start, total = row, 0
        total += work
    if total:
        yield start, len(work_M)


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
