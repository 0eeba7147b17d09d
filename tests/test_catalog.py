"""The lake's tables by name: registered in a metastore, then asked for by beeline through the Thrift server that comes with pyspark."""

import datetime
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest

from recspark.lake import Lake
from recspark.tables import RECOMMENDATIONS
from tests.nightly import REPOSITORY
from tests.published_world import LISTS, TITLES, TODAY, YESTERDAY, published_lake

BIN = Path(pyspark.__file__).parent / "bin"
LOOPBACK = "127.0.0.1"
# As nights would, one after the other, with a date gone between them, and the last run again, in turns by pointer and by rename, at first with other
# lists; in a process of its own, for an embedded metastore takes one at a time.
REGISTER = """
import datetime, shutil, sys
from recspark import session
from recspark.lake import Lake
from recspark.lake.catalog import register
from recspark.session import SparkSettings
from recspark.tables import RECOMMENDATIONS
root, before, today, gone, *pairs = sys.argv[1:]
conf = dict(pair.split("=", 1) for pair in pairs)
spark = session.build(SparkSettings(master="local[1]", driver_memory="1g", conf=conf))
register(spark, Lake(root, datetime.date.fromisoformat(before)), "recspark")
spark.sql("ALTER TABLE recspark.items SET TBLPROPERTIES ('since' = 'the first night')")
shutil.rmtree(gone)
night = datetime.date.fromisoformat(today)
register(spark, Lake(root, night), "recspark")
pointing = Lake(root, night, switch="pointer")
lists = pointing.look(spark, RECOMMENDATIONS).localCheckpoint()
pointing.write(lists.where("rank = 1"), RECOMMENDATIONS)
register(spark, pointing, "recspark")
assert spark.sql(f"SELECT max(rank) FROM recspark.recommendations WHERE run_date = DATE'{today}'").first()[0] == 1
Lake(root, night, switch="rename").write(lists.where("rank <= 2"), RECOMMENDATIONS)
register(spark, pointing, "recspark")
assert spark.sql(f"SELECT max(rank) FROM recspark.recommendations WHERE run_date = DATE'{today}'").first()[0] == 2
pointing.write(lists, RECOMMENDATIONS)
register(spark, pointing, "recspark")
assert "the first night" in str(spark.sql("SHOW TBLPROPERTIES recspark.items").collect()), "made anew without need"
spark.stop()
"""


class Metastore:
    """An embedded one, and what is asked of it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.conf = {
            "spark.sql.catalogImplementation": "hive",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder / 'metastore'};create=true",
            "spark.sql.shuffle.partitions": "1",
        }
        self.env = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": LOOPBACK,
        }

    def register(self, lake: Lake, gone: str) -> None:
        pairs = [f"{key}={value}" for key, value in self.conf.items()]
        command = [sys.executable, "-c", REGISTER, lake.root, str(YESTERDAY), str(TODAY), gone, *pairs]
        done = subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def server(self, port: int) -> subprocess.Popen:
        conf = {**self.conf, "spark.hive.server2.thrift.port": str(port), "spark.ui.enabled": "false"}
        conf["spark.hadoop.hive.server2.thrift.bind.host"] = LOOPBACK
        given = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
        what = ("--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2", "spark-internal")
        hive = (
            "--hiveconf",
            f"hive.server2.thrift.port={port}",
            "--hiveconf",
            f"hive.server2.thrift.bind.host={LOOPBACK}",
        )
        with (self.folder / "thrift.log").open("w") as log:
            return subprocess.Popen(
                [BIN / "spark-submit", "--master", "local[1]", *given, *what, *hive],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[list[str]]]:
    """What the server answers, query by query, of a lake whose nights were registered one after the other; one has gone since the first."""
    folder = tmp_path_factory.mktemp("catalog")
    lake, metastore = published_lake(folder), Metastore(folder)
    old = lake.table_path(RECOMMENDATIONS, datetime.date(2025, 12, 1))
    shutil.copytree(lake.table_path(RECOMMENDATIONS, YESTERDAY), old)
    metastore.register(lake, gone=old)

    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    server, until = metastore.server(port), time.time() + 120
    try:
        while socket.socket().connect_ex((LOOPBACK, port)):
            assert server.poll() is None, (folder / "thrift.log").read_text()[-3000:]
            assert time.time() < until, "the server does not listen"
            time.sleep(0.5)
        queries = (
            "SELECT rank, item_id FROM recspark.recommendations WHERE run_date = DATE'2026-01-02' AND user_id = 'u1' ORDER BY rank",
            "SELECT DISTINCT run_date FROM recspark.recommendations ORDER BY run_date",
            "SELECT r.item_id, i.title FROM recspark.recommendations r JOIN recspark.items i USING (item_id, run_date) "
            "WHERE user_id = 'u1' AND run_date = DATE'2026-01-02' ORDER BY rank LIMIT 1",
        )
        given = [part for query in queries for part in ("-e", f"{query};")]
        url = f"jdbc:hive2://{LOOPBACK}:{port}"
        done = subprocess.run(
            [BIN / "beeline", "-u", url, "--silent=true", "--outputformat=csv2", "--showHeader=true", *given],
            env=metastore.env,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answers: list[list[str]] = []
        for line in filter(None, done.stdout.splitlines()):
            if line in ("rank,item_id", "run_date", "item_id,title"):
                answers.append([])
            else:
                answers[-1].append(line)
        yield answers
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.mark.slow
def test_a_client_of_the_thrift_server_reads_the_lists_by_name(asked: list[list[str]]):
    assert asked[0] == [f"{rank},{item}" for rank, item in enumerate(LISTS["u1"], 1)]
    assert asked[2] == [f"b,{TITLES[1]}"]


@pytest.mark.slow
def test_the_catalog_has_the_dates_that_the_lake_has(asked: list[list[str]]):
    assert asked[1] == [str(YESTERDAY), str(TODAY)]
