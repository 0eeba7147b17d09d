"""Cleaning: every raw row is kept or rejected with its reason; then duplicates and thin users and items go.

A judged frame has the table's columns in our types, `reason` (null for a row that is kept) and `row` (the raw row as JSON,
null for a row that is kept). What a row says is judged by Spark expressions alone, whatever the partitioning.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recspark.data.raw import RawInteractions, column_names
from recspark.data.values import at, is_blank, microseconds, number, whole_number
from recspark.errors import UserError

WHERE = "preprocess.interactions: column"
EXAMPLES = 3
MOST_WEIGHT = 1e12  # of one event; sums of so many as a log can have are still exact (`data.sums`)


def latest_moment(run_date: datetime.date, today: datetime.date) -> datetime.datetime:
    """The first moment that is the far future: the end of the day after the run date or after today, whichever is later.

    The day's grace is for clocks and time zones. An old run date with later events is a backfill, and these are kept.
    """
    return datetime.datetime.combine(max(run_date, today) + datetime.timedelta(days=2), datetime.time(), datetime.UTC)


def judge_interactions(
    raw: DataFrame, known_items: DataFrame, table: RawInteractions, latest: datetime.datetime, seed: int
) -> DataFrame:
    """`raw.read_interactions` -> user_id, item_id, order_key, event_time, rating, weight, event_type, raw_split, reason, row.

    `known_items` (item_id) are the items that were kept. Without a timestamp or an order, order_key is a hash of the ids.
    """
    known = known_items.select("item_id", F.lit(True).alias("known"))
    # Values are read in a projection of their own: Spark would evaluate them anew in each place that names them.
    values = typed_values(raw.join(known, "item_id", "left"), table, seed)
    reason = first_fault(
        ("null_user_id", blank(raw, "user_id")),
        ("null_item_id", blank(raw, "item_id")),
        *order_faults(raw, latest),
        *number_faults(raw, "rating"),
        *number_faults(raw, "weight"),
        ("negative_weight", F.col("typed_weight") < 0),
        ("huge_weight", F.col("typed_weight") > MOST_WEIGHT),
        ("unknown_item", F.col("known").isNull()),
    )
    no_time = F.lit(None).cast("timestamp")
    judged = values.withColumn("reason", reason)
    raw_row = F.struct(*(F.col(ours).alias(theirs) for ours, theirs in column_names(table.columns).items()))
    return judged.select(
        "user_id",
        "item_id",
        "order_key",
        (F.timestamp_micros("order_key") if "timestamp" in raw.columns else no_time).alias("event_time"),
        F.col("typed_rating").alias("rating"),
        F.coalesce("typed_weight", F.lit(1.0)).alias("weight"),
        optional_string(raw, "event_type").alias("event_type"),
        optional_string(raw, "split").alias("raw_split"),
        "reason",
        F.when(F.col("reason").isNotNull(), F.to_json(raw_row, {"ignoreNullFields": "false"})).alias("row"),
    )


def typed_values(frame: DataFrame, table: RawInteractions, seed: int) -> DataFrame:
    """Adds order_key, typed_rating and typed_weight: null where the raw value is blank or cannot be read."""
    types = {f.name: f.dataType for f in frame.schema.fields}
    names = column_names(table.columns)

    def typed(ours: str) -> Column:
        if ours not in names:
            return F.lit(None).cast("double")
        return number(F.col(ours), types[ours], f"{WHERE} {names[ours]!r}")

    key = F.xxhash64(F.lit(seed), "user_id", "item_id")
    if "timestamp" in names:
        where = f"{WHERE} {names['timestamp']!r}"
        key = microseconds(F.col("timestamp"), types["timestamp"], table.time_unit, where)
    elif "order" in names:
        key = whole_number(F.col("order"), types["order"], f"{WHERE} {names['order']!r}")
    return frame.withColumns({"order_key": key, "typed_rating": typed("rating"), "typed_weight": typed("weight")})


def order_faults(raw: DataFrame, latest: datetime.datetime) -> list[tuple[str, Column]]:
    """What may be wrong with the time or the order."""
    key = F.col("order_key")
    if "timestamp" in raw.columns:
        return [
            ("null_time", blank(raw, "timestamp")),
            ("unparsable_time", key.isNull()),
            ("negative_time", key < 0),
            ("future_time", key >= int(latest.timestamp()) * 1_000_000),
        ]
    if "order" in raw.columns:
        return [("null_order", blank(raw, "order")), ("unparsable_order", key.isNull())]
    return []


def number_faults(raw: DataFrame, name: str) -> list[tuple[str, Column]]:
    """What may be wrong with an optional number; a blank is not."""
    if name not in raw.columns:
        return []
    value = F.col(f"typed_{name}")
    return [
        (f"unparsable_{name}", value.isNull() & ~blank(raw, name)),
        (f"not_finite_{name}", F.isnan(value) | (F.abs(value) == float("inf"))),
    ]


def blank(raw: DataFrame, name: str) -> Column:
    """Whether a raw value is null or only white space."""
    return is_blank(F.col(name), raw.schema[name].dataType)


def judge_items(prepared: DataFrame) -> DataFrame:
    """item_id, title, text, text_hash, token_ids, attributes, row -> the same and reason; row is null for items kept.

    Of several rows with one id, the one whose raw row has the smallest hash is kept, whatever the order they came in.
    """
    judged = prepared.withColumn(
        "reason",
        first_fault(
            ("null_item_id", blank(prepared, "item_id")),
            ("no_text", F.col("text") == ""),
        ),
    )
    return reject_duplicates(judged, "item_id")


def judge_users(raw: DataFrame) -> DataFrame:
    """user_id, attributes, row -> the same and reason; duplicates as for items."""
    fault = first_fault(("null_user_id", blank(raw, "user_id")))
    return reject_duplicates(raw.withColumn("reason", fault), "user_id")


def reject_duplicates(judged: DataFrame, key: str) -> DataFrame:
    """Rejects all but one of the so far faultless rows of a key; takes `row` from those kept."""
    faultless = F.col("reason").isNull()
    same = Window.partitionBy(key, faultless).orderBy(F.xxhash64("row"), "row")
    copy = judged.withColumn("copy", F.row_number().over(same))
    reason = F.when(faultless & (F.col("copy") > 1), F.lit(f"duplicate_{key}")).otherwise(F.col("reason"))
    marked = copy.withColumn("reason", reason).drop("copy")
    return marked.withColumn("row", F.when(F.col("reason").isNotNull(), F.col("row")))


def first_fault(*faults: tuple[str, Column]) -> Column:
    """The name of the first condition that holds, or null."""
    return F.coalesce(*(F.when(condition, name) for name, condition in faults))


def optional_string(frame: DataFrame, name: str) -> Column:
    """A column as string, or null where the raw data has none."""
    return at(name).cast("string") if name in frame.columns else F.lit(None).cast("string")


def kept(judged: DataFrame) -> DataFrame:
    """The rows without a reason."""
    return judged.where("reason IS NULL").drop("reason", "row")


def rejected(judged: DataFrame, source: str) -> DataFrame:
    """The rows with one, as the rejects table has them."""
    return judged.where("reason IS NOT NULL").select(F.lit(source).alias("source"), "reason", "row")


# ---- how many


@dataclass(frozen=True)
class Tally:
    """Rows of one source: in all, and rejected by reason."""

    source: str
    rows: int
    rejects: dict[str, int]

    @property
    def rejected(self) -> int:
        return sum(self.rejects.values())


def tally(judged: DataFrame, source: str) -> Tally:
    """Counts the judged rows; the frame is computed here if it is to be kept in memory.

    Raises UserError if there is none.
    """
    counts = {r["reason"]: int(r["count"]) for r in judged.groupBy("reason").count().collect()}
    if not counts:
        raise UserError(f"preprocess.{source}: the table is empty; expected at least one row")
    by_size = sorted(((n, reason) for reason, n in counts.items() if reason is not None), key=lambda x: (-x[0], x[1]))
    return Tally(source, sum(counts.values()), {reason: n for n, reason in by_size})


def require_few_rejects(judged: dict[str, DataFrame], tallies: Sequence[Tally], bound: float) -> None:
    """UserError with counts by reason and three examples each, for every source with a larger share of rejects."""
    reports = []
    for count in tallies:
        if count.rejected <= bound * count.rows:
            continue
        share = f"{count.rejected:,} of {count.rows:,} rows ({count.rejected / count.rows:.1%})"
        lines = [f"preprocess.{count.source}: {share} would be rejected"]
        for reason, rows in count.rejects.items():
            found = judged[count.source].where(F.col("reason") == reason).orderBy("row").limit(EXAMPLES).collect()
            lines += [f"  {reason}: {rows:,}", *(f"    {shown(r['row'])}" for r in found)]
        reports.append("\n".join(lines))
    if reports:
        advice = (
            f"the bound is preprocess.max_reject_fraction = {bound:g}; mend the data, or raise it. Nothing was written."
        )
        raise UserError("\n".join([*reports, advice]))


def require_some_left(tallies: Sequence[Tally]) -> None:
    """UserError for a source that nothing is left of: a bound of 1 allows that, but there would be nothing to work on."""
    for count in tallies:
        if count.rejected == count.rows:
            reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in count.rejects.items())
            raise UserError(
                f"preprocess.{count.source}: all {count.rows:,} rows are rejected ({reasons}), which preprocess.max_reject_fraction "
                "allows, and nothing is left; mend the data, or what the configuration says of its columns"
            )


def shown(row: str, most: int = 200) -> str:
    """A row for an error message."""
    return row if len(row) <= most else f"{row[:most]}…"
