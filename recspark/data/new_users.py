"""Users whom nobody has learned from: their first events, and what they took afterwards."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recspark.data.next_event import newest_first
from recspark.data.solves import FOLDED


def placed_events(interactions: DataFrame, items: DataFrame, longer_than: int, seed: int) -> DataFrame:
    """(user_id, item_id, weight, order from 1, place): the test events, oldest first, of users with more than so many of them and none
    that is folded in (train, valid, history).

    Events of one moment go by a hash; those with an item that is not in `items` (item_id) do not count at all. place: how many events up
    to this one weigh something; one of weight 0 says nothing, but the item was had.
    """
    known = interactions.where(F.col("split").isin(*FOLDED)).select("user_id").distinct()
    test = interactions.where("split = 'test'").join(known, "user_id", "left_anti")
    user, tie = Window.partitionBy("user_id"), newest_first(interactions, seed)[1]
    oldest_first, weighing = user.orderBy(F.asc("order_key"), tie), F.count_if(F.col("weight") > 0)
    so_far = oldest_first.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    placed = test.join(items.select("item_id"), "item_id", "left_semi").select(
        "user_id",
        "item_id",
        "weight",
        F.row_number().over(oldest_first).alias("order"),
        weighing.over(so_far).alias("place"),
        weighing.over(user).alias("events"),
    )
    return placed.where(F.col("events") > longer_than).drop("events")


def had_and_new(placed: DataFrame, interactions: DataFrame, first: int) -> tuple[DataFrame, DataFrame]:
    """(user_id, item_id), each once: what users had in their first events or may not get (masked), and what they took later that is
    not of it.
    """
    early = placed.where(F.col("place") <= first).select("user_id", "item_id")
    masked = interactions.where("split = 'masked'").join(early.select("user_id").distinct(), "user_id", "left_semi")
    had = early.unionByName(masked.select("user_id", "item_id")).distinct()
    later = placed.where((F.col("place") > first) & (F.col("weight") > 0)).select("user_id", "item_id").distinct()
    return had, later.join(had, ["user_id", "item_id"], "left_anti")


def after_each(placed: DataFrame, counts: tuple[int, ...]) -> DataFrame:
    """(user_id, item_id, weight, order_key, split): each user as often as there are `counts`, with so many first events as history."""
    repeated = each_count(placed, counts).where(F.col("place") <= F.col("history"))
    history = F.lit("history").alias("split")
    return repeated.select("user_id", "item_id", "weight", F.col("order").cast("bigint").alias("order_key"), history)


def each_count(frame: DataFrame, counts: tuple[int, ...]) -> DataFrame:
    """The rows once for each count, which is the column `history`; user_id then says of which count it is, too."""
    repeated = frame.withColumn("history", F.explode(F.array(*[F.lit(n).cast("bigint") for n in counts])))
    return repeated.withColumn("user_id", F.concat_ws(" of ", "history", F.col("user_id").cast("string")))
