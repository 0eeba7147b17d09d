import datetime
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession

from recspark.errors import RunFailed, UserError
from recspark.lake import Lake, local_folder
from recspark.lake.checks import row_hash
from recspark.lake.folders import COPY_SECONDS, exchange, folder_hash, sweep_copies
from recspark.lake.lock import RunLock
from recspark.lake.places import LISTING_SECONDS, REPLACED
from recspark.tables import CANDIDATES, TRAINING_LOG, USER_VECTORS

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
    assert len(lake.names(f"_tables/{lake.partition(CANDIDATES)}")) == 1


def test_null_where_none_may_be_is_refused(spark: SparkSession, lake: Lake):
    with pytest.raises(UserError, match="item_id in 1 rows"):
        lake.write(lists(spark, ("v", 1, None, 0.5)), CANDIDATES)
    assert not lake.has(CANDIDATES)


def test_an_absent_table_names_the_dates_there_are(spark: SparkSession, lake: Lake):
    lake.write(lists(spark, ("u", 1, "a", 0.5)), CANDIDATES)
    with pytest.raises(UserError, match=r"2030-01-01 is not in the lake.*it has 2026-01-02"):
        Lake(lake.root, datetime.date(2030, 1, 1)).read(spark, CANDIDATES)


def test_a_folder_without_a_manifest_is_no_table(lake: Lake):
    Path(lake.root, lake.partition(CANDIDATES)).mkdir(parents=True)
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


def test_a_damaged_model_is_not_read(lake: Lake, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1234")
    lake.write_model("factors", tmp_path / "model")
    Path(lake.model_of_date("factors").path, "weights").write_text("1235")
    with pytest.raises(
        UserError, match=r"version 2026-01-02-\w+ is damaged: .*make it anew by the stage that writes it"
    ):
        lake.read_model("factors")


def test_a_damaged_manifest_is_named(lake: Lake):
    lake.write_file(f"candidates/run_date={lake.run_date}/_manifest.json", '{"rows": ')
    with pytest.raises(
        UserError, match=r"a file is damaged: .*candidates/run_date=2026-01-02/_manifest.json is no JSON"
    ):
        lake.manifest(CANDIDATES)


@pytest.mark.parametrize("scheme", ["file:", "file://"])
def test_a_local_lake_may_be_written_as_a_uri(tmp_path: Path, scheme: str):
    lake = Lake(f"{scheme}{tmp_path}/a%20lake", datetime.date(2026, 1, 2))
    assert lake.root == f"{tmp_path}/a lake"
    with RunLock(lake, lake.run_date).held():
        assert lake.names("_locks")


def test_a_lake_where_pyarrow_knows_no_way_is_the_users_error():
    with pytest.raises(UserError, match=r"lake: s3a://logs is no place that pyarrow knows .*s3://"):
        Lake("s3a://logs", datetime.date(2026, 1, 2))


def test_a_lake_that_cannot_be_reached_is_told_with_what_it_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HADOOP_HOME", "/nowhere")
    with pytest.raises(UserError, match=r"lake: hdfs://nowhere/lake cannot be reached .*libhdfs"):
        Lake("hdfs://nowhere/lake", datetime.date(2026, 1, 2))


def test_a_network_that_does_not_answer_is_no_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch):
    def silent(uri: str):
        raise OSError("HDFS connection failed: java.net.SocketTimeoutException: 60000 millis timeout")

    monkeypatch.setattr("recspark.lake.files.pafs.FileSystem", SimpleNamespace(from_uri=silent))
    with pytest.raises(RunFailed, match=r"lake: hdfs://nn/lake cannot be reached"):
        Lake("hdfs://nn/lake", datetime.date(2026, 1, 2))


def test_a_slash_at_the_end_of_a_root_means_nothing_and_a_query_is_refused():
    lake = Lake("gs://bucket/a/lake/", datetime.date(2026, 1, 2))
    assert (lake.root, lake.base) == ("gs://bucket/a/lake", "bucket/a/lake")
    assert lake.path("items") == "gs://bucket/a/lake/items"
    with pytest.raises(UserError, match=r"has a query, .* AWS_ENDPOINT_URL"):
        Lake("s3://bucket/lake?endpoint_override=here", datetime.date(2026, 1, 2))


def test_a_model_at_a_uri_is_brought_again_once_its_files_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "model").mkdir()
    for text in ("one", "other"):
        (tmp_path / "model" / "weights").write_text(text)
        copy = local_folder((tmp_path / "model").as_uri())
        assert (copy / "weights").read_text() == text
        assert local_folder((tmp_path / "model").as_uri()) == copy
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    copy.parent.chmod(0o777)
    with pytest.raises(RunFailed, match="is not this user's alone"):
        local_folder((tmp_path / "model").as_uri())


