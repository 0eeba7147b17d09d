"""The lake's tables as views of one name each, over all run dates, in Spark SQL or in DuckDB.

A view is named like its table and has one more column, `run_date` (a date). The queries of jobs/sql run over these views in
both, unchanged. A view is of the run dates at the moment it was made: after a night, make it again.
"""

from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from recspark.lake import Lake
from recspark.lake.places import VERSIONS
from recspark.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VERSION = "version"  # a column that the path of a table's folder gives; nobody's business


def spark_views(spark: SparkSession, lake: Lake) -> list[str]:
    """Make a temporary view of each table that has a run date; returns their names."""
    names = table_names(lake)
    for name in names:
        frames = [
            spark.read.option("basePath", base).parquet(*paths).drop(VERSION)
            for base, paths in paths_by_base(lake, name).items()
        ]
        whole = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)
        whole.createOrReplaceTempView(name)
    return names


def duckdb_views(connection: "DuckDBPyConnection", lake: Lake) -> list[str]:
    """As `spark_views`, in a DuckDB connection. For a lake that is no local folder DuckDB needs its own extension loaded."""
    names = table_names(lake)
    for name in names:
        selects = [duckdb_select(paths) for paths in paths_by_base(lake, name).values()]
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {' UNION ALL BY NAME '.join(selects)}")
    return names


def duckdb_select(paths: list[str]) -> str:
    """All files below folders of one base."""
    files = ", ".join("'" + f"{path}/**/*.parquet".replace("'", "''") + "'" for path in paths)
    columns = f"* EXCLUDE ({VERSION})" if f"/{VERSION}=" in paths[0] else "*"
    return f"SELECT {columns} FROM read_parquet([{files}], hive_partitioning = true, hive_types = {{'run_date': DATE}})"


def paths_by_base(lake: Lake, name: str) -> dict[str, list[str]]:
    """Where the files of a table's run dates lie, by the folder below which their paths say what Spark makes columns of."""
    found: dict[str, list[str]] = {}
    for path, _ in lake.nights_of(TABLES[name]).values():
        own = lake.path(name)
        found.setdefault(own if path.startswith(f"{own}/") else lake.path(f"{VERSIONS}/{name}"), []).append(path)
    return found


def table_names(lake: Lake) -> list[str]:
    """Tables that the lake has for any run date."""
    return [name for name, table in TABLES.items() if any(lake.has(table, date) for date in lake.run_dates(table))]
