"""Raw values become numbers, times and text, or null."""

import datetime
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recspark.data.values import TimeUnit, is_blank, microseconds, number, plain_text, whole_number
from recspark.errors import UserError

DAY = 875_000_000  # 23 September 1997, in seconds


def column(spark: SparkSession, values: list[Any], data_type: str) -> Any:
    return spark.createDataFrame([(v,) for v in values], f"v {data_type}")


def times(spark: SparkSession, values: list[Any], data_type: str, unit: TimeUnit = "auto") -> list[int | None]:
    frame = column(spark, values, data_type)
    return [
        r[0] for r in frame.select(microseconds(F.col("v"), frame.schema["v"].dataType, unit, "timestamp")).collect()
    ]


def test_auto_tells_seconds_milli_micro_and_nanoseconds_apart(spark: SparkSession) -> None:
    assert times(spark, [DAY, DAY * 10**3, DAY * 10**6, DAY * 10**9], "bigint") == [DAY * 10**6] * 4


def test_auto_takes_no_number_for_a_time_that_is_a_day_or_counts_something(spark: SparkSession) -> None:
    assert times(spark, [20260131, 0, 99_999_999], "bigint") == [None] * 3
    assert times(spark, ["20260131"], "string") == [None]
    assert times(spark, [-5, 10**8 + 1], "bigint") == [-5_000_000, (10**8 + 1) * 10**6]
    assert times(spark, [20260131], "bigint", "s") == [20260131 * 10**6]


def test_strings_are_numbers_or_iso_dates_and_nothing_else(spark: SparkSession) -> None:
    given = [
        "875000000",
        "875000000.5",
        "1997-09-23",
        "1997-09-23T00:00:00+02:00",
        "12:03",
        "now",
        "epoch",
        "soon",
        "5d",
        "NaN",
    ]
    day = 874_972_800 * 10**6  # 1997-09-23 00:00 UTC
    assert times(spark, given, "string") == [
        DAY * 10**6,
        DAY * 10**6 + 500_000,
        day,
        day - 7200 * 10**6,
        *[None] * 6,
    ]


def test_a_unit_given_is_a_unit_taken(spark: SparkSession) -> None:
    assert times(spark, [5, 10**11], "bigint", "ms") == [5_000, 10**14]


def test_dates_and_timestamps_keep_their_microseconds(spark: SparkSession) -> None:
    moment = datetime.datetime(1970, 1, 1, 0, 0, 1, 7, tzinfo=datetime.UTC)
    assert times(spark, [moment], "timestamp") == [1_000_007]
    assert times(spark, [datetime.date(1970, 1, 2)], "date") == [86_400 * 10**6]


def test_what_64_bits_cannot_hold_is_null(spark: SparkSession) -> None:
    assert times(spark, [1e30, float("nan"), float("-inf")], "double", "s") == [None, None, None]


def test_numbers_by_their_look(spark: SparkSession) -> None:
    frame = column(spark, [" 3 ", "4.5", "1e2", "-.5", "5d", "0x10", "", "four"], "string")
    found = [r[0] for r in frame.select(number(F.col("v"), frame.schema["v"].dataType, "rating")).collect()]
    assert found == [3.0, 4.5, 100.0, -0.5, None, None, None, None]


def test_whole_numbers_are_exact_to_64_bits_and_fractions_null(spark: SparkSession) -> None:
    frame = column(spark, ["9007199254740993", "3.0", "3.5", "x"], "string")
    found = [r[0] for r in frame.select(whole_number(F.col("v"), frame.schema["v"].dataType, "order")).collect()]
    assert found == [2**53 + 1, 3, None, None]


def test_blank_is_null_or_only_white_space(spark: SparkSession) -> None:
    frame = column(spark, [None, "", "  ", "\t\r\n", "\u00a0\u3000", "0", " . "], "string")
    assert [r[0] for r in frame.select(is_blank(F.col("v"), frame.schema["v"].dataType)).collect()] == [
        True,
        True,
        True,
        True,
        True,
        False,
        False,
    ]


def test_text_of_lists_and_whole_doubles(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(["a", None, "b"], 1995.0, 4.5, None)], "l array<string>, y double, r double, n string"
    )
    texts = [plain_text(F.col(f.name), f.dataType, f.name) for f in frame.schema.fields]
    assert list(frame.select(*texts).first() or ()) == ["a, b", "1995", "4.5", ""]


@pytest.mark.parametrize("data_type", ["array<string>", "boolean", "map<string,string>"])
def test_wrong_type_of_a_time_is_one_error(spark: SparkSession, data_type: str) -> None:
    times_type = spark.createDataFrame([], f"v {data_type}").schema["v"].dataType
    with pytest.raises(UserError, match="column 'when' is"):
        microseconds(F.col("v"), times_type, "auto", "column 'when'")
