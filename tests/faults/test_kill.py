"""SIGKILL in the middle of each stage, then the same command again: the tables of an undisturbed night, and no half table."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from recspark.pipeline import STAGES as ALL_STAGES
from recspark.tables import TABLES
from tests import nightly
from tests.tiny_encoder import make_tiny_encoder

pytestmark = pytest.mark.slow
UNEQUAL_BY_NATURE = {"seconds"}  # of training_log


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw data, an encoder, a configuration (lake: lake, beside it) and `whole`, the lake of a whole night."""
    folder = tmp_path_factory.mktemp("kill")
    nightly.sample_movielens(folder, users=60, least=6)
    encoder = make_tiny_encoder(folder / "encoder", layers=2)
    settings = nightly.small_night(folder, Path("lake"), encoder, **{"finetune.epochs": 4, "finetune.patience": 9})
    settings["lake"] = "${KILL_LAKE}"
    nightly.write_config(folder / "night.yaml", settings)
    nightly.succeed(run(folder, folder / "whole"))
    return folder


def command(folder: Path, *more: str) -> list[str]:
    return nightly.recspark_command("run", "--config", str(folder / "night.yaml"), "--run-date", nightly.DATE, *more)


def run(folder: Path, lake: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = {**nightly.environment(), "KILL_LAKE": str(lake)}
    return subprocess.run(command(folder, *more), capture_output=True, text=True, timeout=600, env=env, check=False)


def kill_during(folder: Path, lake: Path, stage: str) -> None:
    """Start a stage, and kill all its processes when it has got somewhere."""
    env = {**nightly.environment(), "KILL_LAKE": str(lake)}
    process = subprocess.Popen(
        command(folder, "--from", stage, "--to", stage),
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if f"{stage}: reads" in line:
            break
    wait_until_under_way(lake, stage, process)
    assert process.poll() is None, f"{stage} was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.stderr.close()
    process.wait()


def wait_until_under_way(lake: Path, stage: str, process: subprocess.Popen) -> None:
    """Until the stage has written something to scratch; for finetune, a checkpoint."""
    pattern = "finetune/*/epoch-*.safetensors" if stage == "finetune" else "*/**/*"
    scratch, until = lake / "_scratch" / f"run_date={nightly.DATE}", time.time() + 300
    while time.time() < until and process.poll() is None:
        if any(scratch.glob(pattern)):
            time.sleep(0.2)
            return
        time.sleep(0.02)
    raise AssertionError(f"{stage} wrote nothing to scratch that could be half done")


def outputs(stage: str) -> list[str]:
    """The stage's tables in this night, whose objective is one by item."""
    return [name for name in ALL_STAGES[stage].OUTPUTS if name in TABLES and not name.startswith("pair_")]


def lake_before(world: Path, stage: str, lake: Path) -> None:
    """The lake as it stands when a stage is about to run."""
    shutil.copytree(world / "whole", lake, symlinks=True)
    shutil.rmtree(lake / "_scratch", ignore_errors=True)
    names = list(nightly.STAGES)
    for later in names[names.index(stage) :]:
        for name in ALL_STAGES[later].OUTPUTS:
            shutil.rmtree(lake / name, ignore_errors=True)


@pytest.mark.parametrize("stage", nightly.STAGES)
def test_a_killed_stage_run_again_ends_as_if_nothing_had_happened(world: Path, tmp_path: Path, stage: str):
    lake = tmp_path / "lake"
    lake_before(world, stage, lake)
    kill_during(world, lake, stage)
    for table in outputs(stage):  # there, whole and right, or not there at all
        partition = lake / table / f"run_date={nightly.DATE}"
        if partition.exists():
            assert (partition / "_manifest.json").exists()
            assert_same(world / "whole", lake, table)
    again = nightly.succeed(run(world, lake, "--from", stage, "--to", stage))
    if stage == "finetune":
        assert "going on from the checkpoint of epoch" in again.stderr
    for table in outputs(stage):
        assert_same(world / "whole", lake, table)


def assert_same(whole: Path, lake: Path, table: str) -> None:
    one, other = (nightly.read(folder, table) for folder in (whole, lake))
    columns = [c for c in one.columns if c not in UNEQUAL_BY_NATURE]
    pd.testing.assert_frame_equal(one[columns], other[columns], check_exact=True)
