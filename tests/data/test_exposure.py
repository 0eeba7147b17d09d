from datetime import datetime

import pytest
from pyspark.sql import SparkSession

from recspark.data.exposure import exposure

SCHEMA = "user_id string, item_id string, event_time timestamp, split string"


def on(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, day, hour)


def shares(spark: SparkSession, rows: list[tuple]) -> dict[str, float]:
    return {r.item_id: r.exposure for r in exposure(spark.createDataFrame(rows, SCHEMA), ("train",)).collect()}


def test_an_item_is_exposed_to_those_still_there_on_its_first_day(spark: SparkSession):
    rows = [
        ("early", "old", on(1), "train"),
        ("late", "old", on(2), "train"),
        ("late", "new", on(5), "train"),
        ("later", "new", on(7), "train"),
        ("day", "old", on(5, hour=1), "train"),  # gone some hours before the first event of `new`: the day decides
        ("later", "last", on(9), "train"),
        ("early", "unseen", on(9), "test"),  # neither an item to learn from nor a sign that `early` came back
    ]
    assert shares(spark, rows) == pytest.approx({"old": 1.0, "new": 0.75, "last": 0.25})


def test_without_times_everybody_is_exposed(spark: SparkSession):
    assert shares(spark, [("u", "a", None, "train"), ("v", "b", None, "train")]) == {"a": 1.0, "b": 1.0}
