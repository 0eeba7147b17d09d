"""Which tasks a deployment's night has under Airflow: what `recspark run` would run, in its order."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

from recspark import config as configuration
from recspark.pipeline import NIGHT, TRAINING, Deployment, stage_name
from recspark.stages.versions import NEWEST, TONIGHT

ROOT = Path(__file__).parent.parent
FILE = ROOT / "jobs" / "airflow" / "recspark_night.py"
spec = importlib.util.spec_from_file_location("recspark_night", FILE)
assert spec
assert spec.loader
night = sys.modules["recspark_night"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(night)


def test_it_knows_the_pipeline():
    assert tuple(NIGHT) == night.NIGHT
    assert {stage_name(stage) for stage in TRAINING} == set(night.TRAINING)
    fields = Deployment.model_fields
    assert {name for name in NIGHT if not fields[name].is_required() and fields[name].default is None} == set(
        night.WHERE_CONFIGURED
    )
    assert night.TRAINED_HERE == (TONIGHT, NEWEST)
    for stage in night.NIGHT:
        assert (ROOT / "jobs" / f"{stage}.py").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_tasks_are_the_stages_that_a_run_would_have(path: Path, monkeypatch):
    monkeypatch.setenv("RECSPARK_DATASETS", "/data")
    monkeypatch.setenv("RECSPARK_SPLITS", "/splits")
    deployment = configuration.load(path, Deployment)
    expected = [name for name in NIGHT if getattr(deployment, name) is not None]
    assert [step.stage for step in night.steps(path)] == expected


def test_where_the_lake_decides_whether_a_night_trains_the_tasks_are_there(tmp_path: Path):
    (tmp_path / "night.yaml").write_text("preprocess: {}\nembed: {retriever: newest}\n")
    found = [step.stage for step in night.steps(tmp_path / "night.yaml")]
    assert found == ["preprocess", "factorize", "finetune", "embed", "candidates", "evaluate", "publish"]


def test_nights_that_take_a_retriever_that_is_there_train_none(tmp_path: Path):
    settings = {"preprocess": {}, "embed": {"retriever": "promoted"}, "combine": {}, "sequence": None}
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(settings))
    found = [step.stage for step in night.steps(tmp_path / "night.yaml")]
    assert found == ["preprocess", "embed", "combine", "candidates", "evaluate", "publish"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["preprocess", "factorize", "finetune", "embed", "ratings", "candidates", "evaluate", "publish"]),
        (["ratings=null", "combine={}"], ["preprocess", "factorize", "finetune", "embed", "combine"]),
        (["embed.retriever=promoted", "seed=7"], ["preprocess", "embed", "ratings"]),
    ],
)
def test_overrides_and_the_environment_count_as_they_do_for_the_jobs(
    tmp_path: Path, monkeypatch, overrides: list[str], expected: list[str]
):
    (tmp_path / "night.yaml").write_text("preprocess: {}\nratings: {}\nembed: {retriever: '${WHICH:-tonight}'}\n")
    monkeypatch.delenv("WHICH", raising=False)
    found = [step.stage for step in night.steps(tmp_path / "night.yaml", overrides)]
    assert found[: len(expected)] == expected
    monkeypatch.setenv("WHICH", "promoted")
    assert "finetune" not in [step.stage for step in night.steps(tmp_path / "night.yaml", overrides)]


def test_an_override_without_a_value_is_refused(tmp_path: Path):
    (tmp_path / "night.yaml").write_text("preprocess: {}\n")
    with pytest.raises(ValueError, match=r"override 'seed': a\.b=value was expected"):
        night.steps(tmp_path / "night.yaml", ["seed"])


def test_what_may_train_is_given_longer_and_a_pool(tmp_path: Path):
    (tmp_path / "night.yaml").write_text("preprocess: {}\nsequence: {}\n")
    by_stage = {step.stage: step for step in night.steps(tmp_path / "night.yaml")}
    assert {stage for stage, step in by_stage.items() if step.ranks} == {"finetune", "sequence"}
    assert by_stage["finetune"].longest > by_stage["embed"].longest
    (tmp_path / "night.yaml").write_text("preprocess: {}\nsequence: {}\ncombine: {}\nevaluate: {id_alone: true}\n")
    assert {step.stage for step in night.steps(tmp_path / "night.yaml") if step.ranks} == {
        "finetune",
        "sequence",
        "evaluate",
    }
    assert not any(
        step.ranks for step in night.steps(tmp_path / "night.yaml", ["sequence=null"]) if step.stage == "evaluate"
    )


@pytest.mark.parametrize("text", ["", "- a\n", "stages: {}\n"])
def test_a_file_that_is_no_deployment_is_refused(tmp_path: Path, text: str):
    (tmp_path / "night.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"night\.yaml: no recspark deployment"):
        night.steps(tmp_path / "night.yaml")
