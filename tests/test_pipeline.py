"""The picture of the pipeline is checked data: stages, what they read and write, their jobs, their settings."""

from pathlib import Path

import pytest

from recspark.config import ConfigError, load
from recspark.pipeline import PIPELINE, STAGES, WHEN_NAMED, Deployment
from recspark.tables import TABLES

REPOSITORY = Path(__file__).parent.parent
RAW = {"raw/interactions", "raw/items", "raw/users", "raw/queries"}


def test_each_input_is_raw_or_an_earlier_stages_output():
    made: set[str] = set()
    for stage in STAGES.values():
        missing = {name for name in stage.INPUTS if name not in made | RAW}
        assert not missing, f"{stage.__name__} reads {missing}, which no earlier stage writes"
        made |= set(stage.OUTPUTS)


def test_each_output_has_one_writer_and_each_table_a_stage():
    written = [name for stage in STAGES.values() for name in stage.OUTPUTS]
    assert len(written) == len(set(written))
    assert set(TABLES) <= set(written)


def test_the_night_does_without_the_stages_that_run_only_when_named():
    needed = {name for stage in PIPELINE for name in stage.INPUTS}
    assert not needed & {name for stage in WHEN_NAMED for name in stage.OUTPUTS}


def test_each_stage_has_a_job_of_a_few_lines_and_no_job_is_left_over():
    jobs = {path.stem: path.read_text() for path in (REPOSITORY / "jobs").glob("*.py")}
    assert set(jobs) == set(STAGES)
    for name, text in jobs.items():
        assert f'submit("{name}")' in text
        assert len(text.splitlines()) <= 10


def test_each_stage_has_a_section_of_its_own_in_the_deployment():
    assert set(STAGES) <= set(Deployment.model_fields)


def test_each_stage_says_what_it_is_for():
    assert all((stage.__doc__ or "").startswith(f"{name}: ") for name, stage in STAGES.items())


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_is_shipped_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("RECSPARK_DATASETS", "RECSPARK_SPLITS"):
        monkeypatch.setenv(name, "/somewhere")
    load(path, Deployment)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_some_generator_would_refuse_is_a_mistake_of_the_settings(seed: int):
    with pytest.raises(ConfigError, match=rf"seed: .*{'greater' if seed < 0 else 'less'} than"):
        load(REPOSITORY / "conf" / "demo.yaml", Deployment, [f"seed={seed}"])


def test_sections_that_do_not_go_together_are_said_all_at_once():
    overrides = [
        "encoder={}",
        "combine={}",
        "rerank={}",
        "index={}",
        "sequence={}",
        "tune.validation={kind: provided}",
        "tune.space={finetune.pairs.hard_negatives: {kind: int, low: 0, high: 4}}",
        "preprocess.interactions.columns.timestamp=null",
        "preprocess.split={kind: random}",
    ]
    with pytest.raises(ConfigError) as raised:
        load(REPOSITORY / "conf/demo.yaml", Deployment, overrides)
    begins = [
        "encoder.path is required",
        "rerank learns from lists that it makes anew",
        "index: the vectors that combine makes",
        "sequence learns what comes after what",
        "tune.validation is drawn from train rows",
        "tune.space: finetune.pairs.hard_negatives cannot be searched",
    ]
    assert [m[: len(b)] for m, b in zip(raised.value.mistakes, begins, strict=True)] == begins


def test_a_model_of_sets_needs_no_order_of_events():
    unordered = ["preprocess.interactions.columns.timestamp=null", "preprocess.split={kind: random}", "combine={}"]
    load(REPOSITORY / "conf/demo.yaml", Deployment, [*unordered, "sequence={shape: {reads: set}}"])
    with pytest.raises(ConfigError, match=r"set sequence\.shape\.reads to set"):
        load(REPOSITORY / "conf/demo.yaml", Deployment, [*unordered, "sequence={}"])
