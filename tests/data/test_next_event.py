from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.data.next_event import first_after, hold_out_last, item_histories, newest_histories, newest_items


def events(spark: SparkSession, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, "user_id string, item_id string, order_key bigint, split string")


def told(frame: DataFrame) -> set[tuple]:
    return {tuple(row) for row in frame.collect()}


def test_of_three_train_events_the_last_is_the_target_and_an_only_one_stays(spark: SparkSession) -> None:
    rows = [("u", "c", 3, "train"), ("u", "a", 1, "train"), ("u", "b", 2, "train"), ("u", "d", 4, "test")]
    before, targets = hold_out_last(events(spark, [*rows, ("v", "a", 1, "train")]), 42)
    assert told(before.select("user_id", "item_id")) == {("u", "a"), ("u", "b"), ("v", "a")}
    assert told(targets) == {("u", "c")}


def test_a_last_event_with_an_item_that_was_there_before_is_neither(spark: SparkSession) -> None:
    before, targets = hold_out_last(
        events(spark, [("u", "a", 1, "train"), ("u", "b", 2, "train"), ("u", "a", 3, "train")]), 42
    )
    assert before.count() == 2
    assert targets.count() == 0


def test_the_first_new_valid_event_of_a_user_who_has_trained(spark: SparkSession) -> None:
    rows = [("u", "a", 1, "train"), ("u", "a", 2, "valid"), ("u", "c", 4, "valid"), ("u", "b", 3, "valid")]
    assert told(first_after(events(spark, [*rows, ("new", "a", 1, "valid")]), 42)) == {("u", "b")}


def test_a_history_is_the_newest_two_first(spark: SparkSession, tmp_path: Path) -> None:
    catalogue = write_catalogue(spark.createDataFrame([(i, 1) for i in "abc"], "item_id string, n int"), str(tmp_path))
    rows = events(
        spark, [("u", "c", 3, "train"), ("u", "a", 1, "train"), ("u", "b", 2, "train"), ("u", "gone", 0, "train")]
    )
    assert [list(r.history) for r in newest_histories(rows, catalogue, 2, 42).collect()] == [[2, 1]]


def test_the_newest_item_is_the_first_of_the_history_of_items(spark: SparkSession, tmp_path: Path) -> None:
    rows = [("u", "a", 1, "train"), ("u", "b", 2, "train"), ("u", "a", 3, "train")]
    log = events(spark, [*rows, ("v", "a", 5, "train"), ("v", "b", 5, "train")])
    catalogue = write_catalogue(spark.createDataFrame([(i, 1) for i in "ab"], "item_id string, n int"), str(tmp_path))
    histories = {r.user_id: list(r.history) for r in item_histories(log, catalogue, 42).collect()}
    assert histories["u"] == [0, 1]
    assert told(newest_items(log, 42)) == {(user, "ab"[history[0]]) for user, history in histories.items()}
