"""The lake on a file system that is none: objects in memory, by names, of which one at a time appears whole and no folder can be moved."""

import datetime
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from recspark.lake import Lake
from recspark.lake.lock import RunLock
from recspark.lake.nights import parts, remove
from recspark.lake.places import LISTING_SECONDS, REPLACED
from recspark.tables import RECOMMENDATIONS

FIRST, SECOND = datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)


class Objects(pafs.FSSpecHandler):
    """Moves objects, one each, as S3 does."""

    def move(self, src: str, dest: str) -> None:
        if self.fs.isdir(src):
            raise OSError(f"{src} is a prefix, and prefixes are not moved")
        super().move(src, dest)


@pytest.fixture
def store(tmp_path: Path) -> pafs.FileSystem:
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    memory.store, memory.pseudo_dirs = {}, [""]
    return pafs.PyFileSystem(Objects(memory))


def lake_of(store: pafs.FileSystem, date: datetime.date) -> Lake:
    lake = Lake("lake", date)
    lake.fs, lake.base = store, "/bucket/lake"
    return lake


def publish(lake: Lake, number: int) -> None:
    folder = lake.new_version(lake.partition(RECOMMENDATIONS))
    lake.fs.create_dir(f"{lake.base}/{folder}", recursive=True)
    pq.write_table(pa.table({"number": [number]}), f"{lake.base}/{folder}/part-0.parquet", filesystem=lake.fs)
    facts = {"rows": 1, "written_at": str(number), "run_date": str(lake.run_date)}
    lake.lead_to(folder, RECOMMENDATIONS, facts)


def found(lake: Lake) -> list[int]:
    path = lake.table_path(RECOMMENDATIONS).removeprefix(f"{lake.root}/")
    return ds.dataset(f"{lake.base}/{path}", filesystem=lake.fs).to_table()["number"].to_pylist()


def test_a_date_takes_the_place_of_what_was_there_under_the_lock(store, monkeypatch):
    lake = lake_of(store, FIRST)
    lake.lock = RunLock(lake, FIRST)
    with lake.lock.held():
        for number in (1, 2):
            publish(lake, number)
            assert found(lake) == [number]
        assert len(lake.names(f"_tables/recommendations/run_date={FIRST}")) == 2  # who reads the first may go on
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
        publish(lake, 3)
    assert found(lake) == [3]
    assert len(lake.names(f"_tables/recommendations/run_date={FIRST}")) == 2
    assert len(lake.names(REPLACED)) == 1
    assert lake.run_dates(RECOMMENDATIONS) == [FIRST]


def test_files_beside_a_manifest_go_when_the_date_is_written_anew(store):
    lake = lake_of(store, FIRST)
    lake.write_file(f"recommendations/run_date={FIRST}/part-old.parquet", "rows")
    lake.write_json(f"recommendations/run_date={FIRST}/_manifest.json", {"rows": 1})
    publish(lake, 2)
    assert lake.names(f"recommendations/run_date={FIRST}") == ["_manifest.json"]
    assert found(lake) == [2]


def test_old_nights_go_with_what_their_manifests_lead_to(store):
    for number, date in enumerate((FIRST, SECOND)):
        publish(lake_of(store, date), number)
    lake = lake_of(store, SECOND)
    remove(lake, {SECOND}.__contains__)
    assert [part.place.path for part in parts(lake)] == [f"recommendations/run_date={SECOND}"]
    assert [
        name for name in lake.names("_tables/recommendations") if lake.names(f"_tables/recommendations/{name}")
    ] == [f"run_date={SECOND}"]
    assert found(lake) == [1]


def test_a_model_is_there_once_its_manifest_is(store, tmp_path, monkeypatch):
    lake = lake_of(store, FIRST)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1234")

    def put_folder(folder: Path, path: str) -> None:
        pafs.copy_files(str(folder), path.replace(lake.root, lake.base), destination_filesystem=store)

    with monkeypatch.context() as patched:
        patched.setattr(lake, "put_folder", put_folder)
        patched.setattr(lake, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lake.write_model("retriever", tmp_path / "model")
    assert lake.names("models/retriever")
    assert lake.model_dates("retriever") == []
