"""Two runs of one date, of which only one may write: on this machine, on another, dead, asleep and in a race."""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recspark import locks
from recspark.errors import RunFailed, UserError
from recspark.lake import Lake, lock
from recspark.lake.lock import RunLock

DATE = datetime.date(2026, 1, 2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path), DATE)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)


def on_another_machine(lake: Lake, count: int = 0) -> dict:
    """A lock that a run elsewhere has written."""
    holder = {**RunLock(lake, DATE).holder, "host": "elsewhere", "machine": "another", "count": count}
    lake.write_json(RunLock(lake, DATE).place, holder)
    return holder


def test_while_a_run_writes_a_date_another_is_told_who_it_is(lake: Lake):
    first, second = RunLock(lake, DATE), RunLock(lake, DATE)
    with first.held():
        with pytest.raises(
            RunFailed, match=rf"is being written by another run: since .*, process {os.getpid()} .*unlock"
        ):
            second.take()
        with RunLock(lake, datetime.date(2026, 1, 3)).held():  # another date is free
            first.require_mine()
    second.take()
    second.release()
    assert lake.names("_locks") == []


def test_a_run_that_was_killed_is_succeeded(lake: Lake):
    code = (
        "import datetime, sys; from recspark.lake import Lake; from recspark.lake.lock import RunLock;"
        "RunLock(Lake(sys.argv[1], None), datetime.date(2026, 1, 2)).take(); print('held', flush=True); input()"
    )
    run = subprocess.Popen([sys.executable, "-c", code, lake.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"held\n"
    with pytest.raises(RunFailed, match=f"process {run.pid}"):
        RunLock(lake, DATE).take()
    run.send_signal(signal.SIGKILL)
    run.wait()
    told: list[str] = []
    with RunLock(lake, DATE).held(told.append):
        assert len(told) == 1
        assert "the run before this one has died: since" in told[0]
        assert f"process {run.pid}" in told[0]


def test_another_process_of_the_same_number_is_not_the_run(lake: Lake):
    holder = {**RunLock(lake, DATE).holder, "started": "before the machine was started"}
    lake.write_json(RunLock(lake, DATE).place, holder)
    with RunLock(lake, DATE).held():
        pass


@pytest.mark.usefixtures("quick")
def test_on_another_machine_a_run_lives_while_its_count_rises(lake: Lake):
    holder = on_another_machine(lake)
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.02):
            holder["count"] += 1
            lake.write_json(RunLock(lake, DATE).place, holder)

    alive = threading.Thread(target=go_on)
    alive.start()
    try:
        with pytest.raises(RunFailed, match="on elsewhere"):
            RunLock(lake, DATE).take()
    finally:
        ended.set()
        alive.join()
    with RunLock(lake, DATE).held():  # it has stopped
        pass


def test_a_killed_process_that_nobody_has_asked_for_is_dead(lake: Lake):
    run = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert lock.process_start(run.pid) is not None
    run.kill()
    until = time.monotonic() + 10
    while lock.process_start(run.pid) is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert Path(f"/proc/{run.pid}").exists()  # a zombie
    run.wait()


@pytest.mark.usefixtures("quick")
def test_a_run_that_slept_too_long_notices_before_it_publishes(lake: Lake, tmp_path: Path):
    lake.lock = RunLock(lake, DATE)
    with lake.lock.held():
        (tmp_path / "staged").mkdir()
        lake.publish("staged", "table")
        on_another_machine(lake)
        (tmp_path / "staged").mkdir()
        for act in (
            lambda: lake.publish("staged", "table"),
            lambda: lake.clear_scratch("combine"),  # by now it is the other run's
            lambda: lake.scratch("combine"),
            lambda: lake.write_file("reports/report.html", ""),
            lambda: lake.within("trials").clear_scratch("combine"),
        ):
            with pytest.raises(RunFailed, match="is no longer this run's"):
                act()
    assert (
        json.loads((tmp_path / "_locks" / f"run_date={DATE}.json").read_text())["host"] == "elsewhere"
    )  # not taken away


@pytest.mark.usefixtures("quick")
def test_the_count_rises_as_long_as_the_run_lives(lake: Lake):
    own = RunLock(lake, DATE)
    with own.held():
        until = time.monotonic() + 10
        while (own.read() or {})["count"] < 2:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_beat_that_cannot_be_written_is_not_the_last(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    own, failed = RunLock(lake, DATE), threading.Event()
    write = own.files.write_file

    def fail_once(relative: str, text: str) -> str:
        if '"count": 1' in text and not failed.is_set():
            failed.set()
            raise OSError("the lake does not answer")
        return write(relative, text)

    monkeypatch.setattr(own.files, "write_file", fail_once)
    with own.held():
        until = time.monotonic() + 10
        while (own.read() or {})["count"] < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert failed.is_set()


def test_without_hard_links_one_still_gets_it(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    def no_links(*_: object) -> None:
        raise PermissionError("not supported here")

    monkeypatch.setattr(os, "link", no_links)
    first = RunLock(lake, DATE)
    assert first.create()
    assert not RunLock(lake, DATE).create()
    first.require_mine()


def test_of_many_that_start_at_once_one_gets_it(lake: Lake):
    runs, got = [RunLock(lake, DATE) for _ in range(12)], []
    start = threading.Barrier(len(runs))

    def race(run: RunLock) -> None:
        start.wait()
        if run.create():
            got.append(run)

    threads = [threading.Thread(target=race, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].require_mine()


def test_a_lock_that_says_nothing_is_taken_away_by_unlock_alone(lake: Lake, tmp_path: Path, capsys):
    """A full disk may leave an empty one."""
    lake.write_file(RunLock(lake, DATE).place, "")
    with pytest.raises(UserError, match=r"does not say who holds it; .*recspark unlock --run-date 2026-01-02"):
        RunLock(lake, DATE).take()
    config = tmp_path / "night.yaml"
    config.write_text(f"lake: {lake.root}")
    locks.unlock(str(config), [], DATE)
    assert "is free; its lock did not say who held it" in capsys.readouterr().out
    with RunLock(lake, DATE).held():
        pass


def test_a_lock_that_is_away_for_a_moment_is_still_held(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    """As on a file system that renames by deleting first."""
    own = RunLock(lake, DATE)
    assert own.create()
    real, away = own.read, [None, None]
    monkeypatch.setattr(own, "read", lambda: away.pop() if away else real())
    own.require_mine()
    assert not away


@pytest.mark.usefixtures("quick")
def test_unlock_frees_what_a_dead_run_holds_and_nothing_else(lake: Lake, tmp_path: Path, capsys):
    config = tmp_path / "night.yaml"
    config.write_text(f"lake: {lake.root}")
    with pytest.raises(UserError, match="no run holds run date 2026-01-02"):
        locks.unlock(str(config), [], DATE)
    with RunLock(lake, DATE).held(), pytest.raises(UserError, match=r"lives: since .*; end it there \(--force"):
        locks.unlock(str(config), [], DATE)
    with RunLock(lake, DATE).held():
        locks.unlock(str(config), [], DATE, force=True)
        assert RunLock(lake, DATE).read() is None
    on_another_machine(lake)
    locks.unlock(str(config), [], DATE)
    assert "is free; it was held since" in capsys.readouterr().out
    assert RunLock(lake, DATE).read() is None
