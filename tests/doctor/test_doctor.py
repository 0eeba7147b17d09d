"""What the doctor says of a sound deployment, and of each thing that can be wrong with one."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from recspark import doctor, session
from recspark.config import ConfigError
from recspark.doctor.checkup import Checkup
from recspark.errors import UserError
from tests.doctor.visit import checkup

NAMES = [name for name, _ in doctor.CHECKS]


class Practice:
    """A deployment to be spoilt, and what the doctor printed of it."""

    def __init__(self, folder: Path, encoder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self.capsys, self.run_date = folder, capsys, datetime.date(2026, 1, 2)
        rows = {
            "interactions": [{"user_id": "u1", "item_id": "i1", "timestamp": 1_000_000_000}],
            "items": [{"item_id": "i1", "title": "one"}],
        }
        for name, given in rows.items():
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, given)))
        self.raw: dict[str, Any] = {
            "lake": str(folder / "lake"),
            "spark": {"master": "local[2]"},
            "encoder": {"path": str(encoder), "max_length": 32},
            "preprocess": {
                "interactions": {
                    "path": str(folder / "interactions.jsonl"),
                    "format": "jsonl",
                    "columns": {"timestamp": "timestamp"},
                },
                "items": {"path": str(folder / "items.jsonl"), "format": "jsonl", "text": "{title}"},
            },
        }

    def visit(self, *overrides: str) -> tuple[dict[str, tuple[str, str]], str]:
        """name -> (mark, what was said), and the error that the visit ended with, if any."""
        path = self.folder / "conf.yaml"
        path.write_text(yaml.safe_dump(self.raw))
        error = ""
        try:
            doctor.run(str(path), list(overrides), self.run_date)
        except UserError as raised:
            error = str(raised)
        lines = self.capsys.readouterr().out.splitlines()
        return {line[9:23].strip(): (line[:8].strip(), line[23:].strip()) for line in lines}, error


@pytest.fixture
def practice(spark, tiny_encoder, tmp_path, capsys, monkeypatch) -> Practice:
    """The session is the tests' own and outlives the visit; lines are long enough not to wrap."""
    monkeypatch.setattr(session, "build", lambda settings, name: spark)
    monkeypatch.setattr(session, "stop", lambda stopped: None)
    monkeypatch.setenv("COLUMNS", "1000")
    return Practice(tmp_path, tiny_encoder, capsys)


def test_sound_deployment_is_ok_in_every_line_and_nothing_is_left_behind(practice):
    said, error = practice.visit()
    assert error == ""
    assert list(said) == ["settings", *NAMES]
    assert [name for name, (mark, _) in said.items() if mark == "fix"] == []
    assert {said[name][0] for name in ("java", "executors", "ranks", "lake", "encoder", "interactions", "items")} == {
        "ok"
    }
    assert said["encoder"][1].endswith("16 dimensions, 0.0 million parameters; texts are cut at 32 tokens")
    assert said["interactions"][1].endswith("ids are string; has user_id, item_id, timestamp")
    assert not (practice.folder / "lake").exists()


def test_all_that_is_wrong_is_told_in_one_visit(practice):
    blocked = practice.folder / "file"
    blocked.write_text("")
    deny = practice.folder / "deny.jsonl"
    deny.write_text('{"item": "i1"}')
    practice.raw["lake"] = str(blocked / "lake")
    practice.raw["finetune"] = {"num_processes": 3, "batch_size": 126}
    practice.raw["encoder"]["max_length"] = 65
    practice.raw["preprocess"]["interactions"]["columns"]["timestamp"] = "timestmap"
    practice.raw["preprocess"]["users"] = {"path": str(practice.folder / "nowhere.parquet")}
    practice.raw["candidates"] = {"deny": {"path": str(deny), "format": "jsonl"}, "top_k": 10}
    practice.raw["publish"] = {"catalog": "shop"}
    practice.raw["sequence"], practice.raw["combine"] = {"num_processes": 4}, {}
    said, error = practice.visit()
    wrong = {name: says for name, (mark, says) in said.items() if mark == "fix"}
    assert list(said) == ["settings", *NAMES]
    assert error == f"doctor: 8 of {len(NAMES)} checks failed; mend what is marked fix"
    assert "evaluate.ks asks for lists of 20, but candidates.top_k is 10" in wrong.pop("stages")
    assert "publish.catalog is shop, but the session's catalog is in memory" in wrong.pop("catalog")
    assert "set finetune.num_processes=2" in wrong.pop("ranks")
    assert "cannot be written to" in wrong.pop("lake")
    assert "reads at most 64 tokens" in wrong.pop("encoder")
    assert "did you mean 'timestamp'?" in wrong.pop("interactions")
    assert "nowhere.parquet cannot be read as parquet" in wrong.pop("users")
    assert "lacks column item_id" in wrong.pop("deny list")
    assert wrong == {}


