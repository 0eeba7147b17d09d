"""What forks Spark's Python workers (spark.python.daemon.module): pyspark's own daemon, less what every task would pay for anew.

A worker invalidates Python's import caches before each task (`setup_spark_files` in pyspark.worker_util), and Python up to 3.11 then
reads the index of every zip file on its path again, once for each package found in it. Spark puts pyspark, py4j and the jar of its
core there: more work than most small tasks. Zip files do not change while an application runs. And what nearly
every task needs is loaded here, before the workers are forked.

A worker also collects garbage after each task, while the next one waits for it. What modules are made of lives as long as the worker
and is by far the most there is to look at, longer than a small task takes where transformers is loaded; so it is looked at once and then left
alone (`make bench-workers`).

What Horovod's threads in a worker fail with when ranks are stopped is not printed.
"""

import gc
import runpy
import sys
import threading
import zipimport

import pandas  # noqa: F401
import pyarrow  # noqa: F401

from recspark.exits import Leftovers


def main() -> None:
    """Serve as the daemon until Spark ends it."""
    zipimport.zipimporter.invalidate_caches = keep_caches  # type: ignore[method-assign, assignment]
    threading.excepthook = Leftovers(threading.excepthook)
    gc.collect = Collector()
    gc.collect()
    runpy.run_module("pyspark.daemon", run_name="__main__")


class Collector:
    """`gc.collect`, which looks once at what is there after modules were loaded, and from then on at what has come since."""

    def __init__(self) -> None:
        self.collect = gc.collect
        self.modules = 0

    def __call__(self, generation: int = 2) -> int:
        """Returns how many objects were found that nothing leads to."""
        found = self.collect(generation)
        if len(sys.modules) != self.modules:
            gc.freeze()
            self.modules = len(sys.modules)
        return found


def keep_caches(importer: zipimport.zipimporter) -> None:
    """The index of a zip file stays as it was read."""


if __name__ == "__main__":
    main()
