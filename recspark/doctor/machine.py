"""Checks of this machine: interpreter, Java, packages, memory, disk. None of them needs Spark."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from recspark.doctor.checkup import Caution, Checkup
from recspark.errors import UserError

JAVA_VERSIONS = (17, 21)
OLDEST_PYTHON = (3, 11)
GIB = 2**30
LEAST_DISK = 2 * GIB
TASK_MEMORY = GIB  # a Python worker with torch and the encoder, about
UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def python(checkup: Checkup) -> str:
    """The driver's interpreter; the executors' are compared with it later."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        raise UserError(f"Python {found} ({sys.executable}); recspark needs 3.11 or newer")
    return f"{found}, {sys.executable}"


def java(checkup: Checkup) -> str:
    """The Java that Spark will take: of JAVA_HOME, else of PATH."""
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home) / "bin/java") if home else shutil.which("java")
    wanted = f"install one (Debian: apt-get install openjdk-{JAVA_VERSIONS[0]}-jre-headless) or set JAVA_HOME"
    if command is None or not Path(command).is_file():
        raise UserError(
            f"no Java {'at JAVA_HOME ' + home if home else 'on PATH'}; Spark needs {JAVA_VERSIONS[0]} or {JAVA_VERSIONS[1]}: {wanted}"
        )
    said = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    match = re.search(r'version "((\d+)[^"]*)"', said)
    if match is None or int(match[2]) not in JAVA_VERSIONS:
        found = match[1] if match else said.strip() or "no answer"
        raise UserError(f"{command} is Java {found}; Spark needs {JAVA_VERSIONS[0]} or {JAVA_VERSIONS[1]}: {wanted}")
    checkup.java = True
    return f"{match[1]}, {command}"


def packages(checkup: Checkup) -> str:
    """Versions that go together, and the reader that the settings name."""
    numpy, pyarrow = version("numpy"), version("pyarrow")
    if int(numpy.partition(".")[0]) >= 2 and int(pyarrow.partition(".")[0]) < 15:
        raise UserError(
            f"pyarrow {pyarrow} was built for numpy 1 and numpy is {numpy}; install from requirements.lock, or numpy<2"
        )
    if readers := [s.section for s in checkup.trainings if s.reader == "petastorm"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            try:
                importlib.import_module("petastorm.reader")
            except Exception as error:  # a broken binary raises what it likes
                raise UserError(
                    f"{readers[0]}.reader is petastorm, which does not load ({error}); install recspark's extra petastorm, or set "
                    f"{', '.join(f'{section}.reader' for section in readers)}: arrow"
                ) from None
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"pyspark {version('pyspark')}, pyarrow {pyarrow}, numpy {numpy}, torch {torch.__version__}, {device}"


def memory(checkup: Checkup) -> str:
    """What the driver, and on one machine the tasks, will want; an estimate, so too little for the tasks is a Caution."""
    settings, free = checkup.deployment.spark, free_memory()
    wanted = driver = in_bytes(settings.driver_memory)
    tasks = 0
    if (settings.master or "").startswith("local"):
        tasks = local_slots(settings.master or "")
        wanted += tasks * TASK_MEMORY
    if free < driver:
        raise UserError(
            f"{free / GIB:.1f} GiB free, and spark.driver_memory is {settings.driver_memory}; free some or set it lower"
        )
    says = f"{free / GIB:.1f} GiB free; the driver may take {driver / GIB:.1f}, {tasks} tasks about {tasks * TASK_MEMORY / GIB:.0f}"
    return (
        says
        if free >= wanted
        else Caution(f"{says}; set spark.master to fewer tasks, such as local[1], if it runs out")
    )


def disk(checkup: Checkup) -> str:
    """Room for tables and for Spark's shuffles, where these are on this machine."""
    places = {"temporary files": Path(os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).split(",")[0])}
    if "://" not in checkup.deployment.lake:
        places["the lake"] = Path(checkup.lake.root)
    free = {name: shutil.disk_usage(nearest_folder(path)).free for name, path in places.items()}
    short = [f"{free[name] / GIB:.1f} GiB for {name} ({places[name]})" for name in free if free[name] < LEAST_DISK]
    if short:
        raise UserError(f"only {' and '.join(short)}; free some: less than {LEAST_DISK / GIB:.0f} GiB will not do")
    return ", ".join(f"{n / GIB:.0f} GiB free for {name}" for name, n in free.items())


# ---- beneath


def in_bytes(amount: str) -> int:
    """Bytes of what Spark writes as 2g, 512m or 2048 (MiB)."""
    match = re.fullmatch(r"(\d+)([kmgt]?)b?", amount.strip().lower())
    if match is None:
        raise UserError(f"spark.driver_memory {amount!r} is no amount; write it as 2g or 2048m")
    return int(match[1]) * UNITS[match[2] or "m"]


def free_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be had: the machine's, or less where a container's limit (cgroup v2) says so, whose unused file cache gives way."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (match := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        free = int(match[1]) * 1024
    limit = group / "memory.max"
    if limit.exists() and limit.read_text().strip().isdigit():
        cache = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        used = int((group / "memory.current").read_text()) - (int(cache[1]) if cache else 0)
        free = min(free, int(limit.read_text()) - used)
    return free


def local_slots(master: str) -> int:
    """Tasks at a time of local, local[4], local[*]."""
    match = re.match(r"local\[(\d+|\*)", master)
    return 1 if match is None else cores() if match[1] == "*" else int(match[1])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())
