"""`make package`: into dist/, the wheel, and an environment that runs where it is unpacked, for Spark's `--archives`.

The environment is the project's own with the wheel in place of the checkout. It has all packages and not Python's own library, so every machine
needs the Python that it was made with (that of /usr, say) at the same place, and the same kind of processor and system libraries.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import venv_pack

ROOT = Path(__file__).resolve().parent.parent
VENV, DIST, COPY = ROOT / ".venv", ROOT / "dist", ROOT / "build" / "environment"
ARCHIVE = DIST / "recspark-environment.tar.gz"
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


def main() -> None:
    began = time.time()
    wheel = build_wheel()
    copy_environment()
    run([COPY / "bin/python", *PIP, "install", "--no-index", "--no-deps", "--force-reinstall", wheel])
    venv_pack.pack(prefix=str(COPY), output=str(ARCHIVE), compress_level=1, force=True)
    shutil.rmtree(COPY)
    for made in (wheel, ARCHIVE):
        print(f"{made.relative_to(ROOT)}  {made.stat().st_size / 1e6:,.1f} MB")
    print(
        f"packed in {time.time() - began:.0f} s; needs the Python {platform.python_version()} of {sys.base_prefix} where it runs"
    )


def build_wheel() -> Path:
    """The project's wheel, and no other in dist/."""
    DIST.mkdir(exist_ok=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # or modules that are gone would be in it
    for old in DIST.glob("recspark-*.whl"):
        old.unlink()
    run([sys.executable, *PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", DIST, ROOT])
    (wheel,) = DIST.glob("recspark-*.whl")
    return wheel


def copy_environment() -> None:
    """.venv as it would be in another place; its files are links where the file system has them, and none is written to."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(VENV, COPY, symlinks=True, copy_function=link, ignore=shutil.ignore_patterns("*.log", ".packages"))
    ours, theirs = f"#!{VENV}/".encode(), f"#!{COPY}/".encode()
    for script in (COPY / "bin").iterdir():
        if script.is_file() and not script.is_symlink() and (content := script.read_bytes()).startswith(ours):
            script.unlink()  # a link to .venv's
            script.write_bytes(content.replace(ours, theirs, 1))
            script.chmod(0o755)


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def run(command: list[str | Path]) -> None:
    """Raises SystemExit if it fails."""
    if code := subprocess.run(command, check=False, cwd=ROOT).returncode:
        raise SystemExit(f"package: {' '.join(map(str, command))} ended with code {code}")


if __name__ == "__main__":
    main()
