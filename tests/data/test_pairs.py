import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recspark.data.pairs import dated_pairs, mined, numbered, rating_biases, targets_of

EVENTS = [("u", "b", 1, 5.0), ("u", "a", 2, 3.0), ("u", "b", 3, 4.0), ("v", "a", 1, 1.0), ("v", "zz", 2, 1.0)]


@pytest.fixture(scope="module")
def positions(spark: SparkSession) -> DataFrame:
    return numbered(spark.createDataFrame([("c",), ("a",), ("b",)], "item_id string")).cache()


@pytest.fixture(scope="module")
def pairs(spark: SparkSession, positions: DataFrame) -> DataFrame:
    columns = "user_id string, item_id string, order_key bigint, rating double, weight double"
    return dated_pairs(spark.createDataFrame([(*e, 1.0) for e in EVENTS], columns), positions).cache()


def test_positions_are_places_in_the_order_of_the_ids(positions: DataFrame):
    assert {row.item_id: row.position for row in positions.collect()} == {"a": 0, "b": 1, "c": 2}
    assert dict(positions.dtypes)["position"] == "int"


def test_a_pair_has_its_last_rating_and_all_its_weight(pairs: DataFrame):
    found = {(r.user_id, r.item_id): (r.position, r.order, r.rating, r.weight) for r in pairs.collect()}
    assert found == {("u", "a"): (0, 2, 3.0, 1.0), ("u", "b"): (1, 3, 4.0, 2.0), ("v", "a"): (0, 1, 1.0, 1.0)}


def test_biases_are_shrunken_means_of_what_is_left(pairs: DataFrame):
    users, items = rating_biases(pairs, shrinkage=1.0)
    # The mean of 3, 4 and 1 is 8/3; u is (1/3 + 4/3) / 3 above it, v (-5/3) / 2.
    of_user = {r.user_id: r.user_bias for r in users.collect()}
    assert of_user == pytest.approx({"u": 8 / 3 + 5 / 9, "v": 8 / 3 - 5 / 6})
    left = {0: [3 - of_user["u"], 1 - of_user["v"]], 1: [4 - of_user["u"]]}
    expected = {position: sum(values) / (len(values) + 1) for position, values in left.items()}
    assert {r.position: r.bias for r in items.collect()} == pytest.approx(expected)


def test_targets_of_a_user_are_drawn_by_the_ids(spark: SparkSession):
    rows = [(f"u{u}", f"i{i}", i) for u in range(3) for i in range(9)]
    frame = spark.createDataFrame(rows, "user_id string, item_id string, position int")
    one, other = (targets_of(f, 4, seed=1).toPandas() for f in (frame, frame.repartition(5)))
    assert one.groupby("user_id").size().to_list() == [4, 4, 4]
    assert set(one.example) == set(other.example)
    assert len({tuple(sorted(part.position)) for _, part in one.groupby("user_id")}) > 1
    assert '["u0","i' in one[one.user_id == "u0"].example.iloc[0]


def test_mined_are_the_items_of_the_ranks_that_the_user_has_not_met(
    spark: SparkSession, pairs: DataFrame, positions: DataFrame
):
    lists = [("u", 1, "c"), ("u", 2, "a"), ("u", 3, "c"), ("v", 2, "c"), ("v", 3, "b"), ("v", 4, "gone"), ("w", 4, "a")]
    candidates = spark.createDataFrame(lists, "user_id string, rank int, item_id string")
    found = {
        r.user_id: np.frombuffer(r.mined, "<i4").tolist() for r in mined(candidates, (2, 3), pairs, positions).collect()
    }
    assert found == {"u": [2], "v": [2, 1]}
