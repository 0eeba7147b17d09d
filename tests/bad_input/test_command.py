"""What a user sees of a mistake: `recspark run` as a process, its exit code, its words, and a lake left alone."""

from pathlib import Path

import pytest

from tests.nightly import recspark, sample_movielens, small_night, write_config


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    sample_movielens(folder, users=30)
    return folder


def test_bad_configuration_is_told_whole_before_spark_starts(raw: Path, tmp_path: Path, tiny_encoder: Path) -> None:
    wrong = {"factorize.iterationz": 3, "candidates.top_k": 0, "preprocess.split": {"kind": "sideways"}}
    config = write_config(tmp_path / "night.yaml", small_night(raw, tmp_path / "lake", tiny_encoder, **wrong))
    done = recspark("run", "--config", str(config))
    assert done.returncode == 2
    assert all(f"{key}" in done.stderr for key in ("factorize.iterationz", "candidates.top_k", "preprocess.split"))
    assert "iterations" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Using Spark" not in done.stdout + done.stderr
    assert "Setting default log level" not in done.stderr  # Spark's first words
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("preprocess.items.path", "nowhere.csv", "nowhere.csv"),
        ("candidates.top_k", 5000, "candidates.top_k"),
    ],
)
def test_what_cannot_work_ends_with_2_and_publishes_nothing(
    raw: Path, tmp_path: Path, tiny_encoder: Path, key: str, value: object, said: str
) -> None:
    settings = small_night(raw, tmp_path / "lake", tiny_encoder, **{key: value})
    config = write_config(tmp_path / "night.yaml", settings)
    done = recspark("run", "--config", str(config), "--run-date", "2026-01-02")
    assert done.returncode == 2, done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("lake/models/*"))  # found before the training
    assert not list(tmp_path.glob("lake/candidates/*"))
    assert not list(tmp_path.glob("lake/recommendations/*"))
