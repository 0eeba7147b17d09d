"""The lake's tables as views of one name each, over all run dates, in Spark SQL or in DuckDB.

A view is named like its table and has one more column, `run_date` (a date). The queries of jobs/sql run over these views in
both, unchanged. Both look into the folders when a view is made (Spark) or read (DuckDB): after a new run date, make the
Spark views again.
"""

from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from recspark.lake import Lake
from recspark.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def spark_views(spark: SparkSession, lake: Lake) -> list[str]:
    """Make a temporary view of each table that has a run date; returns their names."""
    names = table_names(lake)
    for name in names:
        frame = spark.read.parquet(lake.path(name))
        frame.createOrReplaceTempView(name)
    return names


def duckdb_views(connection: "DuckDBPyConnection", lake: Lake) -> list[str]:
    """As `spark_views`, in a DuckDB connection. For a lake that is no local folder DuckDB needs its own extension loaded."""
    names = table_names(lake)
    for name in names:
        files = lake.path(f"{name}/run_date=*/**/*.parquet").replace("'", "''")
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {name} AS "
            f"SELECT * FROM read_parquet('{files}', hive_partitioning = true, hive_types = {{'run_date': DATE}})"
        )
    return names


def table_names(lake: Lake) -> list[str]:
    """Tables that the lake has for any run date."""
    return [name for name, table in TABLES.items() if lake.run_dates(table)]
