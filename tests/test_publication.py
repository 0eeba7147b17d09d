"""How a table or a model takes its place, under the eyes of who reads it, and what becomes of what was there."""

import errno
import itertools
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lake.nights import parts, remove
from recspark.lake.places import LISTING_SECONDS, REPLACED
from recspark.lookup import Lookup
from recspark.sql import duckdb_views, spark_views
from recspark.tables import CANDIDATES, RECOMMENDATIONS, Table


def one_list(spark: SparkSession, user: str) -> DataFrame:
    return spark.createDataFrame([(user, 1, "a", 0.5)], "user_id string, rank int, item_id string, score float")


FILES, ROWS, PUBLICATIONS = 4, 250, 50  # of the lists that are published while somebody reads
ENOUGH = 5  # versions for a reader to have seen


Reader = Callable[[Lake], list[int]]


def publish(lake: Lake, number: int) -> None:
    """Lists of a run date, all of whose rows hold the number."""
    version = lake.new_version(lake.partition(RECOMMENDATIONS))
    Path(lake.path(version)).mkdir(parents=True)
    for part in range(FILES):
        rows = pa.table({"number": [number] * ROWS})
        pq.write_table(rows, Path(lake.path(version)) / f"part-{number}-{part}.parquet")
    lake.lead_to(version, RECOMMENDATIONS, {"rows": FILES * ROWS})


def read_meanwhile(lake: Lake, read: Callable[[], list[int] | None]) -> None:
    """Publish again and again, and until enough was seen, and look at what `read` finds all the while: None is a reader that was told to
    read again."""
    publish(lake, 0)
    seen, seen_enough = [0], threading.Event()

    def publish_on() -> None:
        numbers = itertools.count(1)
        while (number := next(numbers)) <= PUBLICATIONS or not seen_enough.is_set():
            publish(lake, number)

    with ThreadPoolExecutor(1) as pool:
        publications = pool.submit(publish_on)
        try:
            while not publications.done():
                found = read()
                if found is not None:
                    assert len(found) == FILES * ROWS
                    assert len(set(found)) == 1
                    seen.append(found[0])
                if len(set(seen)) > ENOUGH:
                    seen_enough.set()
        finally:
            seen_enough.set()
        publications.result()
    assert seen == sorted(seen)


def by_manifest(lake: Lake) -> list[int]:
    return ds.dataset(lake.table_path(RECOMMENDATIONS)).to_table()["number"].to_pylist()


def by_name(lake: Lake) -> list[int]:
    with duckdb.connect() as connection:
        duckdb_views(connection, lake)
        return [number for (number,) in connection.sql("SELECT number FROM recommendations").fetchall()]


def by_lookup(lake: Lake) -> list[int]:
    return [row["number"] for row in Lookup(lake, RECOMMENDATIONS).rows(["number"])]


