"""Files of a lake by their paths below its root, on any file system that pyarrow knows; each appears whole or not at all."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.fs as pafs

from recspark.errors import UserError, failing
from recspark.lake.folders import MANIFEST


@dataclass
class Files:
    """The root: a local folder or a URI."""

    root: str

    def __post_init__(self) -> None:
        if self.root.startswith("file:"):
            self.root = unquote(urlparse(self.root).path)
        if "://" not in self.root:
            self.root = str(Path(self.root).absolute())
        elif "?" in self.root:
            raise UserError(
                f"lake: {self.root} has a query, and paths are put behind it; leave it out, and give what it says to Spark by spark.conf and to "
                "pyarrow by its environment, such as AWS_ENDPOINT_URL"
            )
        self.root = self.root.rstrip("/") or "/"
        try:
            self.fs, self.base = pafs.FileSystem.from_uri(self.root)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"lake: {self.root} is no place that pyarrow knows ({str(error).splitlines()[0]}); give a folder, or a URI such as hdfs://…, gs://… "
                "or s3://…, which Spark reads with spark.hadoop.fs.s3.impl: org.apache.hadoop.fs.s3a.S3AFileSystem"
            ) from error
        except OSError as error:
            raise failing(
                f"lake: {self.root} cannot be reached ({str(error).splitlines()[0]}); for hdfs://… pyarrow needs libjvm and libhdfs (JAVA_HOME, "
                "HADOOP_HOME, and CLASSPATH from `hadoop classpath --glob`), for a bucket its credentials",
                str(error),
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
            raise damaged(self.path(relative), f" ({error})") from error

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

    def manifest_in(self, relative: str) -> dict[str, Any]:
        """What the manifest of a folder says; nothing if it has none. UserError if it is damaged."""
        try:
            found = self.get_json(f"{relative}/{MANIFEST}")
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict):
            raise damaged(self.path(f"{relative}/{MANIFEST}"), " object")
        return found


def damaged(path: str, what: str) -> UserError:
    """Of a file that is not the JSON that it should be."""
    return UserError(
        f"a file is damaged: {path} is no JSON{what}; put it back, or, of a manifest, run again from the stage that writes what it stands beside"
    )
