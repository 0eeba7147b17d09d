"""Sums that do not depend on the order Spark adds in: decimals, where floating-point would differ in the last bits."""

from pyspark.sql import Column
from pyspark.sql import functions as F

EXACT = "decimal(38,12)"


def exact_sum(column: str | Column) -> Column:
    """Sum of numbers to 12 decimals, as a double."""
    value = F.col(column) if isinstance(column, str) else column
    return F.sum(value.cast(EXACT)).cast("double")


def exact_mean(column: str | Column) -> Column:
    """Mean of numbers to 12 decimals, as a double."""
    value = F.col(column) if isinstance(column, str) else column
    return F.sum(value.cast(EXACT)).cast("double") / F.count(value)
