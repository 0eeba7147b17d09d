"""Guardrails: tonight's lists against the newest published before, each difference within its bound, or nothing is published."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.lake import Lake
from recspark.tables import ITEMS, METRICS, RECOMMENDATIONS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

METRIC = "ndcg"
SCORED_BY = "scored_by"  # in the manifest of recommendations
RERANKED_BY = "rerank"


class Guardrails(Settings):
    """How far a night may be from the one published before it; null: as far as it likes."""

    quality_lost: float | None = Field(
        0.3,
        gt=0,
        le=1,
        description="share of the lists' nDCG@k on all items that may be lost, k the first of evaluate.ks",
    )
    coverage_lost: float | None = Field(
        0.5, gt=0, le=1, description="share of the distinct items on lists that may be lost"
    )
    users_lost: float | None = Field(
        0.25, gt=0, le=1, description="share of the users with a list who may have none now"
    )
    texts_changed: float | None = Field(
        0.3,
        gt=0,
        le=1,
        description="share of the items of both nights whose text may be another, as by an empty column",
    )
    lists_changed: float | None = Field(
        0.98, gt=0, le=1, description="share of a list's items that may be new, on average over users who have both"
    )
    score_drift: float | None = Field(
        5.0, gt=0, description="how far the mean score may move, in standard deviations of the scores before"
    )


@dataclass(frozen=True)
class Found:
    """One difference. value: what is bounded; told: the two numbers, for people."""

    name: str
    value: float
    bound: float | None
    told: str

    @property
    def breached(self) -> bool:
        return self.bound is not None and not self.value <= self.bound  # NaN is breached

    def __str__(self) -> str:
        bound = "" if self.bound is None else f", at most {self.bound:g}"
        return f"{self.name} {self.value:.3g}{bound}: {self.told}"


def compared(spark: SparkSession, lake: Lake, config: "Deployment", lists: DataFrame) -> tuple[str | None, list[Found]]:
    """The run date compared with, None if nothing was published before tonight's; and the differences."""
    dates = [d for d in lake.run_dates(RECOMMENDATIONS) if d < lake.run_date and lake.has(RECOMMENDATIONS, d)]
    if not dates:
        return None, []
    bounds, before = config.publish.guardrails, lake.look(spark, RECOMMENDATIONS, dates[-1])
    then, now = (summary(frame) for frame in (before, lists))
    if not then["users"]:
        return None, []
    both = shared(before, lists)
    gone = then["users"] - both["users"]
    kinds = {dates[-1]: lake.manifest(RECOMMENDATIONS, dates[-1]).get(SCORED_BY), lake.run_date: scored_by(config)}
    alike = len(set(kinds.values())) == 1
    found = [
        Found(
            "users_lost",
            gone / then["users"],
            bounds.users_lost,
            f"{gone:,} of {then['users']:,} users have no list now",
        ),
        Found(
            "coverage_lost",
            1 - now["items"] / then["items"],
            bounds.coverage_lost,
            f"{now['items']:,} items are on lists, {then['items']:,} before",
        ),
        Found(
            "score_drift",
            drift(then, now),
            bounds.score_drift if alike else None,
            f"the mean score is {number(now['mean'])}, {number(then['mean'])} before{'' if alike else ', of another kind'}",
        ),
    ]
    if both["users"]:
        share = both["changed"]
        told = f"{share:.0%} of a list's items are new, over {both['users']:,} users"
        found.append(Found("lists_changed", share, bounds.lists_changed, told))
    texts = retold(spark, lake, dates[-1])
    if texts is not None and texts["items"]:
        told = f"{texts['changed']:,} of {texts['items']:,} items have another text than before"
        found.append(Found("texts_changed", texts["changed"] / texts["items"], bounds.texts_changed, told))
    k = config.evaluate.ks[0]
    values = [quality(spark, lake, date, k, kind) for date, kind in kinds.items()]
    if values[0] and values[1] is not None:
        told = f"nDCG@{k} is {values[1]:.4f}, {values[0]:.4f} before"
        found.append(Found("quality_lost", 1 - values[1] / values[0], bounds.quality_lost, told))
    return str(dates[-1]), found


def scored_by(config: "Deployment") -> str:
    """What the scores are of; those of two kinds do not compare."""
    return RERANKED_BY if config.rerank else "combine" if config.combine else "factors"


def drift(then: dict[str, Any], now: dict[str, Any]) -> float:
    """How far the mean score has moved, in standard deviations of those before; 0 where these were all alike, NaN without a list."""
    if now["mean"] is None:
        return float("nan")
    return abs(now["mean"] - then["mean"]) / then["spread"] if then["spread"] else 0.0


def number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def summary(lists: DataFrame) -> dict[str, Any]:
    """Users, distinct items, mean score and its spread."""
    row = lists.agg(
        F.count_distinct("user_id").alias("users"),
        F.count_distinct("item_id").alias("items"),
        F.avg("score").alias("mean"),
        F.stddev_pop("score").alias("spread"),
    ).first()
    assert row is not None  # an aggregate without groups has one row
    return row.asDict()


def shared(before: DataFrame, lists: DataFrame) -> dict[str, Any]:
    """Users who have a list in both, and what share of tonight's items are new to them, on average."""
    ids = [
        F.col(name).cast("string").alias(name) for name in ("user_id", "item_id")
    ]  # a lake's ids may change their type
    old = before.select(*ids)
    known = old.withColumn("known", F.lit(1))
    mine = lists.select(*ids).join(old.select("user_id").distinct(), "user_id", "left_semi")
    by_user = mine.join(known, ["user_id", "item_id"], "left").groupBy("user_id")
    changed = by_user.agg((1 - F.count("known") / F.count(F.lit(1))).alias("changed"))
    row = changed.agg(F.count(F.lit(1)).alias("users"), F.avg("changed").alias("changed")).first()
    assert row is not None
    return row.asDict()


def retold(spark: SparkSession, lake: Lake, date: Any) -> dict[str, Any] | None:
    """The items that there were then, too, and how many of them have another text; None where a table has gone."""
    if not (lake.has(ITEMS, date) and lake.has(ITEMS)):
        return None
    then, now = (
        lake.look(spark, ITEMS, d).select(F.col("item_id").cast("string").alias("item_id"), "text_hash")
        for d in (date, lake.run_date)
    )
    both = now.join(then.withColumnRenamed("text_hash", "before"), "item_id")
    changed = F.count_if(F.col("text_hash") != F.col("before"))
    row = both.agg(F.count(F.lit(1)).alias("items"), changed.alias("changed")).first()
    assert row is not None  # an aggregate without groups has one row
    return row.asDict()


def quality(spark: SparkSession, lake: Lake, date: Any, k: int, kind: str | None) -> float | None:
    """nDCG@k on all items of the lists whose scores are of this kind, see `scored_by`; None where it was not measured."""
    if not lake.has(METRICS, date):
        return None
    row = lake.look(spark, METRICS, date).where(
        (F.col("model") == ("reranked" if kind == RERANKED_BY else "full"))
        & (F.col("slice") == "all")
        & (F.col("metric") == METRIC)
        & (F.col("k") == k)
    )
    found = row.first()
    return None if found is None else float(found["value"])
