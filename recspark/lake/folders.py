"""Folders as one thing: swapped in one step, known by their content, brought to this machine."""

import ctypes
import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs

from recspark.errors import RunFailed

MANIFEST = "_manifest.json"
RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100
COPY_SECONDS = 3 * 86400  # so long a copy on this machine stays that nobody asks for


def exchange(a: str, b: str) -> bool:
    """Swap two local paths in one atomic step (Linux renameat2); False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0


def folder_hash(folder: str | Path) -> str:
    """SHA-256 over the names and contents of a folder's files, manifests left out. folder: a local path, or a URI."""
    fs, base = pafs.FileSystem.from_uri(str(folder) if "://" in str(folder) else str(Path(folder).absolute()))
    found = [i for i in fs.get_file_info(pafs.FileSelector(base, recursive=True)) if i.type == pafs.FileType.File]
    digest = hashlib.sha256()
    for path in sorted(i.path for i in found if i.base_name != MANIFEST):
        digest.update(path.removeprefix(f"{base}/").encode() + b"\0")
        with fs.open_input_stream(path, compression=None) as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def local_folder(path: str) -> Path:
    """The folder itself if it is on this machine, else a copy of it, made once a machine for each content of its manifest or, where it has
    none, as a model of the user's own, for each state of its files (names, sizes, times)."""
    if "://" not in path:
        return Path(path)
    fs, base = pafs.FileSystem.from_uri(path)
    name = hashlib.sha256(path.encode())
    if fs.get_file_info(f"{base}/{MANIFEST}").type == pafs.FileType.File:  # of another run of the date another
        with fs.open_input_stream(f"{base}/{MANIFEST}") as stream:
            name.update(stream.read())
    else:
        for file in sorted(fs.get_file_info(pafs.FileSelector(base, recursive=True)), key=lambda file: file.path):
            name.update(f"{file.path} {file.size} {file.mtime_ns}\n".encode())
    kept = copies() / name.hexdigest()[:16]
    if kept.exists():
        with suppress(OSError):  # another process sweeps it
            os.utime(kept)
    else:
        sweep_copies(kept.parent)
        partial = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}")
        partial.mkdir()
        pafs.copy_files(base, str(partial), source_filesystem=fs)
        try:
            partial.rename(kept)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return kept


def copies() -> Path:
    """This user's folder of copies, which nobody else may write to; RunFailed if somebody else's is there by that name."""
    folder = Path(tempfile.gettempdir()) / f"recspark-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise RunFailed(
            f"{folder}, for copies of models and tables, is not this user's alone; remove it, or set TMPDIR to a folder of this user's"
        )
    return folder


def sweep_copies(folder: Path) -> None:
    """Remove copies that nobody has asked for in days: each night has folders of its own."""
    for copy in folder.iterdir() if folder.exists() else ():
        with suppress(OSError):  # another process sweeps too
            if time.time() - copy.stat().st_mtime > COPY_SECONDS:
                gone = copy.rename(copy.with_name(f"{copy.name}.{uuid.uuid4().hex}"))  # nobody shall find half of it
                shutil.rmtree(gone)
