"""What share of an item each value of an attribute has: `Action Sci-Fi` is half the one and half the other."""

import re

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.data.sums import exact_sum
from recspark.errors import UserError

MOST = 200  # values with a place of their own, the commonest; the others share one


def item_labels(items: DataFrame, attribute: str, separator: str, where: str) -> DataFrame:
    """(item_id, labels array<float>) of all items (item_id, attributes): a share a value, together 1, or 0 where there is no value.

    separator: cuts a value into several; empty, it stays whole. Raises UserError if no item has the attribute.
    """
    labels = F.explode(F.array_distinct(named(F.col("attributes").getItem(attribute), separator)))
    cut = items.select("item_id", labels.alias("label"))
    names = [
        row["label"] for row in cut.groupBy("label").count().orderBy(F.desc("count"), "label").limit(MOST + 1).collect()
    ]
    if not names:
        known = items.select(F.explode(F.map_keys("attributes")).alias("name")).distinct().orderBy("name").collect()
        raise UserError(
            f"{where} is {attribute}, which no item has; items have {[r['name'] for r in known] or 'no attributes'}: name it in "
            f"preprocess.items.attributes and run preprocess again, or leave {where} out"
        )
    places = F.coalesce(F.array_position(F.lit(names[:MOST]), F.col("label")), F.lit(0))
    place = F.when(places > 0, places - 1).otherwise(MOST).cast("int").alias("place")
    counted = cut.select("item_id", place).groupBy("item_id", "place").agg(F.count("*").alias("count"))
    mine = counted.groupBy("item_id").agg(
        F.map_from_entries(F.collect_list(F.struct("place", "count"))).alias("counts"), F.sum("count").alias("all")
    )
    labelled = items.select("item_id").join(mine, "item_id", "left")
    return labelled.select("item_id", dense("counts", "all", len(names), "float").alias("labels"))


def named(value: Column, separator: str) -> Column:
    """The value's parts, without white space around them; none that is blank."""
    parts = F.split(value, re.escape(separator)) if separator else F.array(value)
    return F.filter(F.transform(parts, F.trim), lambda part: part.isNotNull() & (part != ""))


def history_labels(pairs: DataFrame, labels: DataFrame) -> DataFrame:
    """(user_id, likes array<double>) of pairs (user_id, item_id), each once: the mean labels of those items that have any.

    Users of whose items none has are left out.
    """
    shares = pairs.join(labels, "item_id").select("user_id", F.posexplode("labels").alias("place", "share"))
    summed = shares.where("share > 0").groupBy("user_id", "place").agg(exact_sum("share").alias("share"))
    mine = summed.groupBy("user_id").agg(
        F.map_from_entries(F.collect_list(F.struct("place", "share"))).alias("shares"), exact_sum("share").alias("all")
    )
    return mine.select("user_id", dense("shares", "all", size_of(labels), "double").alias("likes"))


def dense(parts: str, whole: str, size: int, kind: str) -> Column:
    """An array of `size` shares of the whole, from a map of place to part."""
    share = lambda place: (F.try_element_at(parts, place) / F.col(whole)).cast(kind)  # noqa: E731
    return F.transform(F.sequence(F.lit(0), F.lit(size - 1)), lambda n: F.coalesce(share(n), F.lit(0).cast(kind)))


def size_of(labels: DataFrame) -> int:
    """How many values have a place."""
    row = labels.select(F.size("labels").alias("size")).first()
    return row["size"] if row else 1
