"""What forks Spark's Python workers (spark.python.daemon.module): pyspark's own daemon, less what every task would pay for anew.

A worker invalidates Python's import caches before each task (`setup_spark_files` in pyspark.worker_util), and Python up to 3.11 then
reads the index of every zip file on its path again, once for each package found in it. Spark puts pyspark, py4j and the jar of its
core there: more work than most small tasks. Zip files do not change while an application runs. And what nearly
every task needs is loaded here, before the workers are forked. What Horovod's threads in a worker fail with when ranks are stopped is
not printed.
"""

import runpy
import threading
import zipimport

import pandas  # noqa: F401
import pyarrow  # noqa: F401

from recspark.exits import Leftovers


def main() -> None:
    """Serve as the daemon until Spark ends it."""
    zipimport.zipimporter.invalidate_caches = keep_caches  # type: ignore[method-assign, assignment]
    threading.excepthook = Leftovers(threading.excepthook)
    runpy.run_module("pyspark.daemon", run_name="__main__")


def keep_caches(importer: zipimport.zipimporter) -> None:
    """The index of a zip file stays as it was read."""


if __name__ == "__main__":
    main()
