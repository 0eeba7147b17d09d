"""Which of the clean events stay: the k-core, and of each split the last of each (user, item)."""

from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recspark.errors import UserError

Duplicates = Literal["last", "all"]


def deduplicate(events: DataFrame, duplicates: Duplicates) -> DataFrame:
    """`all` keeps every event; `last` keeps, of each (user, item) within a split, the one with the largest order_key, of those that weigh anything
    if any does: what says nothing takes the place of nothing that says something.

    Within a split, as what is learned from must not depend on what came later: of a user who has an item again in the test, the
    event in train stays. Ties go to the larger hash of the content; rows that tie there too are copies of each other.
    """
    if duplicates == "all":
        return events
    content = F.xxhash64(*events.columns)
    telling = (F.col("weight") > 0).desc()
    latest = Window.partitionBy("user_id", "item_id", "split").orderBy(telling, F.desc("order_key"), content.desc())
    return events.withColumn("place", F.row_number().over(latest)).where("place = 1").drop("place")


def k_core(events: DataFrame, min_user: int, min_item: int) -> DataFrame:
    """The largest set of events in which every user has min_user of them and every item min_item, by passes to a fixpoint.

    The result is persisted if there was anything to do. Raises UserError if it is empty.
    """
    if min_user <= 1 and min_item <= 1:
        return events
    before, rows, passes = -1, events.count(), 0
    core = events
    while rows != before:
        # Windows name the pass before once; joins with counts would name it four times, and the plan grow to 4 to the passes.
        thinner = at_least(at_least(core, "user_id", min_user), "item_id", min_item).persist()
        before, rows, passes = rows, thinner.count(), passes + 1
        if core is not events:
            core.unpersist()
        core = thinner
    if rows == 0:
        core.unpersist()
        raise UserError(
            f"preprocess: no interaction is left with min_user_interactions {min_user} and min_item_interactions {min_item} "
            f"after {passes} passes; lower them"
        )
    return core


def at_least(events: DataFrame, key: str, minimum: int) -> DataFrame:
    """The events of keys that have `minimum` of them."""
    if minimum <= 1:
        return events
    counted = events.withColumn("events", F.count(F.lit(1)).over(Window.partitionBy(key)))
    return counted.where(F.col("events") >= minimum).drop("events")
