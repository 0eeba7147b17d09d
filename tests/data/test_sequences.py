"""Windows of a log worked out by hand."""

import json

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.data.sequences import windows

EVENTS = "user_id string, item_id bigint, order_key bigint"


def made(
    spark: SparkSession, tmp_path, learned: list, held_out: list, longest: int, users: int = 10, history: tuple = ()
) -> dict:
    """{part: {(user, number): (positions, wanted, weight)}}; history: events that nobody learns from."""
    items = spark.createDataFrame([(i, float(i)) for i in range(0, 100, 10)], "item_id bigint, number double")
    catalogue = write_catalogue(items, str(tmp_path))  # item 10 n has position n
    frames = (spark.createDataFrame(rows, EVENTS) for rows in (learned, [*learned, *history], held_out))
    found: dict = {"train": {}, "valid": {}}
    for row in windows(*frames, catalogue, longest, users, 42).collect():
        part, user, number = json.loads(row.window)
        assert part == row.part
        positions, wanted = (np.frombuffer(b, "<i4").tolist() for b in (row.positions, row.wanted))
        assert row.length == 4 * len(positions)
        found[row.part][user, int(number)] = positions, wanted, pytest.approx(row.weight)
    return found


def test_every_event_but_the_first_is_wanted_once(spark, tmp_path):
    log = [("a", 10 * n, 5 - n) for n in range(5)] + [("b", 70, 1), ("b", 80, 0), ("c", 90, 0)]
    found = made(spark, tmp_path, log, [], 2)
    assert found == {
        "train": {
            ("a", 0): ([4, 3, 2], [0, 1, 1], 1 / (5 / 3)),
            ("a", 1): ([2, 1, 0], [0, 1, 1], 1 / (5 / 3)),
            ("b", 0): ([8, 7], [0, 1], 1 / (5 / 3)),
        },
        "valid": {},
    }


def test_what_is_held_out_is_wanted_after_what_came_before_and_never_learned(spark, tmp_path):
    learned = [("a", 10 * n, n) for n in range(5)] + [("b", 0, 0), ("b", 10, 1)]
    found = made(spark, tmp_path, learned, [("a", 50, 9), ("a", 60, 2)], 3)
    assert {key: row[:2] for key, row in found["valid"].items()} in (
        {("a", 0): ([0, 1, 2, 6], [0, 0, 0, 1]), ("a", 1): ([6, 3, 4, 5], [0, 0, 0, 1])},
        {
            ("a", 0): ([0, 1, 6, 2], [0, 0, 1, 0]),
            ("a", 1): ([2, 3, 4, 5], [0, 0, 0, 1]),
        },  # of one moment, a hash says which is first
    )
    assert found["train"]["a", 0][:2] == ([0, 1, 2, 3], [0, 1, 1, 1])
    assert all(position < 5 for positions, *_ in found["train"].values() for position in positions)


def test_who_is_known_by_a_history_alone_is_judged_by_it_and_not_learned(spark, tmp_path):
    found = made(spark, tmp_path, [("a", 0, 0), ("a", 10, 1)], [("b", 30, 9)], 3, history=(("b", 20, 5),))
    assert {key: row[:2] for key, row in found["valid"].items()} == {("b", 0): ([2, 3], [0, 1])}
    assert set(found["train"]) == {("a", 0)}


def test_a_window_without_anything_wanted_is_left_out(spark, tmp_path):
    found = made(spark, tmp_path, [("a", 10 * n, n) for n in range(5)], [("a", 50, 9)], 2)
    assert {key: row[:2] for key, row in found["valid"].items()} == {("a", 2): ([4, 5], [0, 1])}


def test_as_many_users_as_are_asked_for_drawn_by_their_ids(spark, tmp_path):
    log = [(user, item, item) for user in "abcdefgh" for item in (0, 10)]
    first = made(spark, tmp_path / "1", log, [], 5, users=3)["train"]
    assert len(first) == 3
    assert made(spark, tmp_path / "2", log[::-1], [], 5, users=3)["train"] == first
