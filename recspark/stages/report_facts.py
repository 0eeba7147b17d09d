"""What the report tells of a night: small aggregates, counted by Spark. Used by publish.

No raw column reaches the driver: histograms are counted in bins, and rows come only of a few example users.
"""

import datetime
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import TYPE_CHECKING

import pandas as pd
from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from recspark import __version__
from recspark.data.solves import FOLDED
from recspark.evaluation.report import Entry, Example, Histogram, Lists, ReportFacts, StageRecord
from recspark.lake import Lake
from recspark.stages.versions import borrowed_version
from recspark.tables import (
    COMPARISONS,
    INTERACTIONS,
    ITEM_VECTORS,
    ITEMS,
    LEAKAGE,
    METRICS,
    REJECTS,
    TRAINING_LOG,
    Table,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

BINS = 40
FIRST_K = 10
EXAMPLE_ROWS = 8
MOST_SHOWN = 10
PACKAGES = ("pyspark", "pyarrow", "numpy", "pandas", "torch", "transformers", "horovod", "petastorm")


def collect_facts(
    spark: SparkSession,
    lake: Lake,
    config: "Deployment",
    published: DataFrame,
    version: str,
    held_back: Sequence[str] = (),
) -> ReportFacts:
    """What the report of this run date tells. version: of the retriever. held_back: why the lists are not published after all. Tables that may be missing (metrics, comparisons, leakage, training log, rejects) count as empty."""
    items, vectors, interactions = (lake.read(spark, table) for table in (ITEMS, ITEM_VECTORS, INTERACTIONS))
    tokens = {
        int(r["tokens"]): int(r["count"]) for r in items.groupBy(F.size("token_ids").alias("tokens")).count().collect()
    }
    model = published.select("model_hash").first()
    return ReportFacts(
        run_date=str(lake.run_date),
        written_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        model_hash=model["model_hash"] if model else "",
        retriever_version=version,
        held_back=held_back,
        metrics=small_table(spark, lake, METRICS),
        comparisons=small_table(spark, lake, COMPARISONS),
        leakage=small_table(spark, lake, LEAKAGE),
        training=training_log(spark, lake).sort_values("epoch"),
        lists=describe_lists(published, items, vectors),
        examples=examples(published, interactions, items, config.publish.example_users),
        tokens=whole_number_histogram(tokens),
        max_length=config.encoder.max_length,
        texts_cut=sum(n for length, n in tokens.items() if length >= config.encoder.max_length),
        stages=stage_records(lake, config),
        rejects=reject_counts(if_there(spark, lake, REJECTS)),
        settings=lake.facts.get("settings", {}),
        versions=versions(spark),
    )


def if_there(spark: SparkSession, lake: Lake, table: Table) -> DataFrame | None:
    return lake.read(spark, table) if lake.has(table) else None


def small_table(spark: SparkSession, lake: Lake, table: Table) -> pd.DataFrame:
    """A table of a few hundred rows, whole; without rows if the lake does not have it."""
    found = if_there(spark, lake, table)
    return found.toPandas() if found is not None else pd.DataFrame(columns=table.column_names)


def training_log(spark: SparkSession, lake: Lake) -> pd.DataFrame:
    """The log of the training that made the retriever; without rows where that was another night's."""
    log = small_table(spark, lake, TRAINING_LOG)
    return log if borrowed_version(lake, "publish") is None else log.iloc[:0]


def reject_counts(rejects: DataFrame | None) -> list[tuple[str, str, int]]:
    """(source, reason, rows), the most frequent of a source first."""
    if rejects is None:
        return []
    counted = rejects.groupBy("source", "reason").count().orderBy("source", F.desc("count"), "reason")
    return [(r["source"], r["reason"], r["count"]) for r in counted.collect()]


def stage_records(lake: Lake, config: "Deployment") -> list[StageRecord]:
    """What the stages before this one left of themselves, in the order of the settings' sections, which is the pipeline's."""
    kept = {name: facts for name, facts in lake.stage_records().items() if name != lake.stage}
    sections = list(type(config).model_fields)
    order = sorted(kept, key=lambda name: sections.index(name) if name in sections else len(sections))
    return [StageRecord(**kept[name]) for name in order]


def versions(spark: SparkSession) -> dict[str, str]:
    """Name to version of what the night ran on."""
    found = {"recspark": __version__, "Python": python_version(), "Spark": spark.version}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---- the lists


def describe_lists(published: DataFrame, items: DataFrame, vectors: DataFrame) -> Lists:
    """Counts over all lists."""
    by_item = published.groupBy("item_id").agg(F.count(F.lit(1)).alias("lists"), F.min("rank").alias("best_rank"))
    met = vectors.select("item_id", "interactions").join(by_item, "item_id", "left")
    counts = met.agg(
        F.count(F.lit(1)).alias("catalogue"),
        F.count("lists").alias("shown"),
        F.coalesce(F.sum("lists"), F.lit(0)).alias("entries"),
        F.count_if(F.col("best_rank") <= FIRST_K).alias("shown_first"),
        F.coalesce(F.sum(F.when(F.col("interactions") == 0, F.col("lists"))), F.lit(0)).alias("cold_entries"),
    ).first()
    assert counts is not None  # an aggregate without groups has one row
    top = (
        by_item.orderBy(F.desc("lists"), "item_id").limit(MOST_SHOWN).join(items.select("item_id", "title"), "item_id")
    )
    most_shown = [(r["title"], r["lists"]) for r in top.orderBy(F.desc("lists"), "item_id").collect()]
    users = published.select("user_id").distinct().count()
    return Lists(
        **counts.asDict(),
        users=users,
        first_k=FIRST_K,
        most_shown=most_shown,
        scores=histogram(published, "score"),
    )


def histogram(frame: DataFrame, column: str) -> Histogram | None:
    """A measure in equal bins from its least to its greatest; None without rows."""
    ends = frame.agg(F.min(column).cast("double").alias("low"), F.max(column).cast("double").alias("high")).first()
    if ends is None or ends["low"] is None:
        return None
    width = (ends["high"] - ends["low"]) / BINS or 1.0
    place = F.least(F.floor((F.col(column).cast("double") - ends["low"]) / width), F.lit(BINS - 1))
    counts = {int(r["place"]): int(r["count"]) for r in frame.groupBy(place.alias("place")).count().collect()}
    return Histogram([ends["low"] + n * width for n in range(BINS + 1)], [counts.get(n, 0) for n in range(BINS)])


def whole_number_histogram(counts: dict[int, int]) -> Histogram | None:
    """A bin a number, or, where there are more than BINS numbers, a bin for several."""
    if not counts:
        return None
    low, high = min(counts), max(counts)
    step = (high - low) // BINS + 1
    starts = range(low, high + 1, step)
    binned = [sum(n for number, n in counts.items() if start <= number < start + step) for start in starts]
    return Histogram([start - 0.5 for start in (*starts, starts[-1] + step)], binned)


# ---- some users


def examples(published: DataFrame, interactions: DataFrame, items: DataFrame, users: int) -> list[Example]:
    """A few users with a history, drawn by a hash of their id, with titles."""
    known = interactions.where(F.col("split").isin(*FOLDED)).groupBy("user_id").agg(F.count(F.lit(1)).alias("events"))
    listed = known.join(published.select("user_id").distinct(), "user_id", "left_semi")
    drawn = listed.orderBy(F.xxhash64("user_id"), "user_id").limit(users).collect()
    if not drawn:
        return []
    chosen, titles = F.col("user_id").isin([r["user_id"] for r in drawn]), items.select("item_id", "title")
    newest = Window.partitionBy("user_id").orderBy(F.desc("order_key"), F.desc("item_id"))
    past = interactions.where(chosen & F.col("split").isin(*FOLDED)).withColumn("place", F.row_number().over(newest))
    later = interactions.where(chosen & (F.col("split") == "test")).select("user_id", "item_id").distinct()
    lists = published.where(chosen & (F.col("rank") <= EXAMPLE_ROWS)).join(
        later.withColumn("later", F.lit(True)), ["user_id", "item_id"], "left"
    )

    # Days by Spark, whose time zone is the session's; a timestamp that is collected comes in the driver's own.
    past = past.where(F.col("place") <= EXAMPLE_ROWS).withColumn("day", F.date_format("event_time", "yyyy-MM-dd"))
    history = past.join(titles, "item_id", "left").orderBy("place").collect()
    entries = lists.join(titles, "item_id", "left").orderBy("rank").collect()
    return [
        Example(
            str(user["user_id"]),
            user["events"],
            [Entry(title_of(e), event_note(e)) for e in history if e["user_id"] == user["user_id"]],
            [
                Entry(title_of(e), f"{e['score']:.3f}", bool(e["later"]))
                for e in entries
                if e["user_id"] == user["user_id"]
            ],
        )
        for user in drawn
    ]


def title_of(row: Row) -> str:
    """The title; the id where the catalogue no longer has the item."""
    return row["title"] or str(row["item_id"])


def event_note(event: Row) -> str:
    """The day and the rating, where there are any."""
    rating = f"rated {event['rating']:g}" if event["rating"] is not None else ""
    return ", ".join(part for part in (event["day"], rating) if part)
