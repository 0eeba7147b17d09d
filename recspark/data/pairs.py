"""The training table of the objectives by pair: one row an example, a user's target with the history beside it.

Items are told by their position in the order of the ids, so a row is some dozens of numbers and no text; the table `pair_items`
has the texts by position, and `pair_users` what users have, which may be much and is the same for all examples of one.
"""

from typing import Literal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recspark.data.examples import deal, to_bytes
from recspark.data.sums import exact_mean, exact_sum


def numbered(items: DataFrame) -> DataFrame:
    """(item_id, position int): each item's place in the order of the ids."""
    ordered = items.select("item_id").orderBy("item_id")
    pairs = ordered.rdd.zipWithIndex().map(lambda pair: (pair[0][0], pair[1]))
    return pairs.toDF(ordered.schema.add("position", "integer"))


def dated_pairs(interactions: DataFrame, positions: DataFrame) -> DataFrame:
    """(user_id, item_id, position, order, rating, weight): each (user, item) once, its weights added up, its last rating."""
    last = F.max(F.struct("order_key", "rating"))
    pairs = interactions.groupBy("user_id", "item_id").agg(exact_sum("weight").alias("weight"), last.alias("last"))
    located = pairs.join(positions, "item_id")
    return located.select(
        "user_id",
        "item_id",
        "position",
        F.col("last.order_key").alias("order"),
        F.col("last.rating").alias("rating"),
        "weight",
    )


def rating_biases(pairs: DataFrame, shrinkage: float) -> tuple[DataFrame, DataFrame]:
    """(user_id, user_bias float), b + b_u, and (position, bias double), b_i: shrunken means of what is left, users first."""
    mean = pairs.agg(exact_mean("rating")).first()
    assert mean is not None  # an aggregate without groups has one row
    count = F.count(F.lit(1)) + F.lit(shrinkage)
    users = pairs.groupBy("user_id").agg((exact_sum(F.col("rating") - mean[0]) / count + mean[0]).alias("user_bias"))
    left = pairs.join(users, "user_id").withColumn("left", F.col("rating") - F.col("user_bias"))
    items = left.groupBy("position").agg((exact_sum("left") / count).alias("bias"))
    return users.withColumn("user_bias", F.col("user_bias").cast("float")), items


def targets_of(pairs: DataFrame, most: int | None, seed: int) -> DataFrame:
    """At most `most` pairs a user, drawn by a hash of the ids.

    With `key` (bigint), which seeds what the example draws, `example`, its name: user and item as a JSON array, and `user` (bigint), as
    `user_rows` has it.
    """
    key = F.xxhash64(F.lit(seed), F.col("user_id").cast("string"), F.col("item_id").cast("string"))
    name = F.to_json(F.array(F.col("user_id").cast("string"), F.col("item_id").cast("string")))
    keyed = pairs.withColumns({"key": key, "example": name, "user": user_key()})
    if most is None:
        return keyed
    place = F.row_number().over(Window.partitionBy("user_id").orderBy("key", "position"))
    return keyed.withColumn("place", place).where(F.col("place") <= most).drop("place")


def user_key() -> Column:
    """bigint, for user_id: a hash, that ranks may look users up by a number."""
    return F.xxhash64(F.col("user_id").cast("string"))


def user_rows(pairs: DataFrame, known: int) -> DataFrame:
    """(user, positives): positions of each user's newest `known` items. Two users of one hash would have what both have."""
    event = F.struct(F.col("order"), F.col("position"))
    newest = F.slice(F.sort_array(F.collect_list(event), asc=False), 1, known)["position"]
    users = pairs.groupBy("user_id").agg(newest.alias("newest"))
    together = F.flatten(F.collect_list("newest"))
    return users.groupBy(user_key().alias("user")).agg(to_bytes("<i4")(together).alias("positives"))


def with_history(
    targets: DataFrame, pairs: DataFrame, kind: Literal["before", "others"], size: int, known: int
) -> DataFrame:
    """Columns `history` and `history_ratings`, newest first, at most `size`, of the user's newest `known` items.

    before: what the user met before the target; others: all but the target. Examples without a history are left out.
    """
    event = F.struct(F.col("order"), F.col("position"), F.col("rating"))
    events = pairs.groupBy("user_id").agg(
        F.slice(F.sort_array(F.collect_list(event), asc=False), 1, known).alias("events")
    )

    def wanted(e: Column) -> Column:
        if kind == "others":
            return e["position"] != F.col("position")
        return F.struct(e["order"], e["position"]) < F.struct(F.col("order"), F.col("position"))

    joined = targets.join(events, "user_id").withColumn("past", F.slice(F.filter("events", wanted), 1, size))
    return joined.where(F.size("past") > 0).select(
        *targets.columns,
        to_bytes("<i4")(F.col("past.position")).alias("history"),
        to_bytes("<f4")(F.col("past.rating")).alias("history_ratings"),
    )


def mined(candidates: DataFrame, ranks: tuple[int, int], pairs: DataFrame, positions: DataFrame) -> DataFrame:
    """(user_id, mined binary): positions, by rank, of the items that a list had on these ranks and the user has not met."""
    window = candidates.where(F.col("rank").between(*ranks)).select("user_id", "item_id", "rank")
    # Lists of another day may have ids of another type; what is no id today is nobody's.
    types = {name: pairs.schema[name].dataType for name in ("user_id", "item_id")}
    window = window.withColumns({name: F.col(name).try_cast(kind) for name, kind in types.items()})
    left = window.join(pairs.select("user_id", "item_id"), ["user_id", "item_id"], "left_anti").join(
        positions, "item_id"
    )
    found = left.groupBy("user_id").agg(F.sort_array(F.collect_list(F.struct("rank", "position"))).alias("listed"))
    return found.select("user_id", to_bytes("<i4")(F.col("listed.position")).alias("mined"))


def item_rows(items: DataFrame, positions: DataFrame, targets: DataFrame, biases: DataFrame | None) -> DataFrame:
    """(item_id, position, tokens, share, bias): share of the targets (all examples'), rating bias (0 without ratings)."""
    counts = targets.groupBy("position").agg(F.count(F.lit(1)).alias("targets"))
    total = targets.count()
    rows = items.select("item_id", to_bytes("<i4")(F.col("token_ids")).alias("tokens")).join(positions, "item_id")
    rows = rows.join(counts, "position", "left")
    rows = rows.withColumn("bias", F.lit(0.0)) if biases is None else rows.join(biases, "position", "left")
    share = F.coalesce(F.col("targets"), F.lit(0)) / F.lit(total)
    return rows.select(
        "item_id",
        "position",
        "tokens",
        share.alias("share"),
        F.coalesce("bias", F.lit(0.0)).cast("double").alias("bias"),
    )


def lay_out_pairs(examples: DataFrame, held_out: float, batch_size: int, shards: int, seed: int) -> DataFrame:
    """As `examples.lay_out`, for examples by name; steps are drawn at random, as the targets of a step are each other's negatives."""
    uniform = F.pmod(F.xxhash64(F.lit(seed), F.col("example")), F.lit(1_000_000)) / 1_000_000
    part = F.when(uniform < held_out, "valid").otherwise("train")
    parted = examples.select("example", F.lit(0).alias("length"), part.alias("part"))
    return deal(parted, "example", batch_size, shards, seed)
