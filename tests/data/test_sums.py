from pyspark.sql import SparkSession

from recspark.data.sums import exact_mean, exact_sum

NUMBERS = [0.1, 0.2, 0.3, 1e6, 1e-9, -1e6, 0.7]


def totals(spark: SparkSession, numbers: list[float], partitions: int) -> tuple[float, float]:
    frame = spark.createDataFrame([(n,) for n in numbers], "n double").repartition(partitions)
    row = frame.agg(exact_sum("n").alias("sum"), exact_mean("n").alias("mean")).first()
    assert row is not None
    return row["sum"], row["mean"]


def test_sums_are_the_same_to_the_last_bit_in_any_order(spark: SparkSession):
    assert sum(NUMBERS) != sum(sorted(NUMBERS))  # floating point is not
    first = totals(spark, NUMBERS, 1)
    assert first == totals(spark, NUMBERS[::-1], 3) == totals(spark, sorted(NUMBERS), 2)
    assert first[0] == 1.300000001


def test_nulls_count_for_nothing(spark: SparkSession):
    frame = spark.createDataFrame([(1.0,), (None,), (2.0,)], "n double")
    row = frame.agg(exact_sum("n").alias("sum"), exact_mean("n").alias("mean")).first()
    assert row is not None
    assert (row["sum"], row["mean"]) == (3.0, 1.5)
