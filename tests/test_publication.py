"""How a table or a model takes its place, under the eyes of who reads it, and what becomes of what was there."""

import errno
import itertools
import shutil
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
from recspark.lake.files import LISTING_SECONDS, REPLACED
from recspark.lake.nights import parts, plan, remove
from recspark.lookup import Lookup
from recspark.sql import duckdb_views, spark_views
from recspark.tables import CANDIDATES, RECOMMENDATIONS


def one_list(spark: SparkSession, user: str) -> DataFrame:
    return spark.createDataFrame([(user, 1, "a", 0.5)], "user_id string, rank int, item_id string, score float")


FILES, ROWS, PUBLICATIONS = 4, 250, 50  # of the lists that are published while somebody reads


Reader = Callable[[Lake], list[int]]


def publish(lake: Lake, number: int) -> None:
    """Lists of a run date, all of whose rows hold the number."""
    version = lake.new_version(RECOMMENDATIONS)
    Path(lake.path(version)).mkdir(parents=True)
    for part in range(FILES):
        rows = pa.table({"number": [number] * ROWS})
        pq.write_table(rows, Path(lake.path(version)) / f"part-{number}-{part}.parquet")
    lake.lead_to(version, RECOMMENDATIONS, {"rows": FILES * ROWS})


def read_meanwhile(lake: Lake, read: Callable[[], list[int] | None]) -> None:
    """Publish again and again, and look at what `read` finds all the while: None is a reader that was told to read again."""
    publish(lake, 0)
    seen = [0]
    with ThreadPoolExecutor(1) as pool:
        publications = pool.submit(lambda: [publish(lake, number) for number in range(1, PUBLICATIONS + 1)])
        while not publications.done():
            found = read()
            if found is not None:
                assert len(found) == FILES * ROWS
                assert len(set(found)) == 1
                seen.append(found[0])
        publications.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 5


def by_manifest(lake: Lake) -> list[int]:
    return ds.dataset(lake.table_path(RECOMMENDATIONS)).to_table()["number"].to_pylist()


def by_name(lake: Lake) -> list[int]:
    with duckdb.connect() as connection:
        duckdb_views(connection, lake)
        return [number for (number,) in connection.sql("SELECT number FROM recommendations").fetchall()]


@pytest.mark.parametrize("read", [by_manifest, by_name])
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
    killed = Path(lake.path(lake.new_version(RECOMMENDATIONS)))
    killed.mkdir(parents=True)
    publish(lake, 1)
    first, manifest = Path(lake.table_path(RECOMMENDATIONS)), lake.manifest(RECOMMENDATIONS)
    publish(lake, 2)
    lake.write_json("recommendations/run_date=2026-01-02/_manifest.json", manifest)  # somebody puts it back
    lake.write_file(f"{REPLACED}/1-torn.json", '{"fol')
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
    for damage in ("weights", "more"):
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
    remove(lake, plan(lake, lambda _: False))  # the date goes, and nothing of what it leads to
    assert not lake.has(CANDIDATES)
    assert outside.exists()
    assert lake.exists("models/retriever/version=1/weights")
