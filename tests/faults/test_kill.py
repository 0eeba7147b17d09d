"""SIGKILL in the middle of each stage, and the night goes on from it: the tables of an undisturbed one, and no half table."""

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from recspark.pipeline import STAGES as ALL_STAGES
from recspark.tables import TABLES
from tests import nightly
from tests.nightly import Night

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a dozen processes, each a Spark of its own
UNEQUAL_BY_NATURE = {"seconds"}  # of training_log


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Undisturbed."""
    return nightly.whole_night(tmp_path_factory)[0]


def kill_during(night: Night, first: str, stage: str) -> str:
    """Start the night at its stage `first`, and kill all its processes in the midst of `stage`. Returns what it had said."""
    process = subprocess.Popen(
        nightly.recspark_command("run", *night.arguments, "--from", first),
        env=nightly.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if f"{stage}: reads" in line:
            break
    wait_until_under_way(night.lake, stage, process)
    assert process.poll() is None, f"{stage} was over before it could be killed: {''.join(said)[-3000:]}"
    os.killpg(process.pid, signal.SIGKILL)
    process.stderr.close()
    process.wait()
    return "".join(said)


def wait_until_under_way(lake: Path, stage: str, process: subprocess.Popen) -> None:
    """Until the stage has written something that no manifest leads to; for finetune, a checkpoint."""
    before, until = files(lake, stage), time.time() + 300
    while time.time() < until and process.poll() is None:
        if files(lake, stage) - before:
            time.sleep(0.2)
            return
        time.sleep(0.02)
    raise AssertionError(f"{stage} wrote nothing that could be half done")


def files(lake: Path, stage: str) -> set[Path]:
    """What tells that the stage is under way: scratch, and versions of tables. Folders may vanish while they are looked at."""
    places = (lake / "_scratch" / f"run_date={nightly.DATE}", lake / "_tables")
    found = {Path(folder) / name for place in places for folder, _, names in os.walk(place) for name in names}
    return {path for path in found if path.match("epoch-*.safetensors")} if stage == "finetune" else found


def outputs(stage: str) -> list[str]:
    """The stage's tables in this night, whose objective is one by item."""
    return [name for name in ALL_STAGES[stage].OUTPUTS if name in TABLES and not name.startswith("pair_")]


def test_a_night_killed_in_each_of_its_stages_ends_as_if_nothing_had_happened(whole: Night, tmp_path: Path):
    night, said = Night(tmp_path, whole.raw), ""
    lake = night.lake
    for before, stage in itertools.pairwise((nightly.STAGES[0], *nightly.STAGES)):
        said = kill_during(night, before, stage)
        if before == "finetune" and stage != before:
            assert "going on from the checkpoint of epoch" in said
        for table in tables_until(stage):
            partition = lake / table / f"run_date={nightly.DATE}"
            if table not in outputs(stage):  # of a stage that was killed first and has ended since
                assert partition.exists()
            if partition.exists():  # there, whole and right, or not there at all
                assert (partition / "_manifest.json").exists()
                assert_same(whole.lake, lake, table)
    nightly.succeed(nightly.recspark("run", *night.arguments, "--from", nightly.STAGES[-1]))
    for table in tables_until(nightly.STAGES[-1]):
        assert_same(whole.lake, lake, table)


def tables_until(stage: str) -> list[str]:
    names = nightly.STAGES[: nightly.STAGES.index(stage) + 1]
    return [table for name in names for table in outputs(name)]


def assert_same(whole: Path, lake: Path, table: str) -> None:
    one, other = (nightly.read(folder, table) for folder in (whole, lake))
    columns = [c for c in one.columns if c not in UNEQUAL_BY_NATURE]
    pd.testing.assert_frame_equal(one[columns], other[columns], check_exact=True)
