"""Predicted ratings of the test split set beside the true ones, on Spark; only sums come back to the driver.

Used by evaluate. A slice takes the ratings of warm items (rated in train) or of cold ones.
"""

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.evaluation.rating_errors import error_sums, rating_rows
from recspark.stages.judge import SUMS, SUMS_ARROW, add_sums
from recspark.stages.lists import block_of

MODELS = {"ratings": "prediction", "rating_biases": "by_biases", "rating_mean": "by_mean"}
SLICES = ("all", "warm", "cold")


def judge_ratings(predicted: DataFrame, items: DataFrame, seed: int, replicates: int, blocks: int) -> list[tuple]:
    """Rows of the metrics table, with k 0; none for a slice without a rating.

    predicted: of PREDICTED_RATINGS; items: (item_id, ratings), how often train has rated each.
    """
    errors = {model: F.col(column) - F.col("rating") for model, column in MODELS.items()}
    known = items.select("item_id", F.when(F.col("ratings") > 0, "warm").otherwise("cold").alias("slice"))
    test = predicted.where("split = 'test'").join(known, "item_id", "left").na.fill("cold", ["slice"])
    table = test.select(
        "user_id",
        "slice",
        F.xxhash64(F.lit(seed), "user_id").alias("hash"),
        *(error.alias(model) for model, error in errors.items()),
    )
    unit, users = largest_and_users(table)

    def sum_block(rows: pa.Table) -> pa.Table:
        return sums_of(rows, unit, replicates)

    parts = table.select("*", block_of("user_id", blocks)).groupBy("block").applyInArrow(sum_block, SUMS)
    found = parts.mapInArrow(add_sums, SUMS).repartition(1).mapInArrow(add_sums, SUMS).collect()
    metrics = []
    for row in sorted(found, key=lambda row: row["trial"]):
        name = SLICES[row["trial"]]
        sums = np.frombuffer(row["sums"], np.int64).reshape(replicates + 1, -1)
        if users[name]:
            for model, metric, *numbers in rating_rows(sums, unit, list(MODELS)):
                metrics.append((model, name, metric, 0, *numbers, users[name]))
    return metrics


def largest_and_users(table: DataFrame) -> tuple[float, dict[str, int]]:
    """The largest error of any model, and how many users each slice has."""
    largest = F.max(F.greatest(*(F.abs(model) for model in MODELS)))
    counted = [F.count_distinct(F.when(F.col("slice") == name, F.col("user_id"))).alias(name) for name in SLICES[1:]]
    row = table.agg(largest.alias("largest"), F.count_distinct("user_id").alias("all"), *counted).first()
    assert row is not None  # an aggregate without groups has one row
    return row["largest"] or 0.0, {name: row[name] for name in SLICES}


def sums_of(rows: pa.Table, unit: float, replicates: int) -> pa.Table:
    """A row a slice, as `judge.SUMS` has it, with nothing shown."""
    hashes, slices = rows["hash"].to_numpy(), rows["slice"].to_numpy()
    errors = np.stack([rows[model].to_numpy() for model in MODELS], axis=1)
    made = []
    for index, name in enumerate(SLICES):
        mine = np.ones(len(slices), bool) if name == "all" else slices == name
        made.append((index, error_sums(hashes[mine], errors[mine], unit, replicates).tobytes(), b""))
    return pa.table([pa.array(column) for column in zip(*made, strict=True)], schema=SUMS_ARROW)
