"""The sides of benchmarks/topk.py that run on Spark, with the same session, Parquet to Parquet: `topk_sides.py ours | als`.

A request: world, a folder of factors; interactions, a folder of (user_id, item_id, split); top_k; lists, the folder to write.
"""

import os
import shutil
import sys
from pathlib import Path

from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from serve import Keep, Work, serve

from recspark import session
from recspark.data.catalogue import write_catalogue
from recspark.session import SparkSettings, task_threads
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.lists import Ranking, blocks_for, recommend, seen_positions


def new_session() -> SparkSession:
    cores = len(os.sched_getaffinity(0))
    return session.build(SparkSettings(master=f"local[{cores}]", conf={"spark.ui.showConsoleProgress": "false"}))


def ours() -> tuple[Work, Keep | None]:
    """What the stage candidates does between the lake's tables: the catalogue laid out, what was seen placed, the lists written."""
    spark = new_session()

    def work(world: str, interactions: str, top_k: int, lists: str) -> None:
        scratch = Path(f"{lists}.scratch")
        shutil.rmtree(scratch, ignore_errors=True)
        users = vectors(spark, f"{world}/userFactors", "user_id")
        catalogue = write_catalogue(vectors(spark, f"{world}/itemFactors", "item_id"), scratch.as_uri())
        seen = seen_positions(spark.read.parquet(interactions), catalogue)
        settings = CandidatesConfig(top_k=top_k)
        ranking, blocks = Ranking("vector", "vector", top_k), blocks_for(users.count(), settings)
        found = recommend(users, seen, catalogue, ranking, blocks, settings, task_threads(spark))
        found.write.mode("overwrite").parquet(lists)

    return work, None


def vectors(spark: SparkSession, folder: str, id_column: str) -> DataFrame:
    """(user_id or item_id, vector) from factors as Spark's ALS keeps them."""
    return spark.read.parquet(folder).select(F.col("id").alias(id_column), F.col("features").alias("vector"))


def als() -> tuple[Work, Keep | None]:
    """Spark's own; it has no filter, so it reads no interactions."""
    new_session()  # which the model finds by itself

    def work(world: str, interactions: str, top_k: int, lists: str) -> None:
        ALSModel.load(world).recommendForAllUsers(top_k).write.mode("overwrite").parquet(lists)

    return work, None


if __name__ == "__main__":
    serve({"ours": ours, "als": als}[sys.argv[1]])
