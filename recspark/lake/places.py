"""How what was written takes its place in a lake, and how what stood there leaves it.

A table's files stay in the folder in which they were written (a version), and the manifest of the table's run date leads there. On a local
disk the folder of the manifest (the partition) has the same files once more, as hard links, for who reads it by its path alone.
"""

import errno
import logging
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from recspark.errors import UserError
from recspark.lake.files import Files
from recspark.lake.folders import MANIFEST, exchange

VERSIONS = "_tables"  # holds the folders of tables' files, to which manifests lead
FOLDER = "folder"  # a manifest's pointer: the folder of its table's files, below the root
POINTER = re.compile(VERSIONS + r"/\w+/run_date=\d{4}-\d\d-\d\d/version=[\w-]+")
REPLACED = "_scratch/replaced"
LET_GO = ".json"  # ends the name of a note of a folder, among folders
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # of a disk: it would keep nothing else either
LISTING_SECONDS = 600  # so long may somebody be busy with reading a folder that was replaced meanwhile

log = logging.getLogger("recspark")


@dataclass
class Places(Files):
    """A lake's root, under which tables and models stand."""

    def new_version(self, partition: str) -> str:
        """A folder, not yet made, for the files of a table's run date, in a path where Spark and DuckDB find the run date."""
        self.sweep()
        return f"{VERSIONS}/{partition}/version={time.time():.0f}-{uuid.uuid4().hex[:8]}"

    def lead(self, partition: str, version: str, manifest: Mapping[str, Any], scratch: str) -> None:
        """Have the partition's manifest lead to the version, in one step. scratch: a folder that nobody else uses meanwhile."""
        led = {**manifest, FOLDER: version}
        if not (self.local and self.lead_with_files(partition, version, led, scratch)):
            self.write_json(f"{partition}/{MANIFEST}", led)
            self.renew_files(partition, version)

    def lead_with_files(self, partition: str, version: str, led: dict[str, Any], scratch: str) -> bool:
        """Manifest and files in one step, by a rename of their folder; False, and nothing done, where the disk cannot do so."""
        self.delete(scratch)  # of a run that was killed
        try:
            Path(self.base, scratch).mkdir(parents=True)
            self.link_files(version, scratch)
            self.write_json(f"{scratch}/{MANIFEST}", led)
            return self.publish(scratch, partition)
        finally:
            self.delete(scratch)

    def renew_files(self, partition: str, version: str) -> None:
        """The files beside a manifest that has taken its place already: none, and on a local disk those of the version."""
        for info in self.fs.get_file_info(pafs.FileSelector(f"{self.base}/{partition}")):
            if info.type == pafs.FileType.Directory:
                self.fs.delete_dir(info.path)
            elif info.base_name != MANIFEST:
                self.fs.delete_file(info.path)
        if self.local:
            self.link_files(version, partition)

    def link_files(self, folder: str, to: str) -> None:
        """Have a local folder's files in a second one too: one content with two paths, of no size of its own.

        On a disk that has no hard links none is there, and a warning says so.
        """
        source, target = Path(self.base, folder), Path(self.base, to)
        links: list[Path] = []
        try:
            for file in source.rglob("*"):
                if file.is_file():
                    links.append(target / file.relative_to(source))
                    links[-1].parent.mkdir(parents=True, exist_ok=True)
                    links[-1].hardlink_to(file)
        except OSError as error:
            for link in links:
                link.unlink(missing_ok=True)
            if error.errno in FULL:
                raise
            log.warning("  %s: read the table by name, or by its manifest; no hard links: %s", to, error)

    def publish(self, staged: str, final: str) -> bool:
        """Put a staged folder in its place by one rename; what stood there before goes some minutes later.

        Somebody who is listing the old folder, with its path already led elsewhere, would else see what is left of it as the whole.
        Returns False, and nothing is done, where a folder stands there and the system cannot exchange two in one step.
        """
        self.sweep()
        source, target = f"{self.base}/{staged}", f"{self.base}/{final}"
        self.fs.create_dir(target.rpartition("/")[0], recursive=True)
        if not self.exists(final):
            self.fs.move(source, target)
            return True
        if exchange(source, target):
            self.set_aside(staged)
            return True
        return False

    def let_others_go(self, partition: str, version: str) -> None:
        """Whatever the partition's manifest led to before, and what it never came to lead to because a run was killed."""
        for other in self.names(f"{VERSIONS}/{partition}"):
            if (left := f"{VERSIONS}/{partition}/{other}") != version:
                self.let_go(left)

    def forget(self, partition: str, version: str) -> None:
        """Remove what was written of a version to which the manifest was not led; on a full disk, that is room."""
        with suppress(OSError, UserError):
            if pointer(self.manifest_in(partition)) != version:
                self.delete(version)

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
        for info in self.fs.get_file_info(pafs.FileSelector(f"{self.base}/{REPLACED}", allow_not_found=True)):
            since = info.base_name.partition("-")[0]
            if not since.isdigit() or int(since) >= time.time() - LISTING_SECONDS:
                continue
            with suppress(OSError):  # another run sweeps too
                if info.base_name.endswith(LET_GO):
                    self.sweep_noted(f"{REPLACED}/{info.base_name}")
                elif info.type == pafs.FileType.Directory:
                    self.fs.delete_dir(info.path)
                else:  # half a note: a run was killed
                    self.fs.delete_file(info.path)

    def sweep_noted(self, note: str) -> None:
        """Remove the folder that a note names, unless a manifest leads there again; and the note, whatever it says."""
        with suppress(UserError):  # it is damaged; the folder goes with its date
            if (pointed := pointer(self.get_json(note))) and pointer(self.manifest_in(place_of(pointed))) != pointed:
                self.discard(pointed)
        self.fs.delete_file(f"{self.base}/{note}")


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
