"""What Spark keeps in memory, for tests that a stage leaves nothing behind."""

from pyspark.sql import SparkSession


def kept(spark: SparkSession) -> set[int]:
    """Ids of what is persisted now. Compare with what was before: Spark's own ALS, in a test of the same process, leaves some."""
    return set(spark.sparkContext._jsc.getPersistentRDDs().keySet())  # type: ignore[attr-defined]
