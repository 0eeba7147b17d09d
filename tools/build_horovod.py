"""Put Horovod into .venv: from this machine's cache, or built from source once (about 5 minutes on two cores).

Horovod ships no wheels and must match torch exactly. The cache is outside the checkout, `$RECSPARK_CACHE` or
`$XDG_CACHE_HOME/recspark` or `~/.cache/recspark`, with one folder for each Horovod, torch, Python and machine:

    wheels/horovod-0.28.1-torch-2.13.0+cpu-cp311-x86_64/horovod-….whl     appears whole, by one rename
    wheels/horovod-0.28.1-torch-2.13.0+cpu-cp311-x86_64.log               of the last build

Run by .venv/bin/python. `--preflight`, run by any Python before the long installation, only says whether a compiler is
missing. Where torch is a CUDA build and nvcc is there, NCCL operations are built in; no GPU machine has tried that yet.
"""

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import quietly

PIN = Path(__file__).with_name("horovod.txt")
CMAKE = "cmake==3.31.10"  # cmake 4 refuses the old cmake_minimum_required of Horovod's third-party libraries
CMAKE_LISTS = ("CMakeLists.txt", "horovod/torch/CMakeLists.txt")
BUILD_SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITH_GLOO": "1",
}
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


def main() -> None:
    if sys.argv[1:] == ["--preflight"]:
        if not any(wheels_folder().glob(f"horovod-{version()}-*/*.whl")):
            check_compiler()
        return
    gpu = gpu_operations()
    folder = wheels_folder() / cache_key(gpu)
    with alone(folder.parent):
        if not list(folder.glob("*.whl")):
            check_compiler()
            build(folder, gpu)
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [sys.executable, *PIP, "install", "-q", "--no-deps", "--no-index", "--force-reinstall", wheel],
        check=True,
    )
    print(f"Horovod {version()} installed from {wheel.parent}")


def version() -> str:
    """Horovod's version, from the one file that pins it."""
    (found,) = re.findall(r"^horovod==(\S+)", PIN.read_text(), flags=re.MULTILINE)
    return found


def wheels_folder() -> Path:
    """Where this machine keeps built wheels."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RECSPARK_CACHE") or Path(cache_home) / "recspark").absolute() / "wheels"


def gpu_operations() -> dict[str, str]:
    """Build settings for GPUs; empty for a CPU build of torch or where nvcc is missing."""
    import torch

    return {"HOROVOD_GPU_OPERATIONS": "NCCL"} if torch.version.cuda and shutil.which("nvcc") else {}


def cache_key(gpu: dict[str, str]) -> str:
    """Everything that the wheel's machine code depends on."""
    import torch

    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    key = f"horovod-{version()}-torch-{torch.__version__}-{python}-{platform.machine()}"
    return f"{key}-nccl" if gpu else key


def check_compiler() -> None:
    """Raises SystemExit where C++ cannot be compiled."""
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise SystemExit(
            "set-up: no C++ compiler, and Horovod must be built: install g++ 10 or newer (Debian: apt-get install g++)"
        )
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        raise SystemExit(
            "set-up: no Python.h, and Horovod must be built: install Python's headers (Debian: apt-get install python3.11-dev)"
        )


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Hold the cache, so that of two set-ups one builds and the other waits; freed also if this process is killed."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up on this machine is building Horovod; waiting for it ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(folder: Path, gpu: dict[str, str]) -> None:
    """Build the wheel in a scratch folder of the cache, and move it to `folder` when it is whole."""
    for left_over in folder.parent.glob(".build-*"):  # of a build that was killed; we are alone here
        shutil.rmtree(left_over, ignore_errors=True)
    log = folder.with_name(folder.name + ".log")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder.parent) as scratch_name:
        scratch = Path(scratch_name)
        cmake = fetch_cmake(scratch, log)
        source = fetch_source(scratch, log)
        raise_cxx_standard(source)
        options = ["-v", "--use-pep517", "--no-build-isolation", "--no-deps", "--no-cache-dir"]
        quietly.run(
            [sys.executable, *PIP, "wheel", *options, "-w", scratch / "wheel", source],
            label=f"building Horovod {version()}, once on this machine (about 5 minutes on two cores)",
            log=log,
            step=r"\[ *\d+%\]",
            env=build_variables(cmake, gpu),
        )
        (wheel,) = (scratch / "wheel").glob("*.whl")
        folder.mkdir(exist_ok=True)
        wheel.replace(folder / wheel.name)


def fetch_cmake(scratch: Path, log: Path) -> Path:
    """The folder of cmake's programs: a copy beside the build, so that .venv stays as locked and no system one is needed."""
    quietly.run(
        [sys.executable, *PIP, "install", "--no-deps", "--target", scratch / "cmake", CMAKE],
        label="fetching cmake for the build",
        log=log,
    )
    return scratch / "cmake/cmake/data/bin"


def fetch_source(scratch: Path, log: Path) -> Path:
    """Horovod's unpacked source; pip checks the hash."""
    options = ["--use-pep517", "--no-build-isolation", "--no-deps", "--no-binary", "horovod"]
    quietly.run(
        [sys.executable, *PIP, "download", *options, "-d", scratch, "-r", PIN],
        label="fetching Horovod's source package",
        log=log,
    )
    shutil.unpack_archive(scratch / f"horovod-{version()}.tar.gz", scratch)
    return scratch / f"horovod-{version()}"


def raise_cxx_standard(source: Path) -> None:
    """Horovod asks for C++14; the headers of torch 2.13 ask for C++20."""
    for name in CMAKE_LISTS:
        text = (source / name).read_text()
        raised = text.replace("set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 20)")
        if raised == text:
            raise SystemExit(f"set-up: {name} of Horovod {version()} has no `set(CMAKE_CXX_STANDARD 14)` to raise")
        (source / name).write_text(raised)


def build_variables(cmake: Path, gpu: dict[str, str]) -> dict[str, str]:
    """The environment of the build. The calling make's flags must not reach the build's own make."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    jobs = min(8, len(os.sched_getaffinity(0)))
    path = f"{cmake}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return {**inherited, **BUILD_SETTINGS, **gpu, "PATH": path, "MAKEFLAGS": f"-j{jobs}"}


if __name__ == "__main__":
    main()
