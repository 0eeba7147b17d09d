import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recspark.data.blocks import Links
from recspark.data.examples import item_targets, lay_out, sample_positives, with_factor_weights, with_loss_weight
from recspark.models.factors import FactorSettings, row_penalty

ITEMS = 103


def laid_out(spark: SparkSession, shards: int, held_out: float = 0.2, partitions: int = 2) -> pd.DataFrame:
    items = spark.range(ITEMS).select(
        F.concat(F.lit("i"), "id").alias("item_id"),
        F.sequence(F.lit(1), F.lit(1) + F.col("id") % 7).alias("token_ids"),
    )
    return lay_out(items.repartition(partitions), held_out, 8, shards, seed=3).toPandas()


def test_no_item_is_left_out_or_doubled(spark: SparkSession):
    assert sorted(laid_out(spark, 2).item_id) == sorted(f"i{i}" for i in range(ITEMS))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_every_shard_has_a_share_of_every_step(spark: SparkSession, shards: int):
    frame = laid_out(spark, shards)
    for _, step in frame.groupby(["part", "batch"]):
        assert set(step.shard) == set(range(shards))
        assert step.shard.value_counts().max() - step.shard.value_counts().min() <= 1
        assert sorted(step.slot) == list(range(len(step)))
        assert set(step.batch_size) == {len(step)}
    sizes = frame[frame.part == "train"].groupby("batch").size()
    assert sizes.max() <= 8
    assert sizes.max() - sizes.min() <= 1


def test_steps_are_the_same_items_whatever_the_ranks_and_partitions(spark: SparkSession):
    def key(frame: pd.DataFrame) -> set:
        return set(map(tuple, frame[["item_id", "part", "batch", "slot"]].to_numpy()))

    assert key(laid_out(spark, 1)) == key(laid_out(spark, 3, partitions=7))


def test_a_step_holds_texts_of_like_length(spark: SparkSession):
    frame = laid_out(spark, 1, held_out=0.0)
    length = frame.item_id.str[1:].astype(int) % 7
    assert set(frame.part) == {"train"}
    assert length.groupby(frame.batch).agg(np.ptp).max() <= 1


def test_targets_are_the_sums_over_an_items_users(spark: SparkSession, tmp_path):
    draw = np.random.default_rng(0)
    users = pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in range(9)],
            "vector": draw.normal(size=(9, 3)).astype(np.float32).tolist(),
        }
    )
    pairs = pd.DataFrame(
        [(f"u{u}", i, float(1 + u)) for u in range(9) for i in range(2) if u % 2 >= i],
        columns=["user_id", "item_id", "weight"],
    )
    links = Links(spark.createDataFrame(pairs), spark.range(3).withColumnRenamed("id", "item_id"), 2, str(tmp_path))
    found = {r.item_id: r for r in item_targets(links, spark.createDataFrame(users), 3).collect()}
    assert set(found) == {0, 1}  # nobody met item 2
    vectors = np.stack(list(users.vector))
    for item, row in found.items():
        weight = pairs[pairs.item_id == item].set_index("user_id").weight.reindex(users.user_id).fillna(0).to_numpy()
        root = np.frombuffer(row.user_root, np.float32).reshape(-1, 3)
        assert row.positives == weight.sum()
        np.testing.assert_allclose(np.frombuffer(row.user_sum, np.float32), weight @ vectors, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(root.T @ root, (vectors * weight[:, None]).T @ vectors, rtol=1e-3, atol=1e-3)


def test_the_loss_weight_is_a_power_of_the_count_over_its_mean_over_the_mean_count(spark: SparkSession):
    counts = spark.createDataFrame([(1.0,), (4.0,)], "positives float")
    weights = {e: [r.weight for r in with_loss_weight(counts, e).collect()] for e in (-0.5, 0.0)}
    assert weights[-0.5] == pytest.approx([1 / 0.75 / 2.5, 0.5 / 0.75 / 2.5])
    assert weights[0.0] == pytest.approx([1 / 2.5, 1 / 2.5])


def test_penalty_and_weight_of_the_unobserved_are_the_factorizations_own(spark: SparkSession):
    settings = FactorSettings(unobserved_weight=0.5, regularization=0.2, frequency_exponent=0.5)
    rows = [("a", 3, 1.0), ("b", 12, 0.25), ("c", 0, 1.0)]
    factors = spark.createDataFrame(rows, "item_id string, interactions bigint, exposure float")
    targets = spark.createDataFrame([("a", 1.0), ("b", 9.0)], "item_id string, positives float")
    found = {r.item_id: r for r in with_factor_weights(targets, factors, 10, settings).collect()}
    expected = row_penalty(np.array([3, 12]), np.array([10, 2.5]), settings)
    assert {i: r.penalty for i, r in found.items()} == pytest.approx({"a": expected[0], "b": expected[1]})
    assert {i: r.unobserved for i, r in found.items()} == pytest.approx({"a": 0.5, "b": 0.125})


def test_a_sample_of_positives_keeps_the_items_whole_weight(spark: SparkSession):
    pairs = spark.range(100).select(
        F.concat(F.lit("u"), "id").alias("user_id"),
        (F.col("id") % 2).alias("item_id"),
        F.lit(2.0).alias("weight"),
    )
    sampled = sample_positives(pairs, 10, seed=1).toPandas()
    assert sampled.groupby("item_id").size().to_list() == [10, 10]
    assert sampled.groupby("item_id").weight.sum().to_list() == pytest.approx([100.0, 100.0])
    again = sample_positives(pairs.repartition(5), 10, seed=1).toPandas()
    assert set(again.user_id) == set(sampled.user_id)
