"""One run a date: who writes a run date of a lake says so in a file, keeps it fresh, and removes it at the end.

    <root>/_locks/run_date=2026-11-24.json      who, since when, and a count that rises while the run lives

Whether a holder lives is not told by clocks: on this machine by its process, from another, or another container, by whether the count still rises. A
holder that has died, killed or with its machine, is succeeded by the next run; one that was only asleep notices, at the
latest before it publishes, and stops. On file systems other than a local one there is no exclusive creation: two runs that
start in the same second are told apart by reading again.
"""

import datetime
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from recspark.errors import RunFailed, UserError
from recspark.lake.files import Files
from recspark.lake.promotions import who

log = logging.getLogger("recspark")

BEAT_SECONDS = 5.0
WATCHED_BEATS = 4  # so long a count may stand still before its holder is held for dead
REPLACING = (0.1, 0.2, 0.4)  # seconds between looks at a file that may just be put in the place of the one before
SETTLING_SECONDS = 1.0  # until what another run has written at the same time can be read


class RunLock:
    """The lock of one run date. `holder`: what is written into it, of this run."""

    def __init__(self, files: Files, run_date: datetime.date):
        self.files, self.run_date = Files(files.root), run_date
        self.place = f"_locks/run_date={run_date}.json"
        self.holder: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "user": who(),
            "host": socket.gethostname(),
            "machine": machine(),
            "process": os.getpid(),
            "started": process_start(os.getpid()),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:300],
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "count": 0,
        }
        self.ended = threading.Event()

    @contextmanager
    def held(self, told: Any = None) -> Iterator[None]:
        """Within it, no other run writes the run date. told: called with a line if a dead run is succeeded.

        Raises RunFailed if another run holds it and lives.
        """
        self.take(told)
        beating = threading.Thread(target=self.beat, daemon=True, name="run-lock")
        beating.start()
        try:
            yield
        finally:
            self.ended.set()
            beating.join(BEAT_SECONDS)
            self.release()

    def take(self, told: Any = None) -> None:
        """Raises RunFailed if another run holds it and lives."""
        while not self.create():
            other = self.read()
            if other is None:  # it has just ended
                continue
            if lives(other, self.read):
                raise RunFailed(  # nothing to mend, but to wait: a scheduler may try again
                    f"run date {self.run_date} of the lake {self.files.root} is being written by another run: {described(other)}; "
                    "wait for it, or end it. If you know that it has died: recspark unlock --run-date "
                    f"{self.run_date} --config …"
                )
            if self.remove(other) and told:
                told(f"the run before this one has died: {described(other)}")

    def create(self) -> bool:
        """Whether the file is this run's; False if there is one already."""
        if isinstance(self.files.fs, pafs.LocalFileSystem):
            own = Path(self.files.write_file(f"{self.place}.{self.holder['id']}", json.dumps(self.holder)))
            try:
                os.link(own, self.files.path(self.place))  # creates it, or fails: there is nothing between
            except FileExistsError:
                return False
            except OSError:  # mounted without hard links
                return self.create_alone()
            finally:
                own.unlink()
            return True
        if self.read_again() is not None:
            return False
        self.files.write_file(self.place, json.dumps(self.holder))
        time.sleep(SETTLING_SECONDS)
        return self.is_mine()

    def create_alone(self) -> bool:
        """By the system's exclusive creation; who looks in this moment may find it empty, and looks again."""
        try:
            opened = os.open(self.files.path(self.place), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(opened, "w") as stream:
            stream.write(json.dumps(self.holder))
        return True

    def read(self) -> dict[str, Any] | None:
        """Who holds it, if anybody does.

        Raises UserError if it does not say who, now and a moment later.
        """
        for patience in (0.2, 0.2, None):
            try:
                return self.files.get_json(self.place)
            except FileNotFoundError:
                return None
            except UserError as error:  # being written
                if patience is None:
                    raise UserError(
                        f"the lock {self.files.path(self.place)} does not say who holds it; if no run writes run date {self.run_date}: "
                        f"recspark unlock --run-date {self.run_date} --config …"
                    ) from error
                time.sleep(patience)
        return None

    def remove(self, holder: dict[str, Any]) -> bool:
        """Take away the lock of a holder; False if it was another's by then."""
        now = self.read()
        if now is None or now["id"] != holder["id"]:
            return False
        self.clear()
        return True

    def clear(self) -> None:
        """Take the file away, whoever's it is."""
        self.files.fs.delete_file(f"{self.files.base}/{self.place}")

    def read_again(self) -> dict[str, Any] | None:
        """As `read`, and looks again where nobody seems to hold it: a file system that renames by deleting first has such a moment at every beat."""
        for patience in REPLACING:
            if (now := self.read()) is not None:
                return now
            time.sleep(patience)
        return self.read()

    def is_mine(self) -> bool:
        now = self.read_again()
        return now is not None and now["id"] == self.holder["id"]

    def require_mine(self) -> None:
        """RunFailed if another run has held this one for dead and taken over."""
        if not self.is_mine():
            raise RunFailed(
                f"run date {self.run_date} of the lake {self.files.root} is no longer this run's: it stood still for so long that another took "
                "over, or somebody unlocked it; nothing more is written"
            )

    def beat(self) -> None:
        """Let the count rise until the end, or until the lock is another's."""
        while not self.ended.wait(BEAT_SECONDS):
            try:
                if not self.is_mine():
                    return
                self.holder["count"] += 1
                self.files.write_file(self.place, json.dumps(self.holder))
            except Exception as error:  # the lake may answer again; another run waits for several beats
                log.warning("the lock of run date %s could not be kept fresh: %s", self.run_date, error)

    def release(self) -> None:
        self.remove(self.holder)


def lives(holder: dict[str, Any], read: Any) -> bool:
    """Whether a holder's process is there or, where processes have other numbers, its count rises. read: gives who holds it now."""
    if holder["machine"] is not None and holder["machine"] == machine():
        return process_start(holder["process"]) == holder["started"]
    until = time.monotonic() + WATCHED_BEATS * BEAT_SECONDS
    while time.monotonic() < until:
        time.sleep(BEAT_SECONDS / 5)
        now = read()
        if now is None or now["id"] != holder["id"]:
            return False  # gone; who holds it now is for the next look
        if now["count"] != holder["count"]:
            return True
    return False


def machine() -> str | None:
    """What tells where a process's number means that process: this start of the machine, and its space of numbers (a container
    has one of its own); None where that cannot be told, or processes of others are hidden."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        Path("/proc/1/stat").read_text()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()} {os.getuid()}"
    except OSError:
        return None


def process_start(process: int) -> str | None:
    """What tells a process from a later one of the same number; None if there is none, or it has ended and nobody asked how."""
    try:
        facts = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if facts[0] in "ZX" else facts[19]


def described(holder: dict[str, Any]) -> str:
    return f"since {holder['since']}, {holder['user']} on {holder['host']}, process {holder['process']} ({holder['command']})"
