"""How a table or a model takes its place, by rename and by pointer, under the eyes of who reads it, and what becomes of what was there."""

import datetime
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from recspark.errors import UserError
from recspark.lake import Lake, Switch
from recspark.lake.files import LISTING_SECONDS, REPLACED
from recspark.lake.nights import parts, plan, remove
from recspark.lookup import Lookup
from recspark.sql import spark_views
from recspark.tables import CANDIDATES, RECOMMENDATIONS


def one_list(spark: SparkSession, user: str) -> DataFrame:
    return spark.createDataFrame([(user, 1, "a", 0.5)], "user_id string, rank int, item_id string, score float")


FILES, ROWS, PUBLICATIONS = 4, 250, 50  # of the lists that are published while somebody reads


def publish(lake: Lake, number: int) -> None:
    """Lists of a run date, all of whose rows hold the number."""
    staged = lake.new_folder(RECOMMENDATIONS)
    Path(lake.path(staged)).mkdir(parents=True)
    for part in range(FILES):
        rows = pa.table({"number": [number] * ROWS})
        pq.write_table(rows, Path(lake.path(staged)) / f"part-{number}-{part}.parquet")
    lake.switch_to(staged, RECOMMENDATIONS, {"rows": FILES * ROWS})


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


def test_a_reader_during_fifty_publications_by_pointer_sees_whole_tables_of_one_version_always(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch="pointer")
    read_meanwhile(lake, lambda: ds.dataset(lake.table_path(RECOMMENDATIONS)).to_table()["number"].to_pylist())


def test_a_reader_during_fifty_publications_by_rename_sees_whole_tables_of_one_version_or_is_told(lake: Lake):
    """Whoever lists a folder by its path, as all do, looks at the files by their paths after; in that moment the folder may be another."""
    path = lake.table_path(RECOMMENDATIONS)

    def read() -> list[int] | None:
        try:
            found = ds.dataset(path, format="parquet")
            return found.to_table()["number"].to_pylist() if found.files else None
        except FileNotFoundError as error:
            if "part-" not in str(error):  # the table itself is always there
                raise
            return None

    read_meanwhile(lake, read)


def test_what_a_pointer_led_to_stays_for_who_reads_it_and_goes_when_nobody_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lake = Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch="pointer")
    publish(lake, 1)
    first = Path(lake.table_path(RECOMMENDATIONS))
    publish(lake, 2)
    assert first.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
    publish(lake, 3)
    assert not first.exists()
    assert len(lake.names(REPLACED)) == 1  # of the second; the first's has gone with it
    assert len(list(first.parent.iterdir())) == 2


def test_folders_of_runs_that_were_killed_are_let_go_and_one_that_is_led_to_again_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lake = Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch="pointer")
    killed = Path(lake.path(lake.new_folder(RECOMMENDATIONS)))
    killed.mkdir(parents=True)
    publish(lake, 1)
    first, manifest = Path(lake.table_path(RECOMMENDATIONS)), lake.manifest(RECOMMENDATIONS)
    publish(lake, 2)
    lake.write_json("recommendations/run_date=2026-01-02/_manifest.json", manifest)  # somebody puts it back
    lake.write_file(f"{REPLACED}/1-torn.json", '{"fol')
    assert len(lake.names(REPLACED)) == 3
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
    lake.sweep()
    assert not killed.exists()
    assert first.exists()
    assert lake.names(REPLACED) == []


def test_a_manifest_that_leads_to_nothing_is_the_users_error(spark: SparkSession, tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch="pointer")
    lake.write(one_list(spark, "u"), CANDIDATES)
    shutil.rmtree(lake.path("_tables"))
    for act in (lambda: lake.read(spark, CANDIDATES), lambda: Lookup(lake, CANDIDATES).rows(["user_id"])):
        with pytest.raises(
            UserError, match=r"candidates/run_date=2026-01-02 .* leads to _tables/.*, which is not there"
        ):
            act()


def test_by_pointer_a_damaged_model_is_made_anew(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch="pointer")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1234")
    for damage in ("weights", "more"):
        content = lake.write_model("retriever", tmp_path / "model")
        assert lake.read_model("retriever")[1] == content
        Path(lake.model_of_date("retriever").path, damage).write_text("1235")
        with pytest.raises(UserError, match="is damaged"):
            lake.read_model("retriever")


@pytest.mark.parametrize("switches", [("rename", "pointer"), ("pointer", "rename")])
def test_a_lake_may_change_how_tables_take_their_places(
    spark: SparkSession, tmp_path: Path, switches: tuple[Switch, Switch]
):
    before, after = (Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch=switch) for switch in switches)
    before.write(one_list(spark, "u"), CANDIDATES)
    assert after.read(spark, CANDIDATES).first()["user_id"] == "u"
    after.write(one_list(spark, "v"), CANDIDATES)
    assert before.read(spark, CANDIDATES).first()["user_id"] == "v"
    assert ("_tables" in after.table_path(CANDIDATES)) == (switches[1] == "pointer")
    assert len(after.names(REPLACED)) >= 1
    assert [part.place.path for part in parts(after)] == ["candidates/run_date=2026-01-02"]


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


def test_by_pointer_a_model_is_no_version_before_its_manifest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(str(tmp_path / "lake"), datetime.date(2026, 1, 2), switch="pointer")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1234")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lake, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            lake.write_model("retriever", tmp_path / "model")
    assert lake.model_dates("retriever") == []
    content = lake.write_model("retriever", tmp_path / "model")
    assert lake.read_model("retriever")[1] == content


def test_no_folder_takes_its_place_by_rename_on_an_object_store():
    with pytest.raises(UserError, match=r"lake_switch is rename, but the lake gs://bucket/lake is on an object store"):
        Lake("gs://bucket/lake", datetime.date(2026, 1, 2), switch="rename")
    assert Lake("gs://bucket/lake", datetime.date(2026, 1, 2)).points
