"""Duplicates and the k-core."""

import pytest
from pyspark.sql import SparkSession

from recspark.data.events import deduplicate, k_core
from recspark.errors import UserError
from tests.spark_memory import kept

SCHEMA = "user_id string, item_id string, order_key bigint, rating double"
IN_SPLIT = f"{SCHEMA}, split string, weight double"


def test_last_keeps_the_latest_of_each_pair_in_each_split_and_all_keeps_all(spark: SparkSession) -> None:
    rows = [("u", "i", 1, 1.0, "train", 1.0), ("u", "i", 3, 2.0, "train", 1.0), ("u", "i", 2, 3.0, "train", 1.0)]
    rows += [("u", "j", 1, 4.0, "train", 1.0), ("u", "i", 9, 5.0, "test", 1.0)]
    rows += [("v", "i", 1, 6.0, "train", 2.0), ("v", "i", 2, 0.0, "train", 0.0)]  # bought, then looked at
    rows += [("w", "i", 1, 0.0, "train", 0.0), ("w", "i", 2, 7.0, "train", 0.0)]
    events = spark.createDataFrame(rows, IN_SPLIT)
    assert sorted(r.rating for r in deduplicate(events, "last").collect()) == [2.0, 4.0, 5.0, 6.0, 7.0]
    assert deduplicate(events, "all").count() == len(rows)


def test_a_tie_is_broken_alike_in_any_order(spark: SparkSession) -> None:
    rows = [("u", "i", 1, float(n), "train", 1.0) for n in range(20)]
    kept = [
        deduplicate(spark.createDataFrame(given, IN_SPLIT).repartition(n, "rating"), "last").collect()
        for n, given in ((1, rows), (4, rows[::-1]))
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 1


def chain(length: int) -> list[tuple[str, str, int, float]]:
    """u0 meets i0, u1 meets i0 and i1, u2 meets i1 and i2, ...: each removal makes the next one."""
    return [(f"u{n}", f"i{m}", 1, 1.0) for n in range(length) for m in (n - 1, n) if m >= 0]


def test_k_core_goes_on_to_the_fixpoint(spark: SparkSession) -> None:
    square = [(u, i, 1, 1.0) for u in ("a", "b") for i in ("x", "y")]
    events = spark.createDataFrame(chain(4) + square, SCHEMA)
    # u0 has one event and goes, then i0 has one, then u1, ...: only the square is left, after several passes
    before = kept(spark)
    core = k_core(events, 2, 2)
    assert {(r.user_id, r.item_id) for r in core.collect()} == {(u, i) for u, i, _, _ in square}
    core.unpersist()
    assert kept(spark) <= before


def test_k_core_of_one_is_everything(spark: SparkSession) -> None:
    assert k_core(spark.createDataFrame(chain(3), SCHEMA), 1, 1).count() == 5


def test_k_core_that_leaves_nothing_is_an_error(spark: SparkSession) -> None:
    with pytest.raises(UserError, match="min_user_interactions 3 and min_item_interactions 1"):
        k_core(spark.createDataFrame(chain(3), SCHEMA), 3, 1)