def test_ranks_of_every_section_that_trains_are_counted(practice):
    practice.raw["sequence"], practice.raw["combine"] = {"num_processes": 4, "launcher": "torch"}, {}
    said, _ = practice.visit()
    assert said["ranks"][0] == "fix"
    assert "set sequence.num_processes=2" in said["ranks"][1]


def test_empty_table_and_ids_that_never_meet_are_told(practice):
    (practice.folder / "interactions.jsonl").write_text('{"user_id": "u1", "item_id": 1, "timestamp": 1}')
    said, _ = practice.visit()
    assert "item_id is bigint in preprocess.interactions and string in preprocess.items" in said["items"][1]
    (practice.folder / "interactions.jsonl").write_text('{"user_id": "u1", "item_id": "i1", "timestamp": 1}')
    practice.raw["preprocess"]["sources"] = {"raw": {"path": str(practice.folder / "items.jsonl"), "format": "jsonl"}}
    practice.raw["preprocess"]["items"] = {"sql": "SELECT * FROM raw WHERE item_id = 'no'", "text": "{title}"}
    said, _ = practice.visit()
    assert said["items"] == ("fix", "preprocess.items: sql has no rows")


def test_the_log_is_read_as_of_the_run_date(practice):
    """What arrived on the 1st has arrived for the night of that day, and is out of reach of the day after."""
    row = {"user_id": "u1", "item_id": "i1", "timestamp": 1_000_000_000, "ds": "2026-01-01"}
    (practice.folder / "interactions.jsonl").write_text(json.dumps(row))
    practice.raw["preprocess"]["interactions"]["arrived"] = {"column": "ds", "days": 1}
    assert practice.visit()[0]["interactions"][0] == "fix"
    practice.run_date = datetime.date(2026, 1, 1)
    assert practice.visit()[0]["interactions"][0] == "ok"


def test_bad_configuration_is_told_whole_before_spark_starts(practice, monkeypatch):
    monkeypatch.setattr(session, "build", None)
    practice.raw["finetune"] = {"epoch": 3}
    practice.raw["candidates"] = {"top_k": 0}
    path = practice.folder / "conf.yaml"
    path.write_text(yaml.safe_dump(practice.raw))
    with pytest.raises(ConfigError) as raised:
        doctor.run(str(path), [], practice.run_date)
    assert len(raised.value.mistakes) == 2


def test_without_java_spark_is_not_tried_and_the_rest_is(practice, monkeypatch):
    monkeypatch.setattr(session, "build", None)
    monkeypatch.setenv("JAVA_HOME", str(practice.folder))
    said, error = practice.visit()
    assert "Spark needs 17 or 21: install one (Debian: apt-get install openjdk-17-jre-headless)" in said["java"][1]
    assert said["spark"] == ("fix", "not started, for Java is missing")
    assert said["items"] == ("fix", "not checked, for Spark did not start")
    assert said["encoder"][0] == "ok"
    assert said["lake"] == (
        "ok",
        f"{practice.raw['lake']}; written to, read and cleared (by the driver; Spark did not start)",
    )
    assert error.startswith("doctor: ")


def test_lake_keeps_what_it_has(practice):
    kept = Path(practice.raw["lake"]) / "items/run_date=2026-01-01/part.parquet"
    kept.parent.mkdir(parents=True)
    kept.write_text("rows")
    practice.visit()
    assert [p for p in Path(practice.raw["lake"]).rglob("*") if p.is_file()] == [kept]
    assert not (Path(practice.raw["lake"]) / "_scratch").exists()


def test_check_that_breaks_is_told_and_breaks_no_other():
    def check(visit: Checkup) -> str:
        raise ValueError("what nobody thought of")

    assert doctor.outcome(check, checkup()) == ("fix", "ValueError: what nobody thought of")


def test_of_stacks_the_telling_line_is_shown():
    stack = "Job aborted.\n  at org.apache.Thing\nTraceback:\n  File x\nModuleNotFoundError: No module named 'numpy'\n\n\tat org.Other"
    assert doctor.telling_line(RuntimeError(stack)) == "RuntimeError: ModuleNotFoundError: No module named 'numpy'"
