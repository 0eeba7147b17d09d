"""What must hold of ranked lists before anyone reads them. Used by publish.

Each check is a Spark SQL condition that a bad row meets. All conditions on rows are counted in one pass, all on lists in
another; of the bad rows one, the first by id, comes to the driver as an example.
"""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

ENTRY_FAULTS = {
    "ranks do not run from 1 without a gap": "rank <> place",
    "the score is not a finite number": "isnan(score) OR abs(score) = double('infinity')",
    "the score is higher than the one above": "score > score_above",
    "the item stands in the list twice": "copy > 1",
    "the user has had the item": "had",
    "the item is not in the catalogue, or denied": "offered IS NULL",
}
LIST_FAULTS = {
    "the list belongs to a user without a vector": "due IS NULL",
    "the list is shorter or longer than it can be": "items <> due",
}
SCORE_FAULTS = {
    "the score is not the product of the two vectors": "abs(score - product) > 0.001 * greatest(1, abs(product))"
}
USERS_RECOMPUTED = 1000  # about so many users' scores are computed once more


def list_faults(
    lists: DataFrame, users: DataFrame, items: DataFrame, had: DataFrame, top_k: int, product: str = "score"
) -> list[str]:
    """A line for each check that fails, none if all hold.

    lists: (user_id, rank, item_id, score); `product` names the column that is the inner product. users: (user_id, vector). items: (item_id, vector), what may be recommended.
    had: (user_id, item_id), what may not, again; repetitions do no harm. A list must have `top_k` items, or, where the user
    has had nearly everything, all that are left.
    """
    had = had.select("user_id", "item_id").distinct()
    return (
        failing(entries(lists, items, had), ENTRY_FAULTS, ("user_id", "rank", "item_id", "score"))
        + failing(lengths(lists, users, items, had, top_k), LIST_FAULTS, ("user_id", "items", "due"))
        + failing(
            products(lists.withColumn("score", F.col(product)), users, items),
            SCORE_FAULTS,
            ("user_id", "rank", "item_id", "score", "product"),
        )
    )


def entries(lists: DataFrame, items: DataFrame, had: DataFrame) -> DataFrame:
    """The lists' rows, each with what stands above it, whether it stands there before, and whether it may."""
    by_rank = Window.partitionBy("user_id").orderBy("rank", "item_id")
    by_item = Window.partitionBy("user_id", "item_id").orderBy("rank")
    placed = lists.select(
        "user_id",
        "rank",
        "item_id",
        "score",
        F.row_number().over(by_rank).alias("place"),
        F.lag("score").over(by_rank).alias("score_above"),
        F.row_number().over(by_item).alias("copy"),
    )
    offered = items.select("item_id", F.lit(True).alias("offered"))
    return placed.join(had.withColumn("had", F.lit(True)), ["user_id", "item_id"], "left").join(
        offered, "item_id", "left"
    )


def lengths(lists: DataFrame, users: DataFrame, items: DataFrame, had: DataFrame, top_k: int) -> DataFrame:
    """(user_id, items, due): how long each list is, and should be; due is null where the user has no vector."""
    offered = items.select("item_id")
    out_of_reach = had.join(offered, "item_id", "left_semi").groupBy("user_id").agg(F.count("item_id").alias("gone"))
    left = F.lit(offered.count()) - F.coalesce("gone", F.lit(0))
    due = users.join(out_of_reach, "user_id", "left").select("user_id", F.least(F.lit(top_k), left).alias("due"))
    found = lists.groupBy("user_id").agg(F.count("item_id").alias("items"))
    return due.join(found, "user_id", "full").withColumn("items", F.coalesce("items", F.lit(0)))


def products(lists: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """The rows of some users, drawn by a hash, with `product`, the inner product of the vectors as they are now.

    Lists that were made from other vectors, by a run that was repeated in part, are found out by it.
    """
    share = max(1, users.count() // USERS_RECOMPUTED)
    some = users.where(F.pmod(F.xxhash64("user_id"), F.lit(share)) == 0)
    both = lists.join(some.select("user_id", F.col("vector").alias("u")), "user_id").join(
        items.select("item_id", F.col("vector").alias("v")), "item_id"
    )
    product = F.expr("aggregate(zip_with(u, v, (x, y) -> double(x) * double(y)), double(0), (total, xy) -> total + xy)")
    return both.withColumn("product", product)


def failing(rows: DataFrame, faults: Mapping[str, str], shown: tuple[str, ...]) -> list[str]:
    """A line for each fault that some row has: what is wrong, in how many rows, and the first of them."""

    def first(condition: str) -> Column:
        return F.min(F.when(F.expr(condition), F.struct(*shown)))

    counts = [F.count_if(F.expr(condition)).alias(f"count{n}") for n, condition in enumerate(faults.values())]
    examples = [first(condition).alias(f"first{n}") for n, condition in enumerate(faults.values())]
    found = rows.agg(*counts, *examples).first()
    assert found is not None  # an aggregate without groups has one row
    return [
        told(fault, found[f"count{n}"], found[f"first{n}"].asDict())
        for n, fault in enumerate(faults)
        if found[f"count{n}"]
    ]


def told(fault: str, rows: int, example: dict[str, Any]) -> str:
    """The user has had the item: 3 rows, such as user_id 7, rank 1, …"""
    shown = ", ".join(f"{name} {value}" for name, value in example.items())
    return f"{fault}: {rows:,} row{'s' if rows > 1 else ''}, such as {shown}"
