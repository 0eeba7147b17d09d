"""The session, as its Python workers see it."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
import zipimport
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pyspark
import pytest
from py4j.protocol import Py4JNetworkError
from pyspark import SparkConf
from pyspark.sql import SparkSession

from recspark.exits import INTERRUPTED, guard
from recspark.session import THREAD_VARIABLES, for_all_to_read
from recspark.worker_daemon import Collector
from tests import nightly


def test_a_worker_comes_from_our_daemon_and_reads_no_zip_file_anew_before_a_task(spark: SparkSession):
    def look(_: Iterable[int]) -> Iterator[tuple[str, bool, int, str, str]]:
        import gc
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
            type(gc.collect).__name__,
        )

    ((daemon, kept, zips, hook, collector),) = spark.sparkContext.parallelize([1], 1).mapPartitions(look).collect()
    assert kept
    assert zips > 0
    assert daemon == "recspark.worker_daemon"
    assert hook == "Leftovers"  # of Horovod's threads, where ranks are stopped
    assert collector == "Collector"


def test_what_came_with_modules_is_looked_at_once_and_what_tasks_leave_each_time(monkeypatch: pytest.MonkeyPatch):
    class Garbage:
        def __init__(self) -> None:
            self.itself = self

    collect, before = Collector(), gc.get_freeze_count()
    try:
        collect()
        left_alone = gc.get_freeze_count()
        assert left_alone > before + 10_000  # pyspark and pytest, at the least
        gone = weakref.ref(Garbage())
        assert collect() >= 1
        assert gone() is None
        assert gc.get_freeze_count() <= left_alone
        monkeypatch.setitem(sys.modules, "one_more", ModuleType("one_more"))
        kept = [[]]
        assert any(found is kept for found in gc.get_objects())
        collect()
        assert not any(found is kept for found in gc.get_objects())  # which leaves out what is left alone
    finally:
        gc.unfreeze()


def test_an_interrupt_while_the_jvm_is_asked_is_an_interrupt_and_spark_can_still_be_stopped(spark: SparkSession):
    sleep = spark.sparkContext._jvm.java.lang.Thread.sleep  # looked up before, which asks the JVM several times
    threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert guard(lambda: sleep(60_000), verbose=False) == INTERRUPTED
    for attempt in range(
        3
    ):  # py4j shuts what looks like the connection that was cut off, and has been seen to meet the next one
        try:
            assert spark.range(10).count() == 10
            return
        except Py4JNetworkError:
            assert attempt < 2


def test_what_spark_submit_says_comes_before_the_settings(tmp_path: Path):
    script = tmp_path / "job.py"
    script.write_text(
        "import os\n"
        "from recspark.session import SparkSettings, build\n"
        "spark = build(SparkSettings(master='local[2]', conf={'spark.sql.session.timeZone': 'CET'}))\n"
        "names = ('spark.master', 'spark.task.cpus', 'spark.sql.shuffle.partitions', 'spark.sql.session.timeZone')\n"
        "print('told', [spark.sparkContext.getConf().get(n) for n in names], os.environ['OMP_NUM_THREADS'])\n"
    )
    conf = ["spark.task.cpus=3", "spark.sql.shuffle.partitions=5", "spark.sql.session.timeZone=UTC"]
    options = ["--master", "local[3]", *(word for setting in conf for word in ("--conf", setting))]
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    env = {name: value for name, value in nightly.environment().items() if name not in THREAD_VARIABLES}
    done = subprocess.run(
        [str(submit), *options, str(script)],
        capture_output=True,
        text=True,
        env={**env, "PYSPARK_PYTHON": sys.executable},
        timeout=300,
        check=False,
    )
    assert "told ['local[3]', '3', '5', 'CET'] 3" in nightly.succeed(done).stdout


def test_a_jvm_that_is_killed_is_one_sentence():
    code = (
        "import os, signal, sys\n"
        "from recspark.exits import guard\n"
        "from recspark.session import SparkSettings, build\n"
        "spark = build(SparkSettings(master='local[1]'))\n"
        "spark.sparkContext.parallelize([1], 1).count()\n"
        "os.kill(spark.sparkContext._gateway.proc.pid, signal.SIGKILL)\n"
        "sys.exit(guard(lambda: spark.range(1).count(), verbose=False))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=nightly.environment(),
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "Spark's JVM has ended" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_not_on_the_command_line_that_starts_the_jvm():
    secret = {
        "spark.hadoop.fs.s3a.secret.key": "s",
        "spark.ssl.keyPassword": "p",
        "spark.hadoop.fs.s3a.access.key": "a",
    }
    given = SparkConf(loadDefaults=False).setAll([*secret.items(), ("spark.master", "local[2]")])
    assert for_all_to_read(given).getAll() == [("spark.master", "local[2]")]
