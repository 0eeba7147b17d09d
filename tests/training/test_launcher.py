"""The ranks really run: Horovod on Spark and TorchDistributor, two processes each."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.errors import UserError
from recspark.training import checkpoint
from recspark.training.launcher import LaunchSettings, Ranks, TrainingFailed, launch, watcher
from recspark.training.launcher.starters import STARTERS
from recspark.training.loop import train_rank
from recspark.training.status import Reporter, Status
from tests.training.world import SETTINGS, make_job

pytestmark = pytest.mark.slow  # all of them together; begun early

PAIR = {"num_processes": 2, "start_timeout": 120}


@pytest.fixture(autouse=True)
def little_grace(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watcher, "GRACE", 5.0)


def start(spark: SparkSession, folder: Path, settings: LaunchSettings, task) -> list:
    """The statuses that were seen. Signals mean afterwards what they meant before, though Horovod takes two for its ranks."""
    status = folder / "status"
    status.mkdir(exist_ok=True)
    seen: list = []
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        launch(spark, settings, task, str(status), seen.append, str(folder / "ranks.log"))
    finally:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    return seen


@pytest.fixture(scope="module")
def one_rank(spark: SparkSession, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The loss curve of one rank in this process."""
    folder = tmp_path_factory.mktemp("one")
    job = make_job(folder, tiny_encoder, 1)
    start(spark, folder, LaunchSettings(launcher="local", num_processes=1), partial(train_rank, job))
    return checkpoint.load_last(job.checkpoints)[1]["log"]


@pytest.mark.parametrize(("launcher", "reader"), [("horovod", "petastorm"), ("torch", "arrow")])
def test_two_ranks_learn_what_one_rank_learns(
    spark: SparkSession, tiny_encoder: Path, tmp_path: Path, one_rank: list[dict], launcher: str, reader: str
):
    job = make_job(tmp_path, tiny_encoder, 2, SETTINGS.model_copy(update={"reader": reader}))
    seen = start(spark, tmp_path, LaunchSettings(launcher=launcher, **PAIR), partial(train_rank, job))
    log = checkpoint.load_last(job.checkpoints)[1]["log"]
    assert [row["examples"] for row in log] == [row["examples"] for row in one_rank]
    for column in ("train_loss", "valid_loss"):
        rows = slice(1 if column == "train_loss" else 0, None)
        np.testing.assert_allclose([r[column] for r in log[rows]], [r[column] for r in one_rank[rows]], rtol=1e-3)
    assert {status.state for status in seen[-1].values()} == {"done"}
    assert len(seen[-1]) == 2
    assert any(name.name.startswith("events") for name in Path(job.tensorboard).iterdir())


def fails(ranks: Ranks, reporter: Reporter) -> None:
    if ranks.rank == 1:
        raise ValueError("the disk of rank one is full")
    while True:  # waits for a rank that will never come
        time.sleep(0.2)
        reporter.update(state="running")


def dies(ranks: Ranks, reporter: Reporter) -> None:
    reporter.update(state="running", epoch=1, step=3)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(0.2)
        reporter.update(state="running")


def stands_still(ranks: Ranks, reporter: Reporter) -> None:
    reporter.update(state="running", epoch=1, step=4)
    while True:
        time.sleep(0.2)
        if ranks.rank == 0:
            reporter.update(state="running")


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (fails, {}, r"rank 1 on .*: ValueError: the disk of rank one is full"),
        (dies, {"lost_timeout": 10}, r"rank 1 on .*, epoch 1, step 3 .*ended without a word"),
        (stands_still, {"stall_timeout": 5}, r"rank 1 did not move on for stall_timeout \(5 s\)"),
    ],
    ids=["raises", "killed", "stalls"],
)
@pytest.mark.parametrize("launcher", ["horovod", "torch"])
def test_a_rank_that_is_lost_ends_the_job_with_which_and_why(
    spark: SparkSession, tmp_path: Path, launcher: str, task, settings: dict, message: str
):
    began = time.time()
    with pytest.raises(TrainingFailed, match=message):
        start(spark, tmp_path, LaunchSettings(launcher=launcher, **PAIR, **settings), task)
    assert time.time() - began < 150  # a bound on a hang, not a timing
    assert spark.range(10).count() == 10  # and Spark is free again


def works_on(ranks: Ranks, reporter: Reporter) -> None:
    reporter.update(state="running", held_out=(9.0,))
    while True:
        time.sleep(0.05)
        reporter.update(state="running")


