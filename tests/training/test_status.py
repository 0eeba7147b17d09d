"""What ranks say of themselves, over a file system that fails now and then."""

import time
from pathlib import Path

import pytest

from recspark.training import status
from recspark.training.status import Reporter, read_statuses


def test_a_look_that_fails_is_taken_again_and_one_that_always_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Reporter(str(tmp_path), 3).update(state="done")
    real, failures = status.statuses_in, [OSError("stale file handle")] * 2
    monkeypatch.setattr(status, "INTERVAL", 0)

    def look(folder: str):
        if failures:
            raise failures.pop()
        return real(folder)

    monkeypatch.setattr(status, "statuses_in", look)
    assert read_statuses(str(tmp_path))[3].state == "done"
    failures += [OSError("stale file handle")] * 9
    with pytest.raises(OSError, match="stale"):
        read_statuses(str(tmp_path))


def test_a_heartbeat_goes_on_after_one_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(status, "HEARTBEAT", 0.05)
    reporter, beats, real = Reporter(str(tmp_path), 0), [], Reporter.write

    def write(self: Reporter) -> None:
        beats.append(len(beats))
        if len(beats) == 1:
            raise OSError("away")
        real(self)

    monkeypatch.setattr(Reporter, "write", write)
    until = time.time() + 10
    while len(beats) < 3 and time.time() < until:
        time.sleep(0.02)
    reporter.update(state="done")
    assert len(beats) >= 3


def test_a_step_goes_on_where_its_status_cannot_be_written_but_an_end_must_be_told(tmp_path, monkeypatch):
    reporter = Reporter(str(tmp_path), 0)

    def away(self: Reporter) -> None:
        raise OSError("stale file handle")

    monkeypatch.setattr(Reporter, "write", away)
    reporter.update(state="running", step=1)
    with pytest.raises(OSError, match="stale"):
        reporter.update(state="done")