@pytest.fixture(params=[True, False], ids=["exchange", "no exchange"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the disk can exchange two folders in one step; NFS and macOS cannot."""
    if not request.param:
        monkeypatch.setattr("recspark.lake.places.exchange", lambda one, other: False)
    return request.param


@pytest.mark.usefixtures("exchanges")
@pytest.mark.parametrize("read", [by_manifest, by_name, by_lookup])
def test_a_reader_during_fifty_publications_sees_whole_tables_of_one_version_always(lake: Lake, read: Reader):
    read_meanwhile(lake, lambda: read(lake))


def test_a_reader_by_the_plain_path_during_fifty_publications_sees_the_same_or_is_told(lake: Lake):
    """Whoever lists a folder by its path, as all do, looks at the files by their paths after; in that moment the folder may be another."""
    path = lake.path(lake.partition(RECOMMENDATIONS))

    def read() -> list[int] | None:
        try:
            found = ds.dataset(path, format="parquet")
            return found.to_table()["number"].to_pylist() if found.files else None
        except FileNotFoundError as error:
            if "part-" not in str(error):  # the table itself is always there
                raise
            return None

    read_meanwhile(lake, read)


def test_without_an_exchange_the_plain_path_has_the_new_files_too(lake: Lake, exchanges: bool):
    for number in (1, 2):
        publish(lake, number)
    plain = Path(lake.root, lake.partition(RECOMMENDATIONS))
    assert {path.name.split("-")[1] for path in plain.glob("*.parquet")} == {"2"}
    assert all(path.stat().st_nlink == 2 for path in plain.glob("*.parquet"))
    assert not lake.names("_scratch/run_date=2026-01-02/staging")
    aside = [name for name in lake.names(REPLACED) if not name.endswith(".json")]
    assert len(aside) == exchanges


# Publishes a second time and is killed before or after the first call of a method.
KILLED = """
import datetime, os, sys
from recspark.lake import Lake
from tests.test_publication import publish
root, name, moment = sys.argv[1:]
whole = getattr(Lake, name)
def killed(*given):
    if moment == "after":
        whole(*given)
    os._exit(9)
setattr(Lake, name, killed)
publish(Lake(root, datetime.date(2026, 1, 2)), 2)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["link_files", "write_json", "publish", "set_aside", "let_go"])
def test_a_kill_at_any_step_leaves_one_version_whole_and_in_the_end_nothing_else(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
):
    publish(lake, 1)
    assert subprocess.run([sys.executable, "-c", KILLED, lake.root, step, moment], check=False).returncode == 9
    assert by_manifest(lake) in ([1] * FILES * ROWS, [2] * FILES * ROWS)
    publish(lake, 3)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
    lake.sweep()
    assert by_manifest(lake) == [3] * FILES * ROWS
    files = [path for path in Path(lake.root).rglob("*") if path.is_file()]
    parts_twice = [f"part-3-{part}.parquet" for part in range(FILES)] * 2
    assert sorted(path.name for path in files) == sorted([*parts_twice, "_manifest.json"])


def test_what_was_there_before_stays_until_all_are_told(lake: Lake):
    told: list[str] = []

    def tell(table: Table) -> bool:
        assert by_manifest(lake) == [2] * FILES * ROWS
        told.append(table.name)
        return len(told) > 1

    publish(lake, 1)
    first = Path(lake.table_path(RECOMMENDATIONS)).name
    lake.tell = tell
    for notes in (0, 1):
        publish(lake, 2)
        assert len([note for note in lake.names(REPLACED) if first in note]) == notes
    assert told == ["recommendations"] * 2


def test_what_a_manifest_led_to_stays_for_who_reads_it_and_goes_when_nobody_can_be(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    publish(lake, 1)
    first = Path(lake.table_path(RECOMMENDATIONS))
    publish(lake, 2)
    assert first.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
    publish(lake, 3)
    assert not first.exists()
    assert not [note for note in lake.names(REPLACED) if first.name in note]  # the second's is left
    assert len(list(first.parent.iterdir())) == 2


def test_folders_of_runs_that_were_killed_are_let_go_and_one_that_is_led_to_again_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    killed = Path(lake.path(lake.new_version(lake.partition(RECOMMENDATIONS))))
    killed.mkdir(parents=True)
    publish(lake, 1)
    first, manifest = Path(lake.table_path(RECOMMENDATIONS)), lake.manifest(RECOMMENDATIONS)
    publish(lake, 2)
    lake.write_json("recommendations/run_date=2026-01-02/_manifest.json", manifest)  # somebody puts it back
    lake.write_file(f"{REPLACED}/1-torn.json", '{"fol')
    lake.write_file(f"{REPLACED}/1-half.json.0a1b.tmp", "")
    assert len([name for name in lake.names(REPLACED) if name.endswith(".json")]) == 3
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
    lake.sweep()
    assert not killed.exists()
    assert first.exists()
    assert lake.names(REPLACED) == []


def test_a_manifest_that_leads_to_nothing_is_the_users_error(spark: SparkSession, lake: Lake):
    lake.write(one_list(spark, "u"), CANDIDATES)
    shutil.rmtree(lake.path("_tables"))
    for act in (lambda: lake.read(spark, CANDIDATES), lambda: Lookup(lake, CANDIDATES).rows(["user_id"])):
        with pytest.raises(
            UserError, match=r"candidates/run_date=2026-01-02 .* leads to _tables/.*, which is not there"
        ):
            act()


def test_a_damaged_model_is_made_anew(lake: Lake, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1234")
    for damage in ("weights", "more", "_manifest.json"):
        content = lake.write_model("retriever", tmp_path / "model")
        assert lake.read_model("retriever")[1] == content
        Path(lake.model_of_date("retriever").path, damage).write_text("1235")
        with pytest.raises(UserError, match="is damaged"):
            lake.read_model("retriever")


def test_a_table_whose_files_lie_beside_its_manifest_is_read_and_replaced(spark: SparkSession, lake: Lake):
    """As other releases wrote it, and as anybody may."""
    place = Path(lake.root, lake.partition(CANDIDATES))
    one_list(spark, "u").write.parquet(str(place))
    lake.write_json(f"{lake.partition(CANDIDATES)}/_manifest.json", {"rows": 1})
    assert lake.read(spark, CANDIDATES).first()["user_id"] == "u"
    lake.write(one_list(spark, "v"), CANDIDATES)
    assert lake.read(spark, CANDIDATES).first()["user_id"] == "v"
    assert spark.read.parquet(str(place)).first()["user_id"] == "v"
    assert [part.place.path for part in parts(lake)] == ["candidates/run_date=2026-01-02"]


def test_the_plain_path_has_the_files_that_the_manifest_leads_to_and_no_copy(spark: SparkSession, lake: Lake):
    lake.write(one_list(spark, "u"), CANDIDATES)
    led_to, plain = Path(lake.table_path(CANDIDATES)), Path(lake.root, lake.partition(CANDIDATES))
    names = {path.name for path in led_to.iterdir()}
    assert names == {path.name for path in plain.iterdir()} - {"_manifest.json"}
    assert any(name.endswith(".parquet") for name in names)
    assert all((led_to / name).samefile(plain / name) for name in names)


def test_on_a_disk_without_hard_links_a_table_is_read_by_its_manifest_and_that_is_said(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    calls = itertools.count()

    def refused(self: Path, _: Path) -> None:
        if next(calls):
            raise OSError(errno.EPERM, "Operation not permitted")
        self.touch()  # the first went well: none of them stays

    monkeypatch.setattr(Path, "hardlink_to", refused)
    lake.write(one_list(spark, "u"), CANDIDATES)
    assert lake.read(spark, CANDIDATES).first()["user_id"] == "u"
    assert lake.names(lake.partition(CANDIDATES)) == ["_manifest.json"]
    assert "no hard links" in caplog.text


def test_a_full_disk_leaves_what_was_there(spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch):
    lake.write(one_list(spark, "u"), CANDIDATES)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", full)
    with pytest.raises(OSError, match="No space left"):
        lake.write(one_list(spark, "v"), CANDIDATES)
    assert lake.read(spark, CANDIDATES).first()["user_id"] == "u"
    assert len(lake.names(f"_tables/{lake.partition(CANDIDATES)}")) == 1


@pytest.mark.parametrize(
    "folder", ["../elsewhere", "/etc", "_tables/candidates/version=1/../../..", "models/retriever/version=1", 7]
)
def test_a_manifest_that_leads_elsewhere_is_damaged(spark: SparkSession, lake: Lake, folder: object):
    lake.write_json(
        f"candidates/run_date={lake.run_date}/_manifest.json", {"rows": 1, "written_at": "", "folder": folder}
    )
    for act in (lambda: lake.read(spark, CANDIDATES), lambda: spark_views(spark, lake)):
        with pytest.raises(
            UserError, match=r"a manifest is damaged: .* can only be in _tables/<table>/run_date=…/version=…"
        ):
            act()
    outside = Path(lake.root).parent / "elsewhere"
    outside.mkdir()
    lake.write_file("models/retriever/version=1/weights", "1234")
    remove(lake, lambda _: False)  # the date goes, and nothing of what it leads to
    assert not lake.has(CANDIDATES)
    assert outside.exists()
    assert lake.exists("models/retriever/version=1/weights")
