"""What of the test could have been known before, counted on data that a child can count."""

import datetime

import pytest

from recspark.evaluation.leaks import CHECKS
from recspark.stages.leakage import leakage_rows
from recspark.tables import INTERACTIONS, ITEM_VECTORS, ITEMS
from tests.vector_world import table_frame


def on(day: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, day, 12, tzinfo=datetime.UTC)


# The test begins on the 3rd: of the four train events with a time, two are later, on the 4th and the 5th.
EVENTS = [
    ("reader-1", 1, 1, "train"),
    ("reader-1", 2, 4, "train"),
    ("reader-2", 1, 5, "train"),
    ("short", 3, 2, "train"),
]
EVENTS += [
    ("reader-1", 2, 6, "test"),
    ("reader-1", 3, 3, "test"),
    ("reader-2", 4, 7, "test"),
    ("reader-2", 4, 8, "test"),
]
EVENTS += [("reader-3", 5, 9, "valid")]
# 1 to 3 are warm. 4 has the text of 1 and 2, 5 a text of its own.
TEXTS = {1: ("a", 2), 2: ("a", 1), 3: ("asked by reader-3, not reader-22 or short", 1), 4: ("a", 0), 5: ("b", 0)}


def rows_of(spark, events, texts=TEXTS) -> dict:
    interactions = [
        (user, item, n, day and on(day), None, 1.0, None, split) for n, (user, item, day, split) in enumerate(events)
    ]
    vectors = [(i, [1.0], [1.0], warm, 1.0, text, "model") for i, (text, warm) in texts.items()]
    items = [(i, "title", text, text, [1], {}) for i, (text, _) in texts.items()]
    frames = (
        table_frame(spark, table, rows, "string")
        for table, rows in ((INTERACTIONS, interactions), (ITEM_VECTORS, vectors), (ITEMS, items))
    )
    return {check: found for check, *found in leakage_rows(*frames, seed=42)}


@pytest.fixture(scope="module")
def found(spark) -> dict:
    return rows_of(spark, EVENTS)


def test_train_events_later_than_the_first_of_the_test_are_counted_of_those_with_a_time(found):
    said = "user reader-2 and item 1 on 2026-01-05 12:00:00 UTC; the test begins on 2026-01-03 12:00:00 UTC"
    assert found["train_after_test"] == [2, 2 / 4, said]


def test_a_pair_of_train_and_test_counts_once_of_the_tests_three(found):
    assert found["pairs_in_both"] == [1, 1 / 3, "user reader-1 and item 2"]


def test_of_two_cold_items_one_reads_as_a_warm_one(found):
    assert found["cold_with_a_warm_text"] == [1, 1 / 2, "item 4 reads as item 1"]


def test_one_text_of_five_names_a_user_and_an_id_of_five_characters_is_not_looked_for(found):
    assert found["texts_that_name_a_user"] == [1, 1 / 5, "item 3 names user reader-3"]
    assert set(found) == set(CHECKS)


def test_without_times_nothing_is_said_of_them_and_what_is_clean_has_no_example(spark):
    events = [("reader-1", 1, None, "train"), ("reader-1", 3, None, "test")]
    found = rows_of(spark, events, {1: ("a", 1), 3: ("b", 0)})
    assert found == {check: [0, 0.0, None] for check in CHECKS if check != "train_after_test"}


def test_where_there_is_nothing_to_look_at_there_is_no_share(spark):
    found = rows_of(spark, [("short", 1, 1, "train")], {1: ("a", 1)})
    assert found == {check: [0, None, None] for check in CHECKS if check != "train_after_test"}
