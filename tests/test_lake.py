import datetime
import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recspark.errors import UserError
from recspark.lake import Lake, local_folder
from recspark.lake.folders import exchange, folder_hash
from recspark.tables import CANDIDATES, TRAINING_LOG

SCHEMA = "user_id string, rank int, item_id string, score float"


def lists(spark: SparkSession, *rows: tuple[str, int, str, float]):
    return spark.createDataFrame(list(rows), SCHEMA)


def test_what_is_written_is_read_back(spark: SparkSession, lake: Lake):
    lake.write(lists(spark, ("u", 1, "a", 0.5), ("u", 2, "b", 0.25)), CANDIDATES)
    assert sorted(lake.read(spark, CANDIDATES).collect()) == [("u", 1, "a", 0.5), ("u", 2, "b", 0.25)]
    assert [(t.action, t.name, t.rows) for t in lake.traffic] == [("write", "candidates", 2), ("read", "candidates", 2)]


def test_a_second_write_replaces_the_first_and_leaves_nothing_behind(spark: SparkSession, lake: Lake):
    lake.write(lists(spark, ("u", 1, "a", 0.5)), CANDIDATES)
    lake.write(lists(spark, ("v", 1, "b", 0.5)), CANDIDATES)
    assert lake.read(spark, CANDIDATES).collect() == [("v", 1, "b", 0.5)]
    assert not list(Path(lake.scratch("staging")).iterdir())


def test_other_dates_are_left_alone(spark: SparkSession, lake: Lake):
    yesterday = Lake(lake.root, lake.run_date - datetime.timedelta(days=1))
    yesterday.write(lists(spark, ("old", 1, "a", 0.5)), CANDIDATES)
    lake.write(lists(spark, ("new", 1, "a", 0.5)), CANDIDATES)
    assert lake.run_dates(CANDIDATES) == [yesterday.run_date, lake.run_date]
    assert yesterday.read(spark, CANDIDATES).first()["user_id"] == "old"


def test_a_failed_write_leaves_the_old_table_in_place(spark: SparkSession, lake: Lake):
    lake.write(lists(spark, ("u", 1, "a", 0.5)), CANDIDATES)
    with pytest.raises(UserError, match=r"key .* is not unique"):
        lake.write(lists(spark, ("v", 1, "a", 0.5), ("v", 1, "b", 0.5)), CANDIDATES)
    assert lake.read(spark, CANDIDATES).first()["user_id"] == "u"


def test_null_where_none_may_be_is_refused(spark: SparkSession, lake: Lake):
    with pytest.raises(UserError, match="item_id in 1 rows"):
        lake.write(lists(spark, ("v", 1, None, 0.5)), CANDIDATES)
    assert not lake.has(CANDIDATES)


def test_an_absent_table_names_the_dates_there_are(spark: SparkSession, lake: Lake):
    lake.write(lists(spark, ("u", 1, "a", 0.5)), CANDIDATES)
    with pytest.raises(UserError, match=r"2030-01-01 is not in the lake.*it has 2026-01-02"):
        Lake(lake.root, datetime.date(2030, 1, 1)).read(spark, CANDIDATES)


def test_a_folder_without_a_manifest_is_no_table(lake: Lake):
    Path(lake.table_path(CANDIDATES)).mkdir(parents=True)
    assert not lake.has(CANDIDATES)


def test_the_manifest_keeps_rows_settings_inputs_and_version(spark: SparkSession, tmp_path: Path):
    lake = Lake(str(tmp_path / "a lake"), datetime.date(2026, 1, 2), facts={"settings": {"seed": 7}})
    lake.write(lists(spark, ("u", 1, "a", 0.5)), CANDIDATES)
    lake.read(spark, CANDIDATES)
    lake.write(
        spark.createDataFrame([], "epoch int, train_loss double, valid_loss double, examples bigint, seconds double"),
        TRAINING_LOG,
    )
    manifest = lake.manifest(TRAINING_LOG)
    assert (manifest["rows"], manifest["settings"], list(manifest["inputs"])) == (0, {"seed": 7}, ["candidates"])
    assert {"code_version", "schema", "seconds", "written_at", "run_date"} <= set(manifest)


def test_a_model_comes_back_with_its_content_hash(lake: Lake, tmp_path: Path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    written = lake.write_model("retriever", folder)
    path, read = lake.read_model("retriever")
    assert written == read == folder_hash(local_folder(path))
    assert (Path(path) / "sub" / "b.txt").read_text() == "b"


def test_an_absent_model_is_one_clear_error(lake: Lake):
    with pytest.raises(UserError, match="model retriever of run date 2026-01-02 is not in the lake"):
        lake.read_model("retriever")


def test_two_folders_swap_in_one_step(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


def test_stage_records_come_back_by_stage(lake: Lake):
    lake.record_stage("embed", {"items": 3}, {"item_vectors": 3}, 1.23456)
    assert lake.stage_records() == {
        "embed": {"stage": "embed", "rows_in": {"items": 3}, "rows_out": {"item_vectors": 3}, "seconds": 1.235}
    }
    assert json.loads(Path(lake.path("logs/run_date=2026-01-02/stage-embed.json")).read_text())["seconds"] == 1.235
