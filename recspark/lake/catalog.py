"""The lake's tables in Spark's catalog, where spark-sql, the Thrift server and whatever else knows the metastore read them by name."""

import datetime
import logging
import re
from collections.abc import Callable, Sequence

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import DateType

from recspark.errors import RunFailed, UserError
from recspark.lake import Lake
from recspark.tables import TABLES, Table

CATALOG = "spark.sql.catalogImplementation"
TOLD = "recspark.told"  # a table's property: of what was written before, the catalog knows where it lies
log = logging.getLogger("recspark")


def require_metastore(spark: SparkSession, database: str) -> None:
    """UserError where the session's catalog would end with the session."""
    if spark.conf.get(CATALOG) != "hive":
        raise UserError(
            f"publish.catalog is {database}, but the session's catalog is in memory and would end with it; set spark.conf: "
            f"{{{CATALOG}: hive}}, and where the metastore is (jobs/sql/README.md)"
        )


def teller(spark: SparkSession, lake: Lake, database: str) -> Callable[[Table], bool]:
    """What tells the catalog of a table that has just taken its place, before what was there goes (`Lake.tell`).

    Whether it could: where the metastore does not answer the night goes on, the catalog's readers have the table before, and `register` tells all.
    """

    def tell(table: Table) -> bool:
        try:
            register_tables(spark, lake, database, [table])
        except RunFailed as error:
            log.warning("  %s", error)
            return False
        return True

    return tell


def register(spark: SparkSession, lake: Lake, database: str) -> list[str]:
    """Make every table that is not laid out for ranks an external table of the database, with all its run dates; returns their names.

    Dates that have gone go there, too. The catalog has the names alone: dropping a table there leaves the lake as it is.

    Raises RunFailed if the metastore does not answer; the lake has all its tables then.
    """
    names = register_tables(spark, lake, database, [table for table in TABLES.values() if lake.has(table)])
    log.info("  in the catalog as %s: %s", database, ", ".join(names))
    return names


def register_tables(spark: SparkSession, lake: Lake, database: str, tables: Sequence[Table]) -> list[str]:
    """As `register`, of tables that are in the lake."""
    tables = [table for table in tables if not table.folders]
    try:
        spark.sql(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        for table in tables:
            put(spark, lake, database, table)
    except (PySparkException, Py4JJavaError) as error:
        raise RunFailed(
            f"{', '.join(table.name for table in tables)} of {lake.run_date} are in the lake, but the catalog {database} could not be brought up to "
            f"date: {str(error).strip().splitlines()[0]}; publish tells it of all, when the metastore is there"
        ) from error
    return [table.name for table in tables]


def put(spark: SparkSession, lake: Lake, database: str, table: Table) -> None:
    """One table; made anew where it has other columns than the run date's, or lies elsewhere.

    Where a date's files lie, the catalog is told by one statement: who asks by name has the table before, or the one after. It is told again of what was
    written since it was last told, and a day before that, as clocks differ.
    """
    name, place = f"`{database}`.`{table.name}`", lake.path(table.name)
    columns = spark.read.parquet(lake.table_path(table)).schema.add("run_date", DateType())
    if spark.catalog.tableExists(name) and (
        spark.table(name).schema != columns or location(spark, name) != plain(place)
    ):
        spark.sql(f"DROP TABLE {name}")
    if not spark.catalog.tableExists(name):
        spark.sql(
            f"CREATE TABLE {name} ({columns.toDDL()}) USING parquet PARTITIONED BY (run_date) "
            f"LOCATION {literal(place)} COMMENT {literal(table.meaning)}"
        )
    now = datetime.datetime.now(datetime.UTC)
    told = properties(spark, name).get(TOLD, "")
    has = {row["partition"].removeprefix("run_date=") for row in spark.sql(f"SHOW PARTITIONS {name}").collect()}
    nights = {str(date): (f"LOCATION {literal(path)}", about) for date, (path, about) in lake.nights_of(table).items()}
    if gone := [partition(date) for date in sorted(has - set(nights))]:
        spark.sql(f"ALTER TABLE {name} DROP IF EXISTS {', '.join(gone)}")
    if new := [f"{partition(date)} {place}" for date, (place, _) in nights.items() if date not in has]:
        spark.sql(f"ALTER TABLE {name} ADD IF NOT EXISTS {' '.join(new)}")
    for date, (place, manifest) in nights.items():
        if date in has and manifest.get("written_at", told) >= told:
            spark.sql(f"ALTER TABLE {name} {partition(date)} SET {place}")
    margin = (now - datetime.timedelta(days=1)).isoformat()
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({literal(TOLD)} = {literal(margin)})")


def partition(date: str) -> str:
    """As SQL has a run date's."""
    return f"PARTITION (run_date = DATE'{date}')"


def properties(spark: SparkSession, name: str) -> dict[str, str]:
    """Of a table of the catalog."""
    return {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}


def location(spark: SparkSession, name: str) -> str:
    """Where a table of the catalog lies."""
    rows = spark.sql(f"DESCRIBE TABLE EXTENDED {name}").where("col_name = 'Location'").collect()
    return plain(rows[0]["data_type"])


def literal(text: str) -> str:
    """As SQL has a string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def plain(path: str) -> str:
    """A path or URI as it compares: Spark writes local paths as file:/a."""
    return re.sub("^file:/+", "/", path).rstrip("/")
