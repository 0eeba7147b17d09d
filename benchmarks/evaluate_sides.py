"""The sides of benchmarks/evaluate.py: `evaluate_sides.py ours | recommenders | replay | ranx`; the two in the middle with .venv-peers.

A request: world, a folder of lists, truth and items; ks; found, the file for the values, by metric@k in our names.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from pyspark.sql import functions as F
from serve import Keep, Work, serve
from topk_sides import new_session

Values = dict[str, float]


def write(values: Values, found: str, **_: Any) -> None:
    Path(found).write_text(json.dumps(values))


def ours() -> tuple[Work, Keep | None]:
    """What the stage evaluate does with the lists and the truth of one model, all metrics and their intervals, without texts' vectors."""
    from recspark.data.blocks import keep
    from recspark.data.catalogue import write_catalogue
    from recspark.stages.evaluate import EvaluateConfig
    from recspark.stages.judge import Evaluation, Trial, judge_lists
    from recspark.stages.lists import blocks_for

    spark = new_session()

    def work(world: str, ks: list[int], found: str) -> Values:
        read = {name: spark.read.parquet(f"{world}/{name}") for name in ("lists", "truth", "items")}
        had = read["truth"].groupBy("item_id").agg(F.count("*").alias("having"))
        columns = read["items"].join(had, "item_id", "left").na.fill(0)
        columns = columns.withColumns({"events": F.col("having"), "warm": F.lit(True), "cold": F.lit(False)})
        catalogue = write_catalogue(
            columns.withColumn("text_after", F.array(F.lit(1.0).cast("float"))), f"{found}.scratch"
        )
        lists = (
            read["lists"]
            .join(catalogue.positions(spark), "item_id")
            .select(F.lit(0).alias("trial"), "user_id", "rank", "position")
        )
        placed = (
            read["truth"]
            .join(catalogue.positions(spark), "item_id")
            .select(
                "user_id",
                F.xxhash64("user_id").alias("hash"),
                F.lit(1).alias("history"),
                F.lit(0.0).alias("taste"),
                "position",
            )
        )
        truth = keep(placed, f"{found}.scratch/truth")
        settings = EvaluateConfig(ks=tuple(ks))
        users = truth.select("user_id").distinct().count()
        evaluation = Evaluation((Trial("full", "all"),), catalogue, settings.ks, settings.replicates, users)
        verdict = judge_lists(lists, truth, evaluation, blocks_for(users, settings))[0]
        assert verdict is not None  # somebody has something relevant
        names = [f"{metric}@{k}" for metric, k in evaluation.columns("all")]
        return dict(zip(names, map(float, verdict.estimate.value), strict=True))

    return work, write


def recommenders() -> tuple[Work, Keep | None]:
    """An evaluation a cut-off, as its documentation shows."""
    from recommenders.evaluation.spark_evaluation import SparkRankingEvaluation

    spark = new_session()
    columns = {"col_user": "user_id", "col_item": "item_id", "col_rating": "rating", "col_prediction": "score"}

    def work(world: str, ks: list[int], found: str) -> Values:
        truth = spark.read.parquet(f"{world}/truth").withColumn("rating", F.lit(1.0))
        lists, values = spark.read.parquet(f"{world}/lists"), {}
        for k in ks:
            judged = SparkRankingEvaluation(truth, lists, k=k, relevancy_method="top_k", **columns)
            values[f"precision@{k}"] = judged.precision_at_k()
            values[f"recall@{k}"] = judged.recall_at_k()
            values[f"ndcg@{k}"] = judged.ndcg_at_k()
            values[f"map_min@{k}"] = judged.map_at_k()
        return values

    return work, write


def replay() -> tuple[Work, Keep | None]:
    """All metrics in one call, as its documentation advises."""
    from replay.metrics import MAP, MRR, NDCG, HitRate, OfflineMetrics, Precision, Recall

    spark = new_session()
    names = {
        "Recall": "recall",
        "Precision": "precision",
        "NDCG": "ndcg",
        "MRR": "mrr",
        "HitRate": "hit_rate",
        "MAP": "replay_map",
    }

    def work(world: str, ks: list[int], found: str) -> Values:
        lists, truth = (spark.read.parquet(f"{world}/{name}") for name in ("lists", "truth"))
        metrics = [kind(ks) for kind in (Recall, Precision, NDCG, MAP, MRR, HitRate)]
        told = OfflineMetrics(metrics, query_column="user_id", rating_column="score")(lists, truth)
        split = {key: key.rpartition("@") for key in told}
        return {f"{names[name]}@{k}": float(told[key]) for key, (name, _, k) in split.items()}

    return work, write


def ranx() -> tuple[Work, Keep | None]:
    from ranx import Qrels, Run, evaluate

    names = {
        "recall": "recall",
        "precision": "precision",
        "ndcg": "ndcg",
        "mrr": "mrr",
        "hit_rate": "hit_rate",
        "map": "map",
    }

    def work(world: str, ks: list[int], found: str) -> Values:
        lists, truth = (ds.dataset(f"{world}/{name}").to_table().to_pandas() for name in ("lists", "truth"))
        for frame in (lists, truth):
            for column in ("user_id", "item_id"):
                frame[column] = frame[column].astype(str)
        qrels = Qrels.from_df(truth.assign(score=1), q_id_col="user_id", doc_id_col="item_id", score_col="score")
        run = Run.from_df(lists, q_id_col="user_id", doc_id_col="item_id", score_col="score")
        wanted = [f"{name}@{k}" for name in names for k in ks]
        told = evaluate(qrels, run, wanted, make_comparable=True)
        return {f"{names[key.partition('@')[0]]}@{key.partition('@')[2]}": float(value) for key, value in told.items()}

    return work, write


if __name__ == "__main__":
    serve({"ours": ours, "recommenders": recommenders, "replay": replay, "ranx": ranx}[sys.argv[1]])