def test_a_version_never_leads_out_of_its_folder(lake: Lake):
    registry = lake.registry("retriever")
    for act in (registry.metrics, lambda version: registry.keep_card(version, "")):
        with pytest.raises(UserError, match="is no version of a model"):
            act("2026-01-02-1a2b3c4d/../../..")
    with pytest.raises(UserError, match="has no version"):
        registry.version("../../retriever/version=2026-01-02-1a2b3c4d")


def test_copies_on_this_machine_that_nobody_asks_for_go(tmp_path: Path):
    for name, age in (("old", COPY_SECONDS + 60), ("new", 60)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep_copies(tmp_path)
    assert [copy.name for copy in tmp_path.iterdir()] == ["new"]
    sweep_copies(tmp_path / "nowhere")


def test_rows_in_another_order_and_in_other_files_have_one_fingerprint(spark: SparkSession, lake: Lake):
    rows = [("u", 1, "a", 0.5), ("u", 2, "b", 0.25), ("v", 1, "a", 0.5)]
    prints = []
    for frame in (lists(spark, *rows), lists(spark, *reversed(rows)).repartition(3), lists(spark, *rows[:2])):
        lake.write(frame, CANDIDATES)
        prints.append(lake.manifest(CANDIDATES)["fingerprint"])
    assert prints[0] == prints[1] != prints[2]
    lake.read(spark, CANDIDATES)
    lake.write(lists(spark, ("u", 1, "c", 0.5)), CANDIDATES)
    assert lake.manifest(CANDIDATES)["inputs"]["candidates"]["fingerprint"] == prints[2]


def test_maps_count_in_a_fingerprint_whatever_their_order(spark: SparkSession):
    frames = [spark.sql(f"SELECT map({entries}) AS m") for entries in ("1, 2, 3, 4", "3, 4, 1, 2", "1, 2, 3, 5")]
    one, other, third = (frame.select(row_hash(frame)).first()[0] for frame in frames)
    assert one == other != third


def test_vectors_of_two_models_in_one_table_are_refused_and_nothing_is_published(spark: SparkSession, lake: Lake):
    schema = "user_id string, vector array<float>, events bigint, model_hash string"
    mixed = spark.createDataFrame([("u", [0.5], 1, "old"), ("v", [0.5], 1, "new")], schema)
    with pytest.raises(UserError, match="user_vectors: model_hash is one in a run date, but the rows hold new and old"):
        lake.write(mixed, USER_VECTORS)
    assert not lake.has(USER_VECTORS)
    lake.write(mixed.where("model_hash = 'new'"), USER_VECTORS)
    assert lake.manifest(USER_VECTORS)["rows"] == 1


def test_a_stage_names_only_what_it_read_itself(spark: SparkSession, lake: Lake):
    lake.begin("candidates")
    lake.write(lists(spark, ("u", 1, "a", 0.5)), CANDIDATES)
    lake.read(spark, CANDIDATES)
    lake.begin("finetune")
    lake.write(lists(spark, ("u", 1, "b", 0.5)), CANDIDATES)
    manifest = lake.manifest(CANDIDATES)
    assert (manifest["stage"], manifest["inputs"]) == ("finetune", {})


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


def test_a_folder_stays_for_who_is_listing_it_and_goes_when_nobody_can_be(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    def publish(name: str, date: str) -> None:
        (staged := Path(lake.path(f"_scratch/{name}"))).mkdir(parents=True)
        (staged / name).touch()
        lake.publish(f"_scratch/{name}", f"recommendations/run_date={date}")

    publish("first", "2026-01-02")
    listing = os.open(lake.path("recommendations/run_date=2026-01-02"), os.O_RDONLY)
    publish("second", "2026-01-02")
    assert os.listdir(listing) == ["first"]  # noqa: PTH208 - of the folder itself, wherever it is by now
    os.close(listing)
    assert len(lake.names(REPLACED)) == 1
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LISTING_SECONDS + 2)
    publish("third", "2026-01-03")  # a new date, which replaces nothing
    assert not lake.names(REPLACED)


def test_stage_records_come_back_by_stage(lake: Lake):
    lake.record_stage("embed", {"items": 3}, {"item_vectors": 3}, 1.23456)
    assert lake.stage_records() == {
        "embed": {"stage": "embed", "rows_in": {"items": 3}, "rows_out": {"item_vectors": 3}, "seconds": 1.235}
    }
    assert json.loads(Path(lake.path("logs/run_date=2026-01-02/stage-embed.json")).read_text())["seconds"] == 1.235