@pytest.mark.parametrize("apart", [-3600.0, 0.0, 3600.0])
def test_a_rank_is_lost_by_this_machines_clock_whatever_its_own_says(apart: float):
    """Its clock is an hour behind, or ahead; it beats once, and no more."""
    looked = watcher.Watcher(None, LaunchSettings(num_processes=1, lost_timeout=10), "", lambda _: None, None)
    first, later = (Status(0, "running", beat=apart + second, moved=apart) for second in (1.0, 4.0))
    assert not looked.reason_to_stop({0: first}, 100.0)
    assert not looked.reason_to_stop({0: first}, 109.0)
    assert not looked.reason_to_stop({0: later}, 112.0)
    assert not looked.reason_to_stop({0: later}, 121.0)
    assert "no sign of life for lost_timeout (10 s)" in looked.reason_to_stop({0: later}, 123.0)


@pytest.mark.parametrize("settings", [{"launcher": "local", "num_processes": 1}, {"launcher": "horovod", **PAIR}])
def test_what_the_watcher_raises_ends_the_ranks_and_is_raised(spark: SparkSession, tmp_path: Path, settings: dict):
    def watch(statuses: dict[int, Status]) -> None:
        if list(statuses.get(0, Status(0)).held_out) == [9.0]:
            raise SeenEnoughError("a loss of 9 is enough")

    (tmp_path / "status").mkdir()
    with pytest.raises(SeenEnoughError, match="a loss of 9 is enough"):
        launch(spark, LaunchSettings(**settings), works_on, str(tmp_path / "status"), watch, str(tmp_path / "log"))
    assert spark.range(10).count() == 10  # and Spark is free again


@pytest.mark.parametrize(("number", "launcher"), [("SIGINT", "horovod"), ("SIGTERM", "horovod"), ("SIGINT", "torch")])
def test_a_run_that_is_asked_to_end_ends_though_its_ranks_learn(
    spark: SparkSession, tmp_path: Path, number: str, launcher: str
):
    """SIGTERM, which Horovod handles, too, is told again to whom it was meant for."""
    told: list = []

    def watch(statuses: dict[int, Status]) -> None:
        if len(statuses) == 2 and not told:
            told.append(number)
            os.kill(os.getpid(), getattr(signal, number))

    def ask(*_: object) -> None:
        raise KeyboardInterrupt

    # Also of SIGINT, which a shell that starts the tests in the background has them ignore.
    before = {asked: signal.signal(asked, ask) for asked in (signal.SIGINT, signal.SIGTERM)}
    (tmp_path / "status").mkdir()
    try:
        with pytest.raises(KeyboardInterrupt):
            launch(
                spark,
                LaunchSettings(launcher=launcher, **PAIR),
                works_on,
                str(tmp_path / "status"),
                watch,
                str(tmp_path / "log"),
            )
    finally:
        for asked, handler in before.items():
            signal.signal(asked, handler)
    assert spark.range(10).count() == 10


class SeenEnoughError(Exception):
    pass


def done(ranks: Ranks, reporter: Reporter) -> None:
    reporter.update(state="done")


def clashes(times: int, message: str, started: list):
    """A starter whose port is taken so many times."""

    def start(spark, settings, task, status_folder, log_path) -> None:
        started.append(status_folder)
        if len(started) <= times:
            Reporter(status_folder, 0).failed(OSError(message))
            raise RuntimeError("torchrun failed") from OSError(message)
        STARTERS["local"](spark, settings, task, status_folder, log_path)

    return start


@pytest.mark.parametrize("message", ["errno: 98 - EADDRINUSE", "[Errno 98] Address already in use"])
def test_a_port_that_was_taken_meanwhile_is_another_start(
    spark: SparkSession, tmp_path: Path, monkeypatch, message: str
):
    started: list = []
    monkeypatch.setitem(STARTERS, "torch", clashes(2, message, started))
    start(spark, tmp_path, LaunchSettings(launcher="torch", num_processes=1), done)
    assert len(set(started)) == 3


@pytest.mark.parametrize(("times", "message", "starts"), [(9, "EADDRINUSE", 3), (9, "no such host", 1)])
def test_a_port_that_stays_taken_or_another_failure_is_raised(
    spark: SparkSession, tmp_path: Path, monkeypatch, times: int, message: str, starts: int
):
    started: list = []
    monkeypatch.setitem(STARTERS, "torch", clashes(times, message, started))
    with pytest.raises(TrainingFailed, match=message):
        start(spark, tmp_path, LaunchSettings(launcher="torch", num_processes=1), done)
    assert len(started) == starts


def test_more_ranks_than_slots_is_said_before_anything_starts(spark: SparkSession, tmp_path: Path):
    with pytest.raises(UserError, match=r"num_processes is 3, but Spark has 2 task slots"):
        start(spark, tmp_path, LaunchSettings(num_processes=3), fails)
