"""The sides of benchmarks/factorize.py: `factorize_sides.py ours | als | implicit`.

A request: log, a folder of (user_id, item_id, weight, split) of whole numbers; factors, iterations, regularization, alpha; factors_to,
the folder for users and items, (user_id or item_id, vector).
"""

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from harness import CORES
from implicit.als import AlternatingLeastSquares
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix
from serve import Keep, Work, serve
from topk_sides import new_session

from recspark.data import solves
from recspark.data.blocks import Links, blocks_for, from_blocks
from recspark.data.catalogue import vector_column
from recspark.data.exposure import shares_of
from recspark.stages.factorize import FactorizeConfig, iterate


def ours() -> tuple[Work, Keep | None]:
    """What the stage factorize does between the lake's tables, without texts: an event of weight 1 beside 1 for what was not met."""
    spark = new_session()

    def work(log: str, factors: int, iterations: int, regularization: float, alpha: float, factors_to: str) -> None:
        settings = FactorizeConfig(
            embedding_size=factors,
            iterations=iterations,
            unobserved_weight=1.0,
            regularization=regularization,
            frequency_exponent=0.0,
            exposure=False,
        )
        scratch = Path(f"{factors_to}.scratch")
        shutil.rmtree(scratch, ignore_errors=True)
        interactions = spark.read.parquet(log).withColumn("weight", F.col("weight") * alpha)
        pairs = solves.interaction_pairs(interactions, solves.LEARNED)
        shares = shares_of(interactions.select("item_id").distinct(), interactions, solves.LEARNED, False)
        links = Links(pairs, shares, settings.blocks, scratch.as_uri())
        users, items = iterate(links, None, settings, 42, scratch.as_uri())
        write(from_blocks(users, links.user_index, "user_id", factors), factors_to, "users")
        write(from_blocks(items, links.item_index, "item_id", factors), factors_to, "items")

    return work, None


def als() -> tuple[Work, Keep | None]:
    """Spark's own, with as many blocks as ours."""
    spark = new_session()

    def work(log: str, factors: int, iterations: int, regularization: float, alpha: float, factors_to: str) -> None:
        blocks = blocks_for(ds.dataset(log).count_rows(), 0)
        model = ALS(
            rank=factors,
            maxIter=iterations,
            regParam=regularization,
            alpha=alpha,
            seed=42,
            implicitPrefs=True,
            userCol="user_id",
            itemCol="item_id",
            ratingCol="weight",
            numUserBlocks=blocks,
            numItemBlocks=blocks,
        ).fit(spark.read.parquet(log))
        for name, found in (("users", model.userFactors), ("items", model.itemFactors)):
            write(
                found.select(F.col("id").alias(f"{name[:-1]}_id"), F.col("features").alias("vector")), factors_to, name
            )

    return work, None


def write(factors: DataFrame, folder: str, name: str) -> None:
    factors.write.mode("overwrite").parquet(f"{folder}/{name}")


def implicit() -> tuple[Work, Keep | None]:
    """From a matrix to arrays: the log is read at the first request for it, which is not measured. A pair's confidence is as in Spark's."""

    @cache
    def matrix(log: str, alpha: float) -> csr_matrix:
        table = ds.dataset(log).to_table()
        places = (table["user_id"].to_numpy(), table["item_id"].to_numpy())
        return csr_matrix((1 + alpha * table["weight"].to_numpy(), places))

    def work(
        log: str, factors: int, iterations: int, regularization: float, alpha: float, **_: Any
    ) -> AlternatingLeastSquares:
        model = AlternatingLeastSquares(
            factors=factors, iterations=iterations, regularization=regularization, num_threads=CORES, random_state=42
        )
        model.fit(matrix(log, alpha), show_progress=False)
        return model

    def save(model: AlternatingLeastSquares, factors_to: str, **_: Any) -> None:
        for name, vectors in (("users", model.user_factors), ("items", model.item_factors)):
            folder = Path(factors_to) / name
            folder.mkdir(parents=True, exist_ok=True)
            columns = {f"{name[:-1]}_id": np.arange(len(vectors), dtype=np.int32), "vector": vector_column(vectors)}
            pq.write_table(pa.table(columns), folder / "0.parquet")

    return work, save


if __name__ == "__main__":
    serve({"ours": ours, "als": als, "implicit": implicit}[sys.argv[1]])
