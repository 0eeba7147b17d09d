"""Which item a user took next, and what came before it: what a reranker learns from and is chosen on."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recspark.data.catalogue import Catalogue


def hold_out_last(interactions: DataFrame, seed: int) -> tuple[DataFrame, DataFrame]:
    """(before, targets): the train events without each user's last, and (user_id, item_id) of those that were last.

    A user's only event stays. A last event with an item that the user had before is neither: it could not be recommended.
    """
    train, user = interactions.where("split = 'train'"), Window.partitionBy("user_id")
    newest = F.row_number().over(user.orderBy(*newest_first(train, seed)))
    placed = train.select("*", newest.alias("place"), F.count(F.lit(1)).over(user).alias("events"))
    last = (F.col("place") == 1) & (F.col("events") > 1)
    before = placed.where(~last).drop("place", "events")
    pairs = before.select("user_id", "item_id").distinct()
    return before, placed.where(last).select("user_id", "item_id").join(pairs, ["user_id", "item_id"], "left_anti")


def first_after(interactions: DataFrame, seed: int) -> DataFrame:
    """(user_id, item_id): of users with train events, the first valid event with an item that the user had not had."""
    train = interactions.where("split = 'train'").select("user_id", "item_id").distinct()
    valid = interactions.where("split = 'valid'").join(train, ["user_id", "item_id"], "left_anti")
    valid = valid.join(train.select("user_id").distinct(), "user_id", "left_semi")
    oldest_first = Window.partitionBy("user_id").orderBy(F.asc("order_key"), newest_first(valid, seed)[1])
    oldest = F.row_number().over(oldest_first)
    return valid.select("user_id", "item_id", oldest.alias("place")).where("place = 1").drop("place")


def newest_histories(events: DataFrame, catalogue: Catalogue, longest: int, seed: int) -> DataFrame:
    """(user_id, history array<int>): positions of each user's last `longest` events, the newest first."""
    placed = events.join(catalogue.positions(events.sparkSession), "item_id")
    newest = F.row_number().over(Window.partitionBy("user_id").orderBy(*newest_first(events, seed)))
    recent = placed.select("user_id", "position", newest.alias("place")).where(F.col("place") <= longest)
    gathered = F.sort_array(F.collect_list(F.struct("place", "position")))["position"]
    return recent.groupBy("user_id").agg(gathered.alias("history"))


def item_histories(events: DataFrame, catalogue: Catalogue, seed: int) -> DataFrame:
    """(user_id, history array<int>): positions of all items that each user had, the one had last first, each once."""
    placed = last_had(events, seed).join(catalogue.positions(events.sparkSession), "item_id")
    gathered = F.sort_array(F.collect_list(F.struct("order_key", "tie", "position")), asc=False)["position"]
    return placed.groupBy("user_id").agg(gathered.alias("history"))


def newest_items(events: DataFrame, seed: int) -> DataFrame:
    """(user_id, item_id): what each user had last, the first of `item_histories`."""
    newest = F.max(F.struct("order_key", "tie", "item_id"))["item_id"]
    return last_had(events, seed).groupBy("user_id").agg(newest.alias("item_id"))


def last_had(events: DataFrame, seed: int) -> DataFrame:
    """(user_id, item_id, order_key, tie): when each user had each item last; `tie` orders what was had at one moment."""
    last = events.groupBy("user_id", "item_id").agg(F.max("order_key").alias("order_key"))
    return last.withColumn("tie", F.xxhash64(F.lit(seed), "user_id", "item_id"))


def newest_first(events: DataFrame, seed: int) -> tuple[Column, Column]:
    """What orders a user's events; those of one moment by a hash."""
    return F.desc("order_key"), F.xxhash64(F.lit(seed), *events.columns)
