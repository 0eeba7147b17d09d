"""Make .venv: the packages of requirements.lock and nothing else, in one resolution.

The stamp .packages in it holds the lock's hash and is written last, so that an interrupted or outdated environment is
made anew from an empty folder, and a complete one is left as it is.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import quietly

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
PIP_STEP = r"^(?:Collecting|Downloading|Building wheel for) [\w.=+-]+|^Installing collected packages"


def main() -> None:
    make(VENV, LOCK, "about 2 minutes and 3 GB")


def make(folder: Path, lock: Path, cost: str) -> None:
    """The environment of a lock, in a folder of the project. cost: of making it, to say so."""
    stamp = folder / ".packages"
    lock_hash = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == lock_hash:
        stamp.touch()
        return
    check_python()
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    quietly.run(
        [folder / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "-r", lock],
        label=f"installing the packages of {lock.relative_to(ROOT)} into {folder.name} ({cost})",
        log=folder / "pip.log",
        step=PIP_STEP,
    )
    compile_all(folder)
    stamp.write_text(lock_hash)


def compile_all(folder: Path) -> None:
    """Bytecode of all that is installed, on all cores, where pip takes one. Files in other Pythons' syntax stay as they are."""
    print("compiling them ...", flush=True)
    began = time.monotonic()
    python, packages = folder / "bin/python", folder.glob("lib/python*/site-packages")
    command: list[str | Path] = [python, "-m", "compileall", "-q", "-j", "0", *packages]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # its status is 1 for them
    print(f"  done in {time.monotonic() - began:.0f} s", flush=True)


def check_python() -> None:
    """Raises SystemExit where this Python cannot make the locked environment."""
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found != "3.11":
        raise SystemExit(
            f"set-up: the lock is for Python 3.11, this is {found}: give one by `make PYTHON=/path/to/python3.11 ...`"
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise SystemExit(
            f"set-up: {sys.executable} cannot make virtual environments: install the package python3.11-venv"
        )


if __name__ == "__main__":
    main()
