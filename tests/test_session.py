"""The session, as its Python workers see it."""

import os
import signal
import threading
import zipimport
from collections.abc import Iterable, Iterator

import pytest
from pyspark.sql import SparkSession


def test_a_worker_comes_from_our_daemon_and_reads_no_zip_file_anew_before_a_task(spark: SparkSession):
    def look(_: Iterable[int]) -> Iterator[tuple[str, bool, int, str]]:
        import importlib
        import sys
        import threading

        daemon = sys.modules["__main__"].__spec__
        finders = [f for f in sys.path_importer_cache.values() if isinstance(f, zipimport.zipimporter)]
        before = [id(f._files) for f in finders]
        importlib.invalidate_caches()
        yield (
            daemon.name if daemon else "",
            before == [id(f._files) for f in finders],
            len(finders),
            type(threading.excepthook).__name__,
        )

    ((daemon, kept, zips, hook),) = spark.sparkContext.parallelize([1], 1).mapPartitions(look).collect()
    assert kept
    assert zips > 0
    assert daemon == "recspark.worker_daemon"
    assert hook == "Leftovers"  # of Horovod's threads, where ranks are stopped


def test_an_interrupt_while_the_jvm_is_asked_is_an_interrupt_and_spark_can_still_be_stopped(spark: SparkSession):
    jvm = spark.sparkContext._jvm
    threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        jvm.java.lang.Thread.sleep(60_000)
    assert spark.range(10).count() == 10
