"""Watch the ranks from the driver: end a launch that would never end, and say which rank failed and why."""

import _thread
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from recspark.signals import Signals
from recspark.training.launcher.settings import LaunchSettings
from recspark.training.status import HEARTBEAT, Status, read_statuses

GRACE = 15.0  # seconds that the launcher has to end by itself after a rank has failed
POLL = 0.5
END = (
    signal.SIGUSR1
)  # ends what the launching thread waits for; not SIGINT, which scripts ignore for commands in the background
ECHO = "HorovodInternalError"  # what the other ranks say when one has died


@contextmanager
def ended_by_watcher() -> Iterator[None]:
    """Within it, END raises KeyboardInterrupt in this thread, if it is the main one: others get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(END, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(END, before)


class Watcher(threading.Thread):
    """Reads what the ranks say of themselves while they are launched, and ends a launch that would never end."""

    def __init__(
        self,
        spark: SparkSession,
        settings: LaunchSettings,
        status_folder: str,
        watch: Callable[[dict[int, Status]], None],
        signals: Signals,
    ):
        super().__init__(name="recspark-watcher", daemon=True)
        self.signals = signals
        self.spark, self.settings, self.status_folder, self.watch = spark, settings, status_folder, watch
        self.began, self.failed_at, self.why, self.over = time.time(), 0.0, "", threading.Event()
        self.heard: dict[int, Status] = {}
        # Of a rank and a sign of life: what it said last, and when that was first read here.
        self.signs: dict[tuple[int, str], tuple[float, float]] = {}
        self.cut: Exception | None = None  # raised by `watch`: who watches has seen enough

    def run(self) -> None:
        while not self.over.wait(POLL):
            statuses = self.statuses()
            asked = "this process was asked to end" if self.signals.came() else ""
            self.why = self.why or self.look(statuses) or asked or self.reason_to_stop(statuses, time.time())
            if self.why:
                stop(self.spark, statuses)
                # A rank in this very process has nothing that could end it but an interrupt.
                if not self.over.wait(0 if self.settings.launcher == "local" else GRACE):
                    _thread.interrupt_main(END)
                return

    def statuses(self) -> dict[int, Status]:
        """What the ranks last said, as far as it can be read; where it cannot, again and again, that is why the launch ends."""
        try:
            self.heard = read_statuses(self.status_folder)
        except (OSError, ValueError) as error:
            self.why = self.why or f"what the ranks say of themselves cannot be read: {error}"
        return self.heard

    def look(self, statuses: dict[int, Status]) -> str:
        """Show the statuses to who watches; why the launch should end if that raised."""
        try:
            self.watch(statuses)
        except Exception as error:
            self.cut = error
        return f"{type(self.cut).__name__}: {self.cut}" if self.cut else ""

    def finish(self) -> None:
        """Stop watching, after a last look."""
        self.over.set()
        self.join()
        if not self.cut:
            self.look(self.statuses())

    def reason_to_stop(self, statuses: dict[int, Status], now: float) -> str:
        """Why the launch would never end by itself, or nothing."""
        missing = [r for r in range(self.settings.num_processes) if r not in statuses]
        if missing and now - self.began > self.settings.start_timeout:
            return f"rank {missing[0]} did not start within start_timeout ({self.settings.start_timeout:.0f} s)"
        for status in (s for s in statuses.values() if not s.over):
            if self.silence(status.rank, "beat", status.beat, now) > self.settings.lost_timeout:
                return f"rank {status.rank} gave no sign of life for lost_timeout ({self.settings.lost_timeout:.0f} s)"
            if self.silence(status.rank, "moved", status.moved, now) > self.settings.stall_timeout:
                return f"rank {status.rank} did not move on for stall_timeout ({self.settings.stall_timeout:.0f} s)"
        if any(s.state == "failed" for s in statuses.values()):
            self.failed_at = self.failed_at or now
            if now - self.failed_at > GRACE:
                return "a rank failed, and the others did not end by themselves"
        return ""

    def silence(self, rank: int, sign: str, said: float, now: float) -> float:
        """Seconds since a rank's sign was another, all by this machine's clock: the rank's may be minutes away from it."""
        before, read_at = self.signs.get((rank, sign), (None, now))
        if said != before:
            self.signs[rank, sign] = said, now
            return 0.0
        return now - read_at


def stop(spark: SparkSession, statuses: dict[int, Status]) -> None:
    """End what still runs: the Spark tasks that hold the ranks, and ranks of this machine by their process id."""
    spark.sparkContext.cancelAllJobs()
    for status in statuses.values():
        if not status.over and status.host == socket.gethostname() and status.pid != os.getpid():
            try:
                os.kill(status.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def explain(
    settings: LaunchSettings, statuses: dict[int, Status], why: str, failure: BaseException | None, log_path: str
) -> str:
    """Which rank, and why; a rank's failure that only echoes another's comes last."""
    lines = [f"{settings.section} by {settings.launcher} failed" + (f": {why}" if why else "")]
    # The one that has been silent longest first: the others wait for it.
    silent = sorted((s for s in statuses.values() if not s.over), key=lambda s: min(s.beat, s.moved))
    failed = sorted((s for s in statuses.values() if s.state == "failed"), key=lambda s: (ECHO in s.why, s.rank))
    for status in silent:
        lines.append(f"  {place(status)} (process {status.pid}): {last_sign(status, bool(why))}")
    lines += [f"  {place(status)}: {status.why}" for status in failed]
    if not failed and not silent and failure:
        lines.append(f"  {type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}")
    if Path(log_path).exists():
        said = [line for line in Path(log_path).read_text(errors="replace").splitlines() if line.strip()]
        lines += [f"  last said: {said[-1]}"] if said and not statuses else []
        lines.append(f"  the ranks' own output: {log_path}")
    return "\n".join(lines)


def last_sign(status: Status, stopped: bool) -> str:
    """What can be said of a rank that did not say how it ended. stopped: the launch was ended from here, by a timeout."""
    if stopped and time.time() - status.beat < 3 * HEARTBEAT:
        return f"alive, but its last step was {time.time() - status.moved:.0f} s ago"
    return "ended without a word; killed, or out of memory?"


def place(status: Status) -> str:
    return f"rank {status.rank} on {status.host}, epoch {status.epoch}, step {status.step}"
