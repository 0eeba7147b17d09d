"""One raw value becomes a number, a time or text, or null where it cannot be read; nothing raises while rows are read.

Each function takes a Spark column and its type. Strings are read by their look, so CSV and typed files are treated alike.
"""

from typing import Literal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recspark.errors import UserError

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
# 1e11 s and 1e11 ms are the years 5138 and 1973, and so on upward: a magnitude tells its unit for any event since 1973.
MAGNITUDES = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
LEAST = 1e8  # seconds, in March 1973: a smaller number is a day like 20260131, or counts something else
# Java's parser also takes "5d" and "5f", and a cast to a timestamp takes "12:03" (today!), "now" and "epoch".
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$|^\s*[+-]?(?i:nan|inf|infinity)\s*$"
BLANK = r"^[\s\p{Z}]*$"  # tabs, line ends and the no-break space among it
DATE = r"^\s*[+-]?\d{4,6}-\d"


def at(name: str) -> Column:
    """A column by its exact name, whatever stands in it."""
    return F.col("`" + name.replace("`", "``") + "`")


def is_blank(column: Column, data_type: T.DataType) -> Column:
    """Null, or a string of nothing but white space."""
    if isinstance(data_type, T.StringType):
        return column.isNull() | column.rlike(BLANK)
    return column.isNull()


def number(column: Column, data_type: T.DataType, where: str) -> Column:
    """double; NaN and infinities are numbers here.

    Raises UserError if the column is neither a number nor a string.
    """
    if isinstance(data_type, T.NumericType):
        return column.cast("double")
    if isinstance(data_type, T.StringType):
        return F.when(column.rlike(NUMBER), F.trim(column).try_cast("double"))
    raise UserError(f"{where} is {data_type.simpleString()}; it should be a number, or a string that reads as one")


def whole_number(column: Column, data_type: T.DataType, where: str) -> Column:
    """bigint, exact up to 64 bits; null where there is a fraction.

    Raises UserError if the column is neither a number nor a string.
    """
    as_double = number(column, data_type, where)
    # try_cast of a fraction truncates a double; a string with a fraction is null, but "3.0" should be 3
    via_double = F.when(as_double == F.floor(as_double), as_double.try_cast("bigint"))
    if isinstance(data_type, T.IntegralType) or (isinstance(data_type, T.DecimalType) and data_type.scale == 0):
        return column.try_cast("bigint")
    if isinstance(data_type, T.StringType):
        return F.coalesce(F.trim(column).try_cast("bigint"), via_double)
    return via_double


def microseconds(column: Column, data_type: T.DataType, unit: TimeUnit, where: str) -> Column:
    """bigint microseconds since 1970 UTC, from numbers of a unit, ISO 8601 strings, dates or timestamps.

    Raises UserError for any other type.
    """
    if isinstance(data_type, T.DateType | T.TimestampType | T.TimestampNTZType):
        return F.unix_micros(column.cast("timestamp"))
    if isinstance(data_type, T.NumericType):
        return scaled(column.cast("double"), unit)
    if isinstance(data_type, T.StringType):
        as_date = F.when(column.rlike(DATE), F.unix_micros(F.trim(column).try_cast("timestamp")))
        return F.coalesce(scaled(number(column, data_type, where), unit), as_date)
    raise UserError(
        f"{where} is {data_type.simpleString()}; it should be a number of {', '.join(MICROSECONDS)}, an ISO 8601 string, "
        "a date or a timestamp"
    )


def scaled(value: Column, unit: TimeUnit) -> Column:
    """A double in a unit -> bigint microseconds; null for NaN, infinities and what 64 bits cannot hold, and for what `auto` cannot tell."""
    if unit != "auto":
        factor = F.lit(MICROSECONDS[unit])
    else:
        factor = F.lit(MICROSECONDS["ns"])
        for limit, name in reversed(MAGNITUDES):
            factor = F.when(F.abs(value) < limit, MICROSECONDS[name]).otherwise(factor)
        value = F.when((value < 0) | (value >= LEAST), value)
    return F.rint(value * factor).try_cast("bigint")


def plain_text(column: Column, data_type: T.DataType, where: str) -> Column:
    """string, never null: lists joined by ", ", whole doubles without ".0", null as "".

    Raises UserError for maps, structs and binary.
    """
    if isinstance(data_type, T.ArrayType):
        elements = F.transform(column, lambda e: plain_text(e, data_type.elementType, where))
        return F.coalesce(F.array_join(F.filter(elements, lambda e: e != ""), ", "), F.lit(""))
    if isinstance(data_type, T.MapType | T.StructType | T.BinaryType):
        raise UserError(
            f"{where} is {data_type.simpleString()}; name a text, number, date or list column, or make one in `sql`"
        )
    if isinstance(data_type, T.DoubleType | T.FloatType):
        whole = (column == F.floor(column)) & (
            F.abs(column) < 1e15
        )  # a year in a column with nulls is 1995.0 to pandas
        return F.coalesce(F.when(whole, column.try_cast("bigint").cast("string")), column.cast("string"), F.lit(""))
    return F.coalesce(F.make_valid_utf8(column.cast("string")), F.lit(""))
