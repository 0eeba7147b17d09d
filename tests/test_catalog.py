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
from pyspark.sql import SparkSession

from recspark import runner, session
from recspark.errors import RunFailed, UserError
from recspark.lake import Lake, catalog
from recspark.stages import preprocess
from recspark.tables import RECOMMENDATIONS, TABLES
from tests.nightly import REPOSITORY, sample_movielens, small_night, write_config
from tests.published_world import LISTS, TITLES, TODAY, YESTERDAY, published_lake

BIN = Path(pyspark.__file__).parent / "bin"
LOOPBACK = "127.0.0.1"
# As nights would, one after the other, with a date gone between them, and the last run again and again, with other lists; in a process of its
# own, for an embedded metastore takes one at a time.
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
lake = Lake(root, night)
lists = lake.look(spark, RECOMMENDATIONS).localCheckpoint()
for longest in (1, 2, 3):
    lake.write(lists.where(f"rank <= {longest}"), RECOMMENDATIONS)
    register(spark, lake, "recspark")
    found = spark.sql(f"SELECT max(rank) FROM recspark.recommendations WHERE run_date = DATE'{today}'").first()[0]
    assert found == longest
assert "the first night" in str(spark.sql("SHOW TBLPROPERTIES recspark.items").collect()), "made anew without need"
spark.stop()
"""

# A night's first stage, which the runner tells the catalog of; then a session of its own that asks.
RUN = """
import datetime, sys
from recspark import runner, session
from recspark.config import load
from recspark.pipeline import Deployment
config, date = sys.argv[1:]
runner.run(runner.Request(config, datetime.date.fromisoformat(date), verbosity=-1), ["preprocess"])
spark = session.build(load(config, Deployment).spark)
for row in spark.sql("SHOW TABLES IN recspark").collect():
    print(row.tableName, spark.table(f"recspark.{row.tableName}").where(f"run_date = DATE'{date}'").count())
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

    def run(self, script: str, *arguments: str) -> str:
        """What a Python process of these arguments prints, in which the metastore is."""
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def register(self, lake: Lake, gone: str) -> None:
        pairs = [f"{key}={value}" for key, value in self.conf.items()]
        self.run(REGISTER, lake.root, str(YESTERDAY), str(TODAY), gone, *pairs)

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


def night(folder: Path, encoder: Path, conf: dict[str, str]) -> Path:
    """The configuration of a small night that registers its tables."""
    sample_movielens(folder, users=20, least=3)
    settings = small_night(folder, folder / "lake", encoder, **{"publish.catalog": "recspark"})
    settings["spark"]["conf"] |= conf
    return write_config(folder / "night.yaml", settings)


@pytest.mark.slow
def test_each_stage_of_a_night_tells_the_catalog_of_its_tables(tmp_path: Path, tiny_encoder: Path):
    metastore = Metastore(tmp_path)
    said = metastore.run(RUN, str(night(tmp_path, tiny_encoder, metastore.conf)), str(TODAY))
    rows = dict(line.rsplit(" ", 1) for line in said.splitlines())
    lake = Lake(str(tmp_path / "lake"), TODAY)
    assert {name: int(count) for name, count in rows.items()} == {
        name: lake.manifest(TABLES[name])["rows"] for name in preprocess.OUTPUTS if lake.has(TABLES[name])
    }


def test_a_catalog_that_would_end_with_the_session_is_refused_before_anything_is_written(
    spark: SparkSession, lake: Lake, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "build", lambda _: spark)
    monkeypatch.setattr(session, "stop", lambda _: None)
    request = runner.Request(str(night(tmp_path, tiny_encoder, {})), TODAY)
    with pytest.raises(
        UserError, match=r"publish.catalog is recspark, but the session's catalog is in memory .*jobs/sql"
    ):
        runner.run(request, ["preprocess"])
    assert lake.run_dates(TABLES["items"]) == []


def test_a_metastore_that_does_not_answer_does_not_end_the_night(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def away(*_: object) -> None:
        raise RunFailed("the catalog could not be brought up to date: nobody is there")

    monkeypatch.setattr(catalog, "register_tables", away)
    assert not catalog.teller(spark, lake, "recspark")(RECOMMENDATIONS)
    assert "nobody is there" in caplog.text
