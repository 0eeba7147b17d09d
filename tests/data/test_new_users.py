"""Which events of whom are the first, and what is new after them."""

import pytest
from pyspark.sql import functions as F

from recspark.data.new_users import after_each, had_and_new, placed_events
from recspark.tables import INTERACTIONS, ITEM_VECTORS
from tests.vector_world import table_frame

# User 1 is known. User 2 has item 9 masked, and 5, 6, 5, 7 and 9 in the test, at the times 4, 1, 3, 2 and 5. User 3 has two test events.
EVENTS = [(1, 5, 0, "train"), (1, 6, 1, "test"), (1, 7, 2, "test"), (1, 9, 3, "test"), (2, 9, 0, "masked")]
EVENTS += [
    (2, 5, 4, "test"),
    (2, 6, 1, "test"),
    (2, 5, 3, "test"),
    (2, 7, 2, "test"),
    (2, 9, 5, "test"),
    (2, 8, 6, "test"),
]
EVENTS += [(3, 5, 1, "test"), (3, 6, 2, "test")]


@pytest.fixture(scope="module")
def interactions(spark):
    rows = [(user, item, order, None, None, 1.0, None, split) for user, item, order, split in EVENTS]
    return table_frame(spark, INTERACTIONS, rows).cache()


def items(spark, *ids):
    return table_frame(spark, ITEM_VECTORS, [(i, [1.0], [1.0], 1, 1.0, "text", "model") for i in ids])


def placed(spark, interactions, *ids, longer_than=2):
    rows = placed_events(interactions, items(spark, *ids), longer_than, 42).collect()
    return sorted((r.user_id, r.place, r.item_id) for r in rows)


def test_only_users_nobody_learned_from_with_more_events_than_that_are_placed_the_oldest_first(spark, interactions):
    everything = range(5, 10)
    assert placed(spark, interactions, *everything) == [(2, n, i) for n, i in enumerate((6, 7, 5, 5, 9, 8), 1)]
    assert placed(spark, interactions, *everything, longer_than=1)[6:] == [(3, 1, 5), (3, 2, 6)]
    assert placed(spark, interactions, *everything, longer_than=6) == []


def test_an_event_with_an_item_outside_the_catalogue_is_none(spark, interactions):
    assert placed(spark, interactions, 5, 6, 8) == [(2, n, i) for n, i in enumerate((6, 5, 5, 8), 1)]


def test_what_was_had_or_masked_is_not_new_later(spark, interactions):
    events = placed_events(interactions, items(spark, *range(5, 10)), 2, 42)
    had, new = (sorted(tuple(r) for r in frame.collect()) for frame in had_and_new(events, interactions, 3))
    assert had == [(2, 5), (2, 6), (2, 7), (2, 9)]
    assert new == [(2, 8)]  # the second event with 5 and the one with 9 bring nothing new


def test_an_event_that_weighs_nothing_was_had_and_counts_as_no_event(spark):
    """The times are 0 to 5; only 1, 3 and 4 weigh anything."""
    rows = [
        (2, item, time, None, None, float(time in (1, 3, 4)), None, "test")
        for time, item in enumerate((5, 6, 7, 8, 9, 10))
    ]
    events = placed_events(table_frame(spark, INTERACTIONS, rows), items(spark, *range(5, 11)), 2, 42)
    assert [(r.order, r.place) for r in events.orderBy("order").collect()] == [
        (1, 0),
        (2, 1),
        (3, 1),
        (4, 2),
        (5, 3),
        (6, 3),
    ]
    assert not placed_events(table_frame(spark, INTERACTIONS, rows), items(spark, *range(5, 11)), 3, 42).collect()
    had, new = (
        sorted(tuple(r) for r in frame.collect())
        for frame in had_and_new(events, events.limit(0).withColumn("split", F.lit("")), 1)
    )
    assert had == [(2, 5), (2, 6), (2, 7)]
    assert new == [(2, 8), (2, 9)]
    first = sorted((r.order_key, r.item_id) for r in after_each(events, (1,)).collect())
    assert first == [(1, 5), (2, 6), (3, 7)]


def test_each_user_stands_for_as_many_as_there_are_counts(spark, interactions):
    events = after_each(placed_events(interactions, items(spark, *range(5, 10)), 2, 42), (1, 3)).collect()
    found = sorted((r.user_id, r.order_key, r.item_id) for r in events)
    assert found == [("1 of 2", 1, 6), ("3 of 2", 1, 6), ("3 of 2", 2, 7), ("3 of 2", 3, 5)]
    assert {r.split for r in events} == {"history"}


def test_events_of_one_moment_are_placed_the_same_way_however_they_lie(spark, interactions):
    rows = [(4, i, 0, None, None, 1.0, None, "test") for i in range(5, 10)]
    orders = {tuple(placed(spark, table_frame(spark, INTERACTIONS, r), *range(5, 10))) for r in (rows, rows[::-1])}
    assert len(orders) == 1
    assert [place for _, place, _ in orders.pop()] == [1, 2, 3, 4, 5]
