"""Write requirements.lock: requirements.in resolved once in a fresh environment, and what came of it frozen.

Only Python 3.11, on Linux. Read the diff before committing it: what floated in requirements.in is now of today.
"""

import subprocess
import tempfile
import venv
from pathlib import Path

import make_venv
import quietly

HEAD = """\
# Exact versions of everything but Horovod (tools/horovod.txt), for Python 3.11. Written by `make lock`; do not edit.
# How: a fresh virtual environment, `pip install -r requirements.in` in one resolution, `pip freeze`.
# Local parts of versions are left out: `torch==2.13.0` admits the CPU build 2.13.0+cpu. Where pip finds both, the CPU build
# is the smaller by several GB; which one it finds is for pip's own configuration to say.
"""


def main() -> None:
    make_venv.check_python()
    with tempfile.TemporaryDirectory(prefix="recspark-lock-") as scratch_name:
        scratch = Path(scratch_name)
        venv.create(scratch / "venv", with_pip=True)
        pip: list[str | Path] = [scratch / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
        quietly.run(
            [*pip, "install", "-r", make_venv.ROOT / "requirements.in"],
            label="resolving requirements.in in a fresh environment",
            log=scratch / "pip.log",
            step=make_venv.PIP_STEP,
        )
        freeze = subprocess.run(
            [*pip, "freeze", "--all", "--exclude", "pip"], check=True, capture_output=True, text=True
        )
    pins = sorted((line.partition("+")[0] for line in freeze.stdout.splitlines()), key=str.lower)
    make_venv.LOCK.write_text(HEAD + "\n".join(pins) + "\n")
    print(f"requirements.lock: {len(pins)} packages")


if __name__ == "__main__":
    main()
