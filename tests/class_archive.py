"""Spark's Java classes, parsed and verified once for all JVMs of the tests: `.venv/spark-classes.jsa`. `make test` runs this once.

Every test of a whole night starts JVMs that load the same ten thousand classes from the same jars. The JVM can write them down as it
ends and map them from then on (class data sharing, https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html). An archive of
another Java or of other jars is not used; without one everything runs as well, only later.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recspark.session import SparkSettings, build
from tests import jvm

WORK = "--work"  # this module is its own child


def make(archive: Path) -> bool:
    """Run a small Spark application whose JVM writes down its classes. Whether it did."""
    new = archive.with_suffix(".new")
    new.unlink(missing_ok=True)
    # Not JDK_JAVA_OPTIONS: what works out Spark's command line is a JVM as well, and would write down its own.
    options = f"-XX:ArchiveClassesAtExit={new} {jvm.SHORT_LIVED} -Xlog:disable"
    env = {**os.environ, "SPARK_SUBMIT_OPTS": options, "OMP_NUM_THREADS": "1"}
    # The JVM outlives its Python by the time it takes to write; it holds the pipe, which is read to its end.
    done = subprocess.run(
        [sys.executable, "-m", "tests.class_archive", WORK], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode or not new.exists():
        print(done.stderr[-2000:], file=sys.stderr)
        return False
    new.replace(archive)
    return True


def work(folder: Path) -> None:
    """Something of what a night does: files of three kinds, joins, windows, Python workers, Spark's ALS."""
    conf = {"spark.ui.showConsoleProgress": "false", "spark.sql.shuffle.partitions": "2"}
    spark = build(SparkSettings(master="local[2]", conf=conf))
    numbers = spark.range(200).selectExpr("id AS user", "id % 7 AS item", "1.0 AS rating", "CAST(id AS string) AS text")
    numbers.write.parquet(f"{folder}/parquet")
    numbers.write.csv(f"{folder}/csv", header=True)
    numbers.write.json(f"{folder}/json")
    table = spark.read.parquet(f"{folder}/parquet")
    written = spark.read.csv(f"{folder}/csv", header=True, inferSchema=True)
    ordered = table.withColumn("rank", F.row_number().over(Window.partitionBy("item").orderBy(F.desc("user"))))
    counts = ordered.join(written.select("user"), "user").groupBy("item").agg(F.collect_list("rank"), F.count("*"))
    counts.join(F.broadcast(spark.read.json(f"{folder}/json")), "item").toPandas()
    in_python(table).write.partitionBy("item").parquet(f"{folder}/again")
    ALS(userCol="user", itemCol="item", maxIter=1, implicitPrefs=True).fit(table).recommendForAllUsers(2).collect()
    spark.stop()


def in_python(table: DataFrame) -> DataFrame:
    """The same rows, after two kinds of Python workers."""

    def each(frames: Iterable[pd.DataFrame]) -> Iterable[pd.DataFrame]:
        yield from frames

    def group(frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    schema = table.schema
    return table.mapInPandas(each, schema).groupBy("item").applyInPandas(group, schema)


def main() -> int:
    if WORK in sys.argv:
        with tempfile.TemporaryDirectory(prefix="recspark-classes-") as folder:
            work(Path(folder))
        return 0
    print("test: writing down Spark's Java classes for the tests' JVMs, about a minute ...", flush=True)
    if not make(jvm.ARCHIVE):
        print("test: they could not be written down; the tests do without, more slowly", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
