"""A disk without room: one sentence, nothing half written, and all well once there is room again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recspark.exits import guard
from recspark.lake import Lake
from recspark.tables import CANDIDATES
from tests.conftest import RUN_DATE
from tests.faults.disk import fill, make_room, may_mount, own_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if not may_mount(tmp_path):
        pytest.skip("nothing may be mounted here")
    with own_disk(tmp_path / "small", "4m") as folder:
        yield folder


def test_a_table_that_finds_no_room_leaves_the_one_before(spark: SparkSession, disk: Path, capsys, monkeypatch):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    lake = Lake(str(disk), RUN_DATE)

    def write(item: str) -> None:
        lake.write(
            spark.createDataFrame([("u", 1, item, 0.5)], "user_id string, rank int, item_id string, score float"),
            CANDIDATES,
        )

    def listed() -> str:
        return lake.read(spark, CANDIDATES).first()["item_id"]

    write("before")
    fill(disk)
    assert guard(lambda: write("after"), verbose=False) == 1
    said = capsys.readouterr().err
    assert "a disk is full: " in said
    assert "what was published stays" in said
    assert "Traceback" not in said
    assert listed() == "before"
    make_room(disk)
    write("after")
    assert listed() == "after"


def test_a_text_that_finds_no_room_leaves_the_one_before(disk: Path, capsys, monkeypatch):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    lake = Lake(str(disk), RUN_DATE)
    lake.write_file("logs/report.html", "before")
    fill(disk)
    assert guard(lambda: lake.write_file("logs/report.html", "x" * 100_000), verbose=False) == 1
    assert "a disk is full: " in capsys.readouterr().err
    assert (disk / "logs" / "report.html").read_text() == "before"
