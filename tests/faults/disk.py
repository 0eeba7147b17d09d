"""Small disks that can be full, where the tests may mount any."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"


@contextmanager
def own_disk(folder: Path, size: str) -> Iterator[Path]:
    """A folder that is a disk of its own, in memory. Raises CalledProcessError, or OSError, where nothing may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "recspark-tests", folder]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def may_mount(folder: Path) -> bool:
    try:
        with own_disk(folder / "disk", "1m"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def fill(disk: Path) -> None:
    """Leave no byte."""
    with (disk / FILLER).open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 20))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def make_room(disk: Path) -> None:
    """Take away what filled it, if it was filled."""
    (disk / FILLER).unlink(missing_ok=True)
