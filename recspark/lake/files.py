"""Files of a lake by their paths below its root, on any file system that pyarrow knows; each appears whole or not at all."""

import errno
import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.fs as pafs

from recspark.errors import UserError
from recspark.lake.folders import MANIFEST, exchange

VERSIONS = "_tables"  # holds the folders of tables' files, to which manifests lead
FOLDER = "folder"  # a manifest's pointer: the folder of its table, below the root
POINTER = re.compile(VERSIONS + r"/\w+/run_date=\d{4}-\d\d-\d\d/version=[\w-]+")
REPLACED = "_scratch/replaced"
LET_GO = ".json"  # ends the name of a note of a folder, among folders
NO_LINKS = {
    errno.EPERM,
    errno.EXDEV,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
}  # of disks, or of a folder that is another disk's
LISTING_SECONDS = 600  # so long may somebody be busy with listing a folder that was replaced meanwhile
log = logging.getLogger("recspark")


@dataclass
class Files:
    """The root: a local folder or a URI."""

    root: str

    def __post_init__(self) -> None:
        if self.root.startswith("file:"):
            self.root = unquote(urlparse(self.root).path)
        if "://" not in self.root:
            self.root = str(Path(self.root).absolute())
        try:
            self.fs, self.base = pafs.FileSystem.from_uri(self.root)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"lake: {self.root} is no place that pyarrow knows ({str(error).splitlines()[0]}); give a folder, or a URI such as hdfs://…, gs://… "
                "or s3://…, which Spark reads with spark.hadoop.fs.s3.impl: org.apache.hadoop.fs.s3a.S3AFileSystem"
            ) from error

    def path(self, relative: str) -> str:
        """A path under the root, as Spark wants it."""
        return f"{self.root}/{relative}"

    @property
    def local(self) -> bool:
        return isinstance(self.fs, pafs.LocalFileSystem)

    @property
    def renames(self) -> bool:
        """Whether a folder takes its place by one rename; on object stores it is copied file by file, if at all."""
        return self.fs.type_name in ("local", "hdfs")

    def exists(self, relative: str) -> bool:
        return self.fs.get_file_info(f"{self.base}/{relative}").type != pafs.FileType.NotFound

    def names(self, relative: str) -> list[str]:
        """What a folder holds, sorted; nothing if it is not there."""
        selector = pafs.FileSelector(f"{self.base}/{relative}", allow_not_found=True)
        return sorted(info.base_name for info in self.fs.get_file_info(selector))

    def delete(self, relative: str) -> None:
        """Remove a folder, if it is there."""
        if self.exists(relative):
            self.fs.delete_dir(f"{self.base}/{relative}")

    def get_json(self, relative: str) -> dict[str, Any]:
        """Raises FileNotFoundError; UserError if it is no JSON."""
        with self.fs.open_input_stream(f"{self.base}/{relative}") as stream:
            text = stream.read()
        try:
            return json.loads(text)
        except ValueError as error:
            raise UserError(
                f"a file is damaged: {self.path(relative)} is no JSON ({error}); put it back, or, of a manifest, run again from the stage that writes "
                "what it stands beside"
            ) from error

    def write_json(self, relative: str, value: dict[str, Any]) -> str:
        """As `write_file`."""
        return self.write_file(relative, json.dumps(value, indent=2, default=str))

    def write_file(self, relative: str, text: str) -> str:
        """Put one text file (a report, a log) at a path under the root, whole or not at all; returns the path."""
        temporary = f"{self.base}/{relative}.{uuid.uuid4().hex}.tmp"
        self.fs.create_dir(f"{self.base}/{relative}".rpartition("/")[0], recursive=True)
        with self.fs.open_output_stream(temporary) as stream:
            stream.write(text.encode())
        self.fs.move(temporary, f"{self.base}/{relative}")
        return self.path(relative)

    def put_folder(self, folder: str | Path, path: str) -> None:
        """Copy a local folder's files to a path under the root."""
        fs, base = pafs.FileSystem.from_uri(path)
        fs.create_dir(base, recursive=True)
        pafs.copy_files(str(Path(folder).absolute()), base, destination_filesystem=fs)

    def link_files(self, folder: str, to: str) -> None:
        """Have a local folder's files in a second one too: one content with two paths, of no size of its own.

        On a disk that has no hard links the second folder stays empty, and a warning says so.
        """
        source, target = Path(self.base, folder), Path(self.base, to)
        target.mkdir(parents=True)
        try:
            for file in source.rglob("*"):
                link = target / file.relative_to(source)
                if file.is_file():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.hardlink_to(file)
        except OSError as error:
            shutil.rmtree(target)
            if error.errno not in NO_LINKS:
                raise
            target.mkdir()
            log.warning(
                "  no hard links on the disk of %s: its tables are read by name, or by their manifests, only", self.root
            )

    def publish(self, staged: str, final: str) -> None:
        """Put a staged folder in its place by one rename; what stood there before goes some minutes later.

        Somebody who is listing the old folder, with its path already led elsewhere, would else see what is left of it as the whole.
        """
        self.sweep()
        source, target = f"{self.base}/{staged}", f"{self.base}/{final}"
        self.fs.create_dir(target.rpartition("/")[0], recursive=True)
        if not self.exists(final):
            self.fs.move(source, target)
            return
        if self.local and exchange(source, target):
            self.set_aside(staged)
        else:
            self.set_aside(final)
            self.fs.move(source, target)

    def set_aside(self, relative: str) -> str:
        """Take a folder from where it is read, by one rename; `sweep` removes it some minutes later. Returns where it is till then."""
        aside = f"{REPLACED}/{time.time():.0f}-{uuid.uuid4().hex}"
        self.fs.create_dir(f"{self.base}/{REPLACED}", recursive=True)
        self.fs.move(f"{self.base}/{relative}", f"{self.base}/{aside}")
        return aside

    def let_go(self, pointed: str) -> None:
        """Have `sweep` remove a folder that no manifest leads to any more, some minutes later; till then it stays where it is read."""
        note = f"-{pointed.replace('/', '+')}{LET_GO}"
        if not any(name.endswith(note) for name in self.names(REPLACED)):
            self.write_json(f"{REPLACED}/{time.time():.0f}{note}", {FOLDER: pointed})

    def discard(self, relative: str) -> None:
        """Remove a folder; at once from where it is read, if the file system can."""
        if self.exists(relative):
            self.delete(self.set_aside(relative) if self.renames else relative)

    def sweep(self) -> None:
        """Remove what was replaced long enough ago."""
        for name in self.names(REPLACED):
            since = name.partition("-")[0]
            if not since.isdigit() or int(since) >= time.time() - LISTING_SECONDS:
                continue
            with suppress(OSError):  # another run sweeps too
                if name.endswith(LET_GO):
                    self.sweep_noted(f"{REPLACED}/{name}")
                else:
                    self.delete(f"{REPLACED}/{name}")

    def sweep_noted(self, note: str) -> None:
        """Remove the folder that a note names, unless a manifest leads there again; and the note, whatever it says."""
        with suppress(UserError):  # it is damaged; the folder goes with its date
            if (pointed := pointer(self.get_json(note))) and pointer(self.manifest_in(place_of(pointed))) != pointed:
                self.discard(pointed)
        self.fs.delete_file(f"{self.base}/{note}")

    def manifest_in(self, relative: str) -> dict[str, Any]:
        """What the manifest of a folder says; nothing if it has none."""
        try:
            return self.get_json(f"{relative}/{MANIFEST}")
        except FileNotFoundError:
            return {}


def pointer(manifest: Mapping[str, Any]) -> str | None:
    """Where a manifest leads, below the root; None if the files are beside it.

    Raises UserError if that is anywhere but in a folder of a table: it is read from there, and some day removed.
    """
    folder = manifest.get(FOLDER)
    if folder is None or POINTER.fullmatch(str(folder)):
        return folder
    raise UserError(
        f"a manifest is damaged: it says that its table's files are in {folder}, and they can only be in {VERSIONS}/<table>/run_date=…/version=… "
        "of the lake; put it back, or run again from the stage that writes the table"
    )


def place_of(pointed: str) -> str:
    """Of `_tables/<table>/run_date=…/version=…`, where a manifest leads, `<table>/run_date=…`, where it stands."""
    return pointed.removeprefix(f"{VERSIONS}/").rpartition("/")[0]
