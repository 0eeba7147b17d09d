"""A log that arrives by the day: what of it a night reads."""

import datetime
import logging

from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.sources import RawTable, sub_folders
from recspark.data.values import at
from recspark.errors import UserError

log = logging.getLogger("recspark")


class Arrived(Settings):
    """The date on which a row of the log arrived, whenever it happened: usually the sub-folder it lies in."""

    column: str = Field(description="a date, or a string such as 2026-11-28; name of the sub-folders for path")
    days: int | None = Field(
        None, ge=1, description="a night reads what arrived on so many days, its own the last; null: all before, too"
    )


def folders_by(spark: SparkSession, table: RawTable, arrived: Arrived, run_date: datetime.date) -> list[str] | None:
    """Of a path with a sub-folder a day, those that had arrived by the run date: files of other days are not looked at, also not for their types.

    None, for all, where the days are no sub-folders, or there is something to say of them that `arrived_by` says.
    """
    found = sub_folders(spark, "preprocess.interactions", table.path, arrived.column) if table.path else {}
    try:
        dated = {datetime.date.fromisoformat(value): folder for value, folder in found.items()}
    except ValueError:
        return None
    first, before = first_day(arrived, run_date), [date for date in dated if date < run_date]
    if dated and run_date not in dated and before:
        log.warning(
            "preprocess.interactions.arrived: nothing is there that arrived on %s, only by %s; if it comes later, run the date again",
            run_date,
            max(before),
        )
    return [
        folder for date, folder in sorted(dated.items()) if date <= run_date and not (first and date < first)
    ] or None


def first_day(arrived: Arrived, run_date: datetime.date) -> datetime.date | None:
    """Of what a night reads; None for all before."""
    return run_date - datetime.timedelta(days=arrived.days - 1) if arrived.days else None


def arrived_by(frame: DataFrame, arrived: Arrived, run_date: datetime.date) -> DataFrame:
    """The rows that arrived on the run date or before, as far back as the settings say."""
    where, date = (
        f"preprocess.interactions.arrived: column {arrived.column!r}",
        at(arrived.column).cast("string").try_cast("date"),
    )
    wrong = frame.where(date.isNull()).select(at(arrived.column).cast("string").alias("found")).first()
    if wrong is not None:
        raise UserError(f"{where} holds {wrong['found']!r}, which is no date; dates such as {run_date} were expected")
    first = first_day(arrived, run_date)
    found = frame.where(date <= F.lit(run_date))
    found = found.where(date >= F.lit(first)) if first else found
    if found.isEmpty():
        ends = frame.agg(F.min(date).alias("first"), F.max(date).alias("last")).first()
        there = f"from {ends['first']} to {ends['last']}" if ends and ends["first"] else "none at all"
        span = f"from {first} to {run_date}" if first else f"by {run_date}"
        raise UserError(f"{where} has no row that arrived {span}; there are {there}")
    return found
