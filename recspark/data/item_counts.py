"""How many users any two items share: the Gram matrix of the interactions, for catalogues that fit in memory."""

import uuid

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from recspark.data.catalogue import Catalogue
from recspark.lake import local_folder

COUNTED = "item int, other int, users bigint"


def item_counts(pairs: DataFrame, catalogue: Catalogue, blocks: int, scratch: str) -> NDArray[np.float64]:
    """(M, M) by position: users who have both items; on the diagonal, who have the one. pairs: (user_id, item_id), each once.

    Blocks of users are multiplied on the executors; the driver holds the sum, 8 M² bytes.
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
    return read_counts(folder, size)


def read_counts(folder: str, size: int) -> NDArray[np.float64]:
    """The dense matrix, a batch of its entries at a time."""
    counts = np.zeros((size, size), order="F")
    for path in sorted(local_folder(folder).glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches():
            item, other, users = (batch.column(name).to_numpy() for name in ("item", "other", "users"))
            counts[item, other] = users
    return counts
