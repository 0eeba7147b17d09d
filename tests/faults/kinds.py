"""The faults that `make chaos` has: what each does to a night that is under way. True once it has struck; False: nothing was there to be hit yet."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from recspark.exits import WORKER_DAEMON
from recspark.pipeline import STAGES
from recspark.tables import TABLES
from tests import nightly
from tests.faults.disk import fill

OUTPUTS = [
    table for stage in nightly.STAGES for table in STAGES[stage].OUTPUTS if table in TABLES and "pair_" not in table
]


@dataclass(frozen=True)
class Night:
    """A run that is under way."""

    process: subprocess.Popen
    lake: Path
    draw: random.Random

    def children(self, sign: str) -> list[psutil.Process]:
        """Processes of the run whose command line has the sign."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return sorted((p for p in found if sign in command_line(p)), key=lambda p: p.pid)

    def ranks(self) -> list[psutil.Process]:
        """Ranks that are learning."""
        said = [json.loads(path.read_text()) for path in self.lake.glob("_scratch/*/finetune/status/*/rank-*.json")]
        return [psutil.Process(s["pid"]) for s in said if s["state"] == "running" and psutil.pid_exists(s["pid"])]


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def end(found: list[psutil.Process], draw: random.Random, by: signal.Signals) -> psutil.Process | None:
    """Send the signal to one of them, if there is one."""
    if not found:
        return None
    chosen = draw.choice(found)
    chosen.send_signal(by)
    return chosen


def driver_killed(night: Night) -> bool:
    night.process.send_signal(signal.SIGKILL)
    return True


def driver_interrupted(night: Night) -> bool:
    night.process.send_signal(signal.SIGINT)
    return True


def driver_told_to_end(night: Night) -> bool:
    night.process.send_signal(signal.SIGTERM)
    return True


def jvm_killed(night: Night) -> bool:
    return end(night.children("org.apache.spark.deploy.SparkSubmit"), night.draw, signal.SIGKILL) is not None


def worker_killed(night: Night) -> bool:
    workers = [p for p in night.children(WORKER_DAEMON) if not p.children()]
    return end(workers, night.draw, signal.SIGKILL) is not None


def rank_killed(night: Night) -> bool:
    return end(night.ranks(), night.draw, signal.SIGKILL) is not None


def rank_stopped(night: Night) -> bool:
    return end(night.ranks(), night.draw, signal.SIGSTOP) is not None


def file_truncated(night: Night) -> bool:
    """Of a published table, a Parquet file loses its second half."""
    files = sorted(p for t in OUTPUTS for p in night.lake.glob(f"{t}/run_date=*/**/*.parquet"))
    if not files:
        return False
    chosen = night.draw.choice(files)
    os.truncate(chosen, chosen.stat().st_size // 2)
    return True


def model_changed(night: Night) -> bool:
    """One byte of a model's weights is another."""
    files = sorted(night.lake.glob("models/**/*.safetensors"))
    if not files:
        return False
    chosen = night.draw.choice(files)
    with chosen.open("r+b") as stream:
        stream.seek(night.draw.randrange(chosen.stat().st_size))
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 255]))
    return True


def disk_full(night: Night) -> bool:
    """The lake's disk, one of its own, has no byte left until the run has ended."""
    fill(night.lake)
    return True


DISK_FULL = "lake's disk full"
FAULTS: dict[str, Callable[[Night], bool]] = {
    "driver killed": driver_killed,
    "JVM killed (driver and executor)": jvm_killed,
    "Python worker killed": worker_killed,
    "rank killed": rank_killed,
    "rank stopped": rank_stopped,
    "driver interrupted": driver_interrupted,
    "driver told to end": driver_told_to_end,
    "table's file truncated": file_truncated,
    "model's byte changed": model_changed,
    DISK_FULL: disk_full,
}
