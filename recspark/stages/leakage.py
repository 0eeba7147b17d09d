"""What of the test could have been known before: counts for the table `leakage`. Used by evaluate; `evaluation/leaks.py` says what they mean."""

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.evaluation.leaks import first_named

SHORTEST_ID = 6  # a shorter one would be found in texts by chance
SAMPLED_IDS = 10_000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

Row = tuple[str, int, float | None, str | None]  # fact, rows, share, example


def leakage_rows(interactions: DataFrame, items: DataFrame, texts: DataFrame, seed: int) -> list[Row]:
    """Rows of the table; items: (item_id, text_hash, interactions), texts: (item_id, text)."""
    return [
        *train_after_test(interactions),
        pairs_in_both(interactions),
        cold_with_a_warm_text(items),
        texts_that_name_a_user(interactions, texts, seed),
    ]


def train_after_test(interactions: DataFrame) -> list[Row]:
    """Train events later than the first test event, of those with a time; no row where there are no times."""
    moment = F.unix_micros("event_time")
    first = row_of(interactions.where("split = 'test'").agg(F.min(moment).alias("first")))["first"]
    train = interactions.where("split = 'train' AND event_time IS NOT NULL")
    if first is None or train.first() is None:
        return []
    late = F.when(moment > first, F.struct(moment.alias("moment"), "user_id", "item_id"))
    found = row_of(train.agg(F.count(F.lit(1)).alias("all"), F.count(late).alias("late"), F.max(late).alias("latest")))
    latest = found["latest"]
    example = latest and (
        f"user {latest['user_id']} and item {latest['item_id']} on {time_of(latest['moment'])}; the test begins on {time_of(first)}"
    )
    return [("train_after_test", found["late"], found["late"] / found["all"], example)]


def pairs_in_both(interactions: DataFrame) -> Row:
    """Pairs of a user and an item that have test events and train events, too; share of the test's pairs."""
    pairs = interactions.where("split IN ('train', 'test')").groupBy("user_id", "item_id")
    split = F.col("split")
    flagged = pairs.agg(F.bool_or(split == "train").alias("train"), F.bool_or(split == "test").alias("test"))
    both = F.when(F.col("train"), F.struct("user_id", "item_id"))
    found = row_of(flagged.where("test").agg(*counted(both)))
    example = found["least"] and f"user {found['least']['user_id']} and item {found['least']['item_id']}"
    return ("pairs_in_both", found["some"], share_of(found), example)


def cold_with_a_warm_text(items: DataFrame) -> Row:
    """Cold items whose text is that of a warm one, letter by letter; share of the cold items."""
    warm = items.where("interactions > 0").groupBy("text_hash").agg(F.min("item_id").alias("warm"))
    cold = items.where("interactions = 0").join(warm, "text_hash", "left")
    same = F.when(F.col("warm").isNotNull(), F.struct("item_id", "warm"))
    found = row_of(cold.agg(*counted(same)))
    example = found["least"] and f"item {found['least']['item_id']} reads as item {found['least']['warm']}"
    return ("cold_with_a_warm_text", found["some"], share_of(found), example)


def texts_that_name_a_user(interactions: DataFrame, texts: DataFrame, seed: int) -> Row:
    """Items in whose text an id of a user of the log stands by itself; ids of six characters and more, at most 10,000, drawn by a hash.

    Share of all items; none, and no item, where no id is so long.
    """
    ids = interactions.select(F.col("user_id").cast("string").alias("id")).where(F.length("id") >= SHORTEST_ID)
    drawn = ids.distinct().orderBy(F.xxhash64(F.lit(seed), "id"), "id").limit(SAMPLED_IDS)
    names = frozenset(row["id"] for row in drawn.collect())
    if not names:
        return ("texts_that_name_a_user", 0, None, None)
    lengths = sorted({len(name) for name in names})

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            named = [first_named(text, names, lengths) for text in batch.column("text").to_pylist()]
            yield pa.RecordBatch.from_arrays(
                [batch.column("item_id"), pa.array(named, pa.string())], ["item_id", "named"]
            )

    id_type = texts.schema["item_id"].dataType.simpleString()
    looked = texts.select("item_id", "text").mapInArrow(look, f"item_id {id_type}, named string")
    one = F.when(F.col("named").isNotNull(), F.struct("item_id", "named"))
    found = row_of(looked.agg(*counted(one)))
    example = found["least"] and f"item {found['least']['item_id']} names user {found['least']['named']}"
    return ("texts_that_name_a_user", found["some"], share_of(found), example)


def counted(found: Column) -> list[Column]:
    """`all` rows, `some` where the column is not null, and the `least` of these."""
    return [F.count(F.lit(1)).alias("all"), F.count(found).alias("some"), F.min(found).alias("least")]


def share_of(counts: dict[str, Any]) -> float | None:
    """None where there was nothing to look at."""
    return counts["some"] / counts["all"] if counts["all"] else None


def row_of(aggregate: DataFrame) -> dict[str, Any]:
    """The one row of an aggregate without groups."""
    row = aggregate.first()
    assert row is not None
    return row.asDict()


def time_of(micros: int) -> str:
    return f"{EPOCH + datetime.timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S} UTC"
