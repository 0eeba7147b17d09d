"""Make .venv: the packages of requirements.lock and nothing else, in one resolution.

The stamp .venv/.packages holds the lock's hash and is written last, so that an interrupted or outdated environment is
made anew from an empty folder, and a complete one is left as it is.
"""

import hashlib
import importlib.util
import shutil
import sys
import venv
from pathlib import Path

import quietly

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
STAMP = VENV / ".packages"
PIP_STEP = r"^(?:Collecting|Downloading|Building wheel for) [\w.=+-]+|^Installing collected packages"


def main() -> None:
    lock_hash = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == lock_hash:
        STAMP.touch()
        return
    check_python()
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True)
    quietly.run(
        [VENV / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "-r", LOCK],
        label="installing the packages of requirements.lock into .venv (about 2 minutes and 3 GB)",
        log=VENV / "pip.log",
        step=PIP_STEP,
    )
    STAMP.write_text(lock_hash)


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
