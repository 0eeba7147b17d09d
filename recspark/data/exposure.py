"""How many users could have met an item: those who were still there on the day it first appeared."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def shares_of(items: DataFrame, interactions: DataFrame, splits: Sequence[str], exposed: bool) -> DataFrame:
    """The items (item_id) with their exposure: 1 for those that nobody has met, and, if not `exposed`, for all."""
    if not exposed:
        return items.withColumn("exposure", F.lit(1.0).cast("float"))
    return items.join(exposure(interactions, splits), "item_id", "left").na.fill(1.0, ["exposure"])


def exposure(interactions: DataFrame, splits: Sequence[str]) -> DataFrame:
    """(item_id, exposure float): the share of the users whose last event is not before the day (UTC) of the item's first.

    That somebody who had gone did not meet an item says nothing about it. Counting such pairs as not met would make every
    new item look unpopular, and whatever its text has in common with other new ones. Over the events of the splits; an item
    without any is left out, and where events have no time the share is 1. Where only the last event of a pair was kept
    (preprocess.duplicates), an item's first day is the earliest of these.
    """
    events = interactions.where(F.col("split").isin(*splits)).withColumn("day", F.to_date("event_time"))
    last = events.groupBy("user_id").agg(F.max("day").alias("day"))
    first = events.groupBy("item_id").agg(F.min("day").alias("day"))
    days = last.groupBy("day").agg(F.count(F.lit(1)).alias("users"))
    days = days.join(first.select("day").distinct(), "day", "full").withColumn("users", F.coalesce("users", F.lit(0)))
    later = Window.orderBy(F.desc("day"))  # a row a day: few enough for one task
    everyone = Window.partitionBy()
    days = days.where("day IS NOT NULL").select(
        "day", (F.sum("users").over(later) / F.sum("users").over(everyone)).alias("share")
    )
    return first.join(days, "day", "left").select(
        "item_id", F.coalesce("share", F.lit(1.0)).cast("float").alias("exposure")
    )
