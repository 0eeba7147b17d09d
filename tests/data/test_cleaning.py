"""Each row is kept or has one reason; nothing depends on the partitioning."""

import datetime
import json
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from recspark.data.cleaning import (
    judge_interactions,
    judge_items,
    judge_users,
    kept,
    latest_moment,
    rejected,
    tally,
)
from recspark.data.raw import InteractionColumns, RawInteractions
from recspark.errors import UserError

COLUMNS = InteractionColumns(timestamp="timestamp", rating="stars", weight="weight")
TABLE = RawInteractions(path="unread", columns=COLUMNS)
SCHEMA = "user_id string, item_id string, timestamp string, rating string, weight string"
LATEST = datetime.datetime(2001, 9, 10, tzinfo=datetime.UTC)
GOOD = {"user_id": "u", "item_id": "i", "timestamp": "1000000000", "rating": "3", "weight": "2"}


def judged(spark: SparkSession, rows: list[dict[str, Any]], table: RawInteractions = TABLE) -> DataFrame:
    known = spark.createDataFrame([("i",)], "item_id string")
    schema = SCHEMA if table is TABLE else "user_id string, item_id string"
    raw = spark.createDataFrame([tuple(r.values()) for r in rows], schema)
    return judge_interactions(raw, known, table, LATEST, seed=42)


def test_a_good_row_becomes_typed(spark: SparkSession) -> None:
    (row,) = kept(judged(spark, [GOOD])).collect()
    assert (row.user_id, row.item_id, row.order_key, row.rating, row.weight) == ("u", "i", 10**15, 3.0, 2.0)
    assert row.event_time.astimezone(datetime.UTC) == datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.UTC)


def test_every_fault_has_its_reason(spark: SparkSession) -> None:
    faults: list[tuple[str, dict[str, Any]]] = [
        ("null_user_id", {"user_id": None}),
        ("null_user_id", {"user_id": " "}),
        ("null_item_id", {"item_id": ""}),
        ("null_time", {"timestamp": None}),
        ("unparsable_time", {"timestamp": "yesterday"}),
        ("negative_time", {"timestamp": "-1"}),
        ("future_time", {"timestamp": "2001-09-10"}),
        ("unparsable_rating", {"rating": "good"}),
        ("not_finite_rating", {"rating": "NaN"}),
        ("not_finite_rating", {"rating": "-Infinity"}),
        ("unparsable_weight", {"weight": "heavy"}),
        ("not_finite_weight", {"weight": "inf"}),
        ("negative_weight", {"weight": "-1"}),
        ("huge_weight", {"weight": "1e13"}),
        ("unknown_item", {"item_id": "j"}),
    ]
    rows = [{**GOOD, **fault} for _, fault in faults]
    found = rejected(judged(spark, rows), "interactions").collect()
    as_raw = [{("stars" if k == "rating" else k): v for k, v in row.items()} for row in rows]
    expected = [(reason, row) for (reason, _), row in zip(faults, as_raw, strict=True)]
    assert sorted(((r.reason, json.loads(r.row)) for r in found), key=str) == sorted(expected, key=str)


def test_absent_rating_and_weight_are_no_fault(spark: SparkSession) -> None:
    rows = [{**GOOD, "rating": "", "weight": None}, {**GOOD, "timestamp": "2001-09-09T23:59:59"}]
    found = kept(judged(spark, rows)).orderBy("order_key").collect()
    assert [(r.rating, r.weight) for r in found] == [(None, 1.0), (3.0, 2.0)]


def test_without_an_order_the_key_is_a_hash_of_the_ids(spark: SparkSession) -> None:
    rows = [{"user_id": u, "item_id": "i"} for u in ("a", "b", "a")]
    keys = {r.user_id: r.order_key for r in kept(judged(spark, rows, RawInteractions(path="x"))).collect()}
    assert keys["a"] != keys["b"]
    assert len(keys) == 2


@pytest.mark.parametrize("run_date", [datetime.date(2026, 11, 24), datetime.date(2020, 1, 1)])
def test_the_far_future_begins_after_tomorrow_also_for_a_backfill(run_date: datetime.date) -> None:
    today = datetime.date(2026, 11, 24)
    assert latest_moment(run_date, today) == datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)


def items(spark: SparkSession, rows: list[tuple[Any, str]], partitions: int) -> DataFrame:
    frame = spark.createDataFrame(
        [(i, text, json.dumps([i, text])) for i, text in rows], "item_id string, text string, row string"
    )
    return judge_items(frame.repartition(partitions, "text"))


def test_of_duplicate_items_the_same_one_is_kept_whatever_the_partitioning(spark: SparkSession) -> None:
    rows = [("a", f"text {n}") for n in range(20)] + [("b", "alone")]
    chosen = [
        {(r.item_id, r.text) for r in kept(items(spark, given, n)).collect()}
        for n, given in ((1, rows), (5, rows[::-1]))
    ]
    assert chosen[0] == chosen[1]
    assert sorted(i for i, _ in chosen[0]) == ["a", "b"]


def test_an_item_without_id_or_text_is_no_rival_of_its_namesake(spark: SparkSession) -> None:
    judgement = items(spark, [("a", ""), ("a", "text"), (None, "x"), ("c", "twin"), ("c", "twin")], 2)
    reasons = sorted((r.reason, json.loads(r.row)[1]) for r in rejected(judgement, "items").collect())
    assert reasons == [("duplicate_item_id", "twin"), ("no_text", ""), ("null_item_id", "x")]
    assert sorted(r.item_id for r in kept(judgement).collect()) == ["a", "c"]


def test_users_are_judged_by_their_id(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(None, "1"), ("", "2"), ("a", "3"), ("a", "4"), ("b", "5")], "user_id string, row string"
    )
    judgement = judge_users(frame)
    assert tally(judgement, "users").rejects == {"null_user_id": 2, "duplicate_user_id": 1}
    assert sorted(r.user_id for r in kept(judgement).collect()) == ["a", "b"]


def test_an_empty_table_is_an_error(spark: SparkSession) -> None:
    with pytest.raises(UserError, match=r"preprocess\.users: the table is empty"):
        tally(judge_users(spark.createDataFrame([], "user_id string, row string")), "users")
