"""Baselines on worlds whose answer is plain to see."""

import datetime

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from pyspark.sql import functions as F

from recspark.errors import UserError
from recspark.evaluation.baselines import Als, Baseline, Popularity, numbered

EVENTS = "user_id bigint, item_id bigint, weight double, split string"


def vectors_by_id(frame) -> dict:
    column = frame.columns[0]
    return {row[column]: np.array(row["vector"]) for row in frame.collect()}


def test_popularity_counts_train_and_valid_events_and_knows_every_item(spark):
    rows = [
        (1, 7, 1.0, "train"),
        (2, 7, 5.0, "train"),
        (1, 8, 1.0, "valid"),
        (3, 8, 1.0, "test"),
        (3, 9, 1.0, "history"),
    ]
    items = spark.createDataFrame([(7,), (8,), (9,), (10,)], "item_id bigint")
    found = Popularity().vectors(spark.createDataFrame(rows, EVENTS), items, seed=1)
    assert {i: v.tolist() for i, v in vectors_by_id(found.items).items()} == {7: [2], 8: [1], 9: [0], 10: [0]}
    assert {u: v.tolist() for u, v in vectors_by_id(found.users).items()} == {1: [1], 2: [1], 3: [1]}


def test_an_event_a_half_life_old_counts_half_and_times_are_needed(spark):
    newest = datetime.datetime(2026, 1, 11, tzinfo=datetime.UTC)
    days = [(7, "train", 0), (7, "train", 20), (8, "valid", 10), (9, "test", -5)]
    rows = [(1, item, split, newest - datetime.timedelta(days=old)) for item, split, old in days]
    events = spark.createDataFrame(rows, "user_id bigint, item_id bigint, split string, event_time timestamp")
    items = events.select("item_id").distinct()
    found = Popularity(half_life_days=10).vectors(events, items, seed=1)
    assert {i: v.tolist() for i, v in vectors_by_id(found.items).items()} == {7: [1.25], 8: [0.5], 9: [0]}
    with pytest.raises(UserError, match="no event of train or valid has a time"):
        Popularity(half_life_days=10).vectors(events.withColumn("event_time", F.lit(None)), items, seed=1)


def test_als_prefers_a_users_own_half_of_a_checkerboard(spark):
    """Even users met even items, odd users odd items; each left out one of them, which must stand before all of the other kind."""
    rows = [(u, i, 1.0, "train") for u in range(12) for i in range(12) if u % 2 == i % 2 and i != u]
    rows += [(u, u, 1.0, "test") for u in range(12)] + [(50, 60, 1.0, "test")]
    frame = spark.createDataFrame(rows, EVENTS)
    found = Als(embedding_size=4, iterations=5).vectors(frame, frame.select("item_id").distinct(), seed=1)
    users, items = vectors_by_id(found.users), vectors_by_id(found.items)
    assert sorted(users) == sorted(items) == list(range(12))  # who or what is in test alone is not known
    for user in range(12):
        foreign = [users[user] @ items[i] for i in range(12) if i % 2 != user % 2]
        assert users[user] @ items[user] > max(foreign) + 0.3


def test_ids_of_any_kind_get_different_numbers_that_do_not_depend_on_the_order(spark):
    names = [("b",), ("a",), ("a",), ("😀",), ("10",)]
    first, second = (
        numbered(spark.createDataFrame(rows, "name string"), "number").collect() for rows in (names, names[::-1])
    )
    assert sorted(first) == sorted(second)
    assert len({row.number for row in first}) == len(first) == 4


def test_a_baseline_is_found_by_its_kind():
    adapter = TypeAdapter(Baseline)
    assert adapter.validate_python({"kind": "als", "embedding_size": 8}) == Als(embedding_size=8)
    with pytest.raises(ValidationError, match="'popularity', 'als', 'ease', 'item_knn', 'tfidf', 'bm25', 'frozen'"):
        adapter.validate_python({"kind": "svd"})
