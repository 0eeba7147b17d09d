"""The training table of the fine-tuning: one row an item, laid out in steps and shards before any rank starts.

A step is `batch_size` items of like length. Its items are dealt out over the shards by slot, so the steps are the same
items whatever the number of ranks, every rank has a share of every step, and no item is left out or doubled.
"""

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recspark.data.blocks import Links, map_rows, to_blocks
from recspark.data.sums import EXACT, exact_mean
from recspark.models.factors import FactorSettings, Rows, row_penalty, square_root

TARGETS = "block int, local int, positives float, user_sum binary, user_root binary"


def sample_positives(pairs: DataFrame, most: int | None, seed: int) -> DataFrame:
    """At most `most` pairs an item, drawn by a hash of the ids, their weights scaled up to the item's whole."""
    if most is None:
        return pairs
    order = F.xxhash64(F.lit(seed), F.col("user_id").cast("string"), F.col("item_id").cast("string"))
    drawn = pairs.withColumn("drawn", F.row_number().over(Window.partitionBy("item_id").orderBy(order, "user_id")))
    item = Window.partitionBy("item_id")
    kept = drawn.withColumn("whole", F.sum(F.col("weight").cast(EXACT)).over(item)).where(F.col("drawn") <= most)
    share = F.sum(F.col("weight").cast(EXACT)).over(item)
    return kept.select("user_id", "item_id", (F.col("weight") * F.col("whole") / share).cast("double").alias("weight"))


def item_targets(links: Links, user_factors: DataFrame, size: int) -> DataFrame:
    """(item_id, positives, user_sum, user_root) of the items with interactions; see `models.objectives.ItemTargets`."""

    def summarise(block: int, rows: Rows, _: bytes | None) -> pd.DataFrame:
        met = np.flatnonzero(rows.counts)
        roots = square_root(rows)
        sums = []
        for row in met:
            vectors, weights = rows.vectors(row)
            sums.append((weights @ vectors).astype("<f4").tobytes())
        return pd.DataFrame(
            {
                "block": block,
                "local": met,
                "positives": [float(rows.vectors(r)[1].sum()) for r in met],
                "user_sum": sums,
                "user_root": [roots[r].astype("<f4").tobytes() for r in met],
            }
        )

    blocks = to_blocks(user_factors, links.user_index, "user_id")
    found = map_rows(links.items, blocks, summarise, TARGETS, size)
    return (
        found.join(links.item_index, ["block", "local"])
        .withColumnRenamed("id", "item_id")
        .drop("block", "local", "exposure")
    )


def with_factor_weights(targets: DataFrame, item_factors: DataFrame, users: int, settings: FactorSettings) -> DataFrame:
    """`penalty` and `unobserved`: λ and a s as factorize had them, of all the item's interactions, sampled or not."""

    @F.pandas_udf("float")  # type: ignore[call-overload]
    def penalty(interactions: pd.Series, exposure: pd.Series) -> pd.Series:
        return pd.Series(row_penalty(interactions.to_numpy(), users * exposure.to_numpy(), settings))

    weights = item_factors.select(
        "item_id",
        penalty("interactions", "exposure").alias("penalty"),
        (F.col("exposure") * settings.unobserved_weight).cast("float").alias("unobserved"),
    )
    return targets.join(weights, "item_id")


def with_loss_weight(targets: DataFrame, exponent: float) -> DataFrame:
    """`weight`: n to the power of `exponent` over its mean, divided by the mean n."""
    power = F.pow("positives", F.lit(exponent))
    means = targets.agg(exact_mean(power).alias("power"), exact_mean("positives").alias("n")).first()
    assert means is not None  # an aggregate without groups has one row
    return targets.withColumn("weight", (power / F.lit(means["power"] * means["n"])).cast("float"))


def lay_out(examples: DataFrame, held_out: float, batch_size: int, shards: int, seed: int) -> DataFrame:
    """(item_id, part, batch, batch_size, slot, shard) for examples of (item_id, token_ids).

    part: `valid` for a share `held_out` of the items, drawn by a hash of the id; none if that leaves either part fewer than
    there are shards. batch: items in the order of their length, cut into steps of equal size (give or take one item).
    """
    uniform = F.pmod(F.xxhash64(F.lit(seed), F.col("item_id").cast("string")), F.lit(1_000_000)) / 1_000_000
    parted = examples.select(
        "item_id",
        F.size("token_ids").alias("length"),
        F.when(uniform < held_out, "valid").otherwise("train").alias("part"),
    )
    return deal(parted, "item_id", batch_size, shards, seed)


def deal(examples: DataFrame, name: str, batch_size: int, shards: int, seed: int) -> DataFrame:
    """(name, part, batch, batch_size, slot, shard) for examples of (name, part, length); `name` is the column with their id.

    All learn, and none is held out, where a part has too few for every shard to have one.
    """
    key = F.xxhash64(F.lit(seed + 1), F.col(name).cast("string"))
    keyed = examples.select(name, "length", key.alias("key"), "part")
    counts = {row["part"]: row["count"] for row in keyed.groupBy("part").count().collect()}
    if counts.get("train", 0) < shards or counts.get("valid", shards) < shards:
        keyed, counts = keyed.withColumn("part", F.lit("train")), {"train": sum(counts.values())}
    ordered = keyed.orderBy("part", "length", "key", name)
    schema = ordered.schema.add("position", "long")
    numbered = ordered.rdd.zipWithIndex().map(lambda pair: (*pair[0], pair[1])).toDF(schema)

    first_valid = counts.get("train", 0)  # "train" sorts before "valid"
    position = F.when(F.col("part") == "valid", F.col("position") - first_valid).otherwise(F.col("position"))
    steps = {part: max(1, -(-count // batch_size)) for part, count in counts.items()}
    count, step_count = mapped(counts), mapped(steps)
    batched = numbered.withColumn("batch", F.floor(position * step_count / count).cast("int"))
    within = Window.partitionBy("part", "batch")
    slot = (F.row_number().over(within.orderBy("key", name)) - 1).cast("int")
    return batched.select(
        name,
        "part",
        "batch",
        F.count(F.lit(1)).over(within).cast("int").alias("batch_size"),
        slot.alias("slot"),
        F.pmod(slot, F.lit(shards)).cast("int").alias("shard"),
    )


def mapped(by_part: dict[str, int]) -> Column:
    """The number of the row's part."""
    return F.when(F.col("part") == "valid", by_part.get("valid", 1)).otherwise(by_part.get("train", 1))


def to_bytes(kind: str):  # type: ignore[no-untyped-def]
    """From a column of arrays to their bytes, as numbers of a numpy type; null elements become 0."""

    @F.pandas_udf("binary")  # type: ignore[call-overload]
    def convert(rows):  # type: ignore[no-untyped-def]
        return rows.map(lambda row: np.nan_to_num(np.asarray(row, np.float64)).astype(kind).tobytes())

    return convert
