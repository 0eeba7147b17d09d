"""The only place that builds a Spark session; and `submit`, which is all that a job does.

Threads: a task has `spark.task.cpus` of them, and every library that brings its own (BLAS, torch, the tokenizer) is told so,
on the driver before the JVM starts (local workers inherit it) and on executors through their environment.
"""

import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseServer
from typing import Any

from pydantic import Field
from pyspark import SparkConf, SparkContext
from pyspark.accumulators import AccumulatorServer
from pyspark.sql import SparkSession

from recspark.config import Settings
from recspark.exits import WORKER_DAEMON

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class SparkSettings(Settings):
    """How the session is built. What spark-submit or spark-defaults already set is kept, but for what `conf` names."""

    master: str | None = Field(None, description="such as local[2]; leave out where spark-submit names it")
    driver_memory: str = Field("2g", description="memory of the driver's JVM; under spark-submit set it there")
    conf: dict[str, str] = Field({}, description="further Spark settings, such as spark.sql.shuffle.partitions")


GATEWAY = "PYSPARK_GATEWAY_PORT"
SECRET = re.compile("secret|password|token|access[.]?key", re.IGNORECASE)  # the default of spark.redaction.regex
PYTHON_DAEMON = "spark.python.daemon.module"
DEFAULTS = {
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "8",
    # Coalescing goes by bytes; a few bytes of vectors can be minutes of work for a Python worker.
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.ui.showConsoleProgress": "true",
    "spark.ui.enabled": "false",
    # Spark makes this folder where it stands; nothing of ours goes there.
    "spark.sql.warehouse.dir": f"{tempfile.gettempdir()}/recspark-warehouse",
    "spark.python.worker.reuse": "true",
    PYTHON_DAEMON: WORKER_DAEMON,
}


def build(settings: SparkSettings, app_name: str = "recspark") -> SparkSession:
    """The session of this process; an already running one is used as it is."""
    if GATEWAY in os.environ:  # of spark-submit, whose JVM is there already; SparkConf is empty until it is asked
        SparkContext._ensure_initialized()
    given = SparkConf()  # holds what spark-submit and spark-defaults said
    if settings.master and given.get("spark.master", "local[*]") == "local[*]":  # what spark-submit says if nobody does
        given.set("spark.master", settings.master)
    for key, value in {**DEFAULTS, "spark.driver.memory": settings.driver_memory, **settings.conf}.items():
        if key in settings.conf or not given.contains(key):
            given.set(key, value)
    threads = given.get("spark.task.cpus", "1")
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, threads or "1")
        given.setIfMissing(f"spark.executorEnv.{variable}", threads or "1")
    # py4j logs a stack trace for every connection that a thread left behind; what matters it raises as well.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(not_of_py4j)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if (given.get("spark.master") or "local").startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else workers take whatever python3 is first on PATH
    if "SPARK_CONF_DIR" not in os.environ and not given.contains("spark.driver.extraJavaOptions"):
        log_settings = Path(__file__).parent / "log4j2.properties"
        given.set("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={log_settings.as_uri()}")
    # Likewise the thread that adds accumulators up, where the JVM has ended.
    AccumulatorServer.handle_error = tell_unless_broken  # type: ignore[method-assign, assignment]
    # Spark's handler of SIGINT asks the JVM to cancel its jobs, which fails while the JVM is being asked for something else.
    with signals_kept():
        if GATEWAY not in os.environ:
            SparkContext._ensure_initialized(conf=for_all_to_read(given))
        return SparkSession.builder.config(conf=given).appName(app_name).getOrCreate()


def for_all_to_read(given: SparkConf) -> SparkConf:
    """What the JVM is started with, on a command line that everybody on this machine can read: all but what Spark itself would not print.

    The rest it is told once it is there.
    """
    open_to_all = SparkConf(loadDefaults=False)
    for key, value in given.getAll():
        if not SECRET.search(key):
            open_to_all.set(key, value)
    return open_to_all


def not_of_py4j(record: logging.LogRecord) -> bool:
    """For the root logger, to which py4j sends what it has to say of a JVM that ended while it was asked."""
    return "py4j" not in Path(record.pathname).parts


def tell_unless_broken(server: BaseServer, request: Any, address: Any) -> None:
    """What has no use is the trace of a connection that ended with the JVM; any other is printed."""
    error = sys.exc_info()[1]
    if isinstance(error, EOFError | ConnectionError):
        logging.getLogger("recspark").debug("a connection from Spark's JVM has broken: %s", error)
    else:
        BaseServer.handle_error(server, request, address)


@contextmanager
def signals_kept() -> Iterator[None]:
    """What SIGINT and SIGTERM do is afterwards what it was: for those who set handlers of their own, and leave them."""
    if threading.current_thread() is not threading.main_thread():  # where they could not
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def task_threads(spark: SparkSession) -> int:
    """Threads that one task may use."""
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)


def stop(spark: SparkSession) -> None:
    """End the session, so that the next one of this process starts afresh."""
    spark.stop()
