"""The lake: tables and models by name. The only owner of paths, manifests and atomicity.

    <root>/<table>/run_date=2026-11-24/part-….parquet     what SQL reads; appears whole, by one rename
    <root>/<table>/run_date=2026-11-24/_manifest.json     rows, schema, settings, inputs, code version, seconds
    <root>/models/<name>/run_date=2026-11-24/             a model's folder, with a manifest of the same kind
    <root>/_scratch/run_date=2026-11-24/<name>/           work in progress: staging, checkpoints; nobody reads it

The root is a local folder or a URI that pyarrow knows (hdfs://, s3://, gs://). On object stores a rename is not atomic;
only local folders and HDFS were meant here, and only local folders were run.
"""

import datetime
import json
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from pyspark.sql import DataFrame, SparkSession

from recspark import __version__
from recspark.errors import UserError
from recspark.lake.checks import verify_rows
from recspark.lake.folders import MANIFEST, exchange, folder_hash, local_folder
from recspark.tables import Table, check

__all__ = ["Lake", "Traffic", "local_folder"]


@dataclass(frozen=True)
class Traffic:
    """One table or model that a stage read or wrote."""

    action: str  # read | write
    name: str
    rows: int | None
    path: str


@dataclass
class Lake:
    """Reads and publishes the tables and models of one run date.

    `facts` (settings, stage) go into the manifest of everything written; `traffic` records what was read and written.
    """

    root: str
    run_date: datetime.date
    facts: dict[str, Any] = field(default_factory=dict)
    traffic: list[Traffic] = field(default_factory=list)
    stage: str = ""

    def __post_init__(self) -> None:
        if "://" not in self.root:
            self.root = str(Path(self.root).absolute())
        self.fs, self.base = pafs.FileSystem.from_uri(self.root)

    # ---- paths

    def _partition(self, name: str, run_date: datetime.date | None = None) -> str:
        return f"{name}/run_date={run_date or self.run_date}"

    def path(self, relative: str) -> str:
        """A path under the root, as Spark wants it."""
        return f"{self.root}/{relative}"

    def table_path(self, table: Table, run_date: datetime.date | None = None) -> str:
        """Where one run date of a table lies."""
        return self.path(self._partition(table.name, run_date))

    def model_path(self, name: str, run_date: datetime.date | None = None) -> str:
        """Where one run date of a model lies."""
        return self.path(self._partition(f"models/{name}", run_date))

    def scratch(self, name: str) -> str:
        """A folder for work in progress of this run date; made if need be."""
        relative = f"_scratch/run_date={self.run_date}/{name}"
        self.fs.create_dir(f"{self.base}/{relative}", recursive=True)
        return self.path(relative)

    def clear_scratch(self, name: str) -> None:
        """Remove a scratch folder."""
        self._delete(f"_scratch/run_date={self.run_date}/{name}")

    def log_path(self, name: str) -> str:
        """A local file for this run date's logs; its folder is made. With a remote lake, in the working directory's logs/."""
        root = self.base if isinstance(self.fs, pafs.LocalFileSystem) else "."
        folder = Path(root) / "logs" / f"run_date={self.run_date}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"lake {self.root} cannot be written: {error}; set lake to a folder that can") from None
        return str(folder / name)

    def run_dates(self, table: Table) -> list[datetime.date]:
        """Dates that a table has, oldest first."""
        return self._dates(table.name)

    def model_dates(self, name: str) -> list[datetime.date]:
        """Dates of which a model is there, oldest first."""
        return [date for date in self._dates(f"models/{name}") if self.has_model(name, date)]

    def _dates(self, folder: str) -> list[datetime.date]:
        selector = pafs.FileSelector(f"{self.base}/{folder}", allow_not_found=True)
        names = [i.base_name for i in self.fs.get_file_info(selector)]
        return sorted(datetime.date.fromisoformat(n[9:]) for n in names if re.fullmatch(r"run_date=\d{4}-\d\d-\d\d", n))

    # ---- tables

    def has(self, table: Table, run_date: datetime.date | None = None) -> bool:
        """Whether the table of the run date is there, whole."""
        return self._exists(f"{self._partition(table.name, run_date)}/{MANIFEST}")

    def read(self, spark: SparkSession, table: Table, run_date: datetime.date | None = None) -> DataFrame:
        """The table of the run date, checked.

        Raises UserError if it is not there or has other columns.
        """
        rows, path = self.manifest(table, run_date)["rows"], self.table_path(table, run_date)
        self.traffic.append(Traffic("read", table.name, rows, path))
        return check(spark.read.parquet(path), table)

    def write(self, df: DataFrame, table: Table, **about: Any) -> DataFrame:
        """Stage the frame, check its rows, then put it in the place of the table's run date by one rename.

        about: goes into the manifest. Returns what was written, read back. Raises UserError if columns, nulls or the key
        break the table's contract; nothing is published then.
        """
        began = time.time()
        staged = f"_scratch/run_date={self.run_date}/staging/{table.name}-{uuid.uuid4().hex}"
        check(df, table).write.partitionBy(*table.folders).parquet(self.path(staged))
        written = df.sparkSession.read.schema(check(df, table).schema).parquet(self.path(staged))
        rows = verify_rows(written, table)
        schema = written.schema.simpleString()
        self._put_json(f"{staged}/{MANIFEST}", self._new_manifest(table.name, rows, began, schema=schema, **about))
        self._publish(staged, self._partition(table.name))
        self.traffic.append(Traffic("write", table.name, rows, self.table_path(table)))
        return check(df.sparkSession.read.parquet(self.table_path(table)), table)

    def manifest(self, table: Table, run_date: datetime.date | None = None) -> dict[str, Any]:
        """The manifest of a table's run date.

        Raises UserError if it is not there.
        """
        if not self.has(table, run_date):
            raise UserError(
                f"table {table.name} of run date {run_date or self.run_date} is not in the lake {self.root}; "
                f"run the stage that writes it first (recspark run --to …), or give --run-date"
                + (f"; it has {', '.join(map(str, self.run_dates(table)))}" if self.run_dates(table) else "")
            )
        return self._get_json(f"{self._partition(table.name, run_date)}/{MANIFEST}")

    # ---- models

    def has_model(self, name: str, run_date: datetime.date | None = None) -> bool:
        """Whether the model of the run date is there, whole."""
        return self._exists(f"{self._partition(f'models/{name}', run_date)}/{MANIFEST}")

    def write_model(self, name: str, folder: str | Path, **about: Any) -> str:
        """Publish a local folder as the model of the run date, `about` in its manifest; returns its content hash."""
        began = time.time()
        content = folder_hash(Path(folder))
        staged = f"_scratch/run_date={self.run_date}/staging/model-{name}-{uuid.uuid4().hex}"
        self.put_folder(folder, self.path(staged))
        self._put_json(f"{staged}/{MANIFEST}", self._new_manifest(name, None, began, content_hash=content, **about))
        self._publish(staged, self._partition(f"models/{name}"))
        self.traffic.append(Traffic("write", f"models/{name}", None, self.model_path(name)))
        return content

    def put_folder(self, folder: str | Path, path: str) -> None:
        """Copy a local folder's files to a path under the root."""
        fs, base = pafs.FileSystem.from_uri(path)
        fs.create_dir(base, recursive=True)
        pafs.copy_files(str(Path(folder).absolute()), base, destination_filesystem=fs)

    def read_model(self, name: str, run_date: datetime.date | None = None) -> tuple[str, str]:
        """(path, content hash) of a model; `local_folder` brings the path to this machine.

        Raises UserError if it is not there.
        """
        manifest = self.model_manifest(name, run_date)
        self.traffic.append(Traffic("read", f"models/{name}", None, self.model_path(name, run_date)))
        return self.model_path(name, run_date), manifest["content_hash"]

    def model_manifest(self, name: str, run_date: datetime.date | None = None) -> dict[str, Any]:
        """The manifest of a model's run date.

        Raises UserError if it is not there.
        """
        if not self.has_model(name, run_date):
            raise UserError(
                f"model {name} of run date {run_date or self.run_date} is not in the lake {self.root}; run the stage that writes it first"
            )
        return self._get_json(f"{self._partition(f'models/{name}', run_date)}/{MANIFEST}")

    # ---- files for people

    def write_file(self, relative: str, text: str) -> str:
        """Put one text file (a report, a log) at a path under the root, whole or not at all; returns the path."""
        temporary = f"{self.base}/{relative}.{uuid.uuid4().hex}.tmp"
        self.fs.create_dir(f"{self.base}/{relative}".rpartition("/")[0], recursive=True)
        with self.fs.open_output_stream(temporary) as stream:
            stream.write(text.encode())
        self.fs.move(temporary, f"{self.base}/{relative}")
        return self.path(relative)

    # ---- beneath

    def record_stage(
        self, stage: str, rows_in: dict[str, int], rows_out: dict[str, int | None], seconds: float
    ) -> None:
        """Keep what a stage read, wrote and took; the report shows it."""
        facts = {"stage": stage, "rows_in": rows_in, "rows_out": rows_out, "seconds": round(seconds, 3)}
        self.write_file(f"logs/run_date={self.run_date}/stage-{stage}.json", json.dumps(facts))

    def stage_records(self) -> dict[str, dict[str, Any]]:
        """What `record_stage` kept of this run date, by stage."""
        selector = pafs.FileSelector(f"{self.base}/logs/run_date={self.run_date}", allow_not_found=True)
        names = [i.base_name for i in self.fs.get_file_info(selector)]
        files = [n for n in names if n.startswith("stage-") and n.endswith(".json")]
        records = [self._get_json(f"logs/run_date={self.run_date}/{n}") for n in sorted(files)]
        return {r["stage"]: r for r in records}

    def _new_manifest(self, name: str, rows: int | None, began: float, **more: Any) -> dict[str, Any]:
        reads = {t.name: t.path for t in self.traffic if t.action == "read"}
        return {
            "name": name,
            "run_date": str(self.run_date),
            "rows": rows,
            "written_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - began, 3),
            "code_version": __version__,
            "stage": self.stage,
            "inputs": reads,
            **more,
            **self.facts,
        }

    def _publish(self, staged: str, final: str) -> None:
        """Put a staged folder in its place by one rename; what stood there before goes."""
        source, target = f"{self.base}/{staged}", f"{self.base}/{final}"
        self.fs.create_dir(target.rpartition("/")[0], recursive=True)
        if not self._exists(final):
            self.fs.move(source, target)
            return
        if isinstance(self.fs, pafs.LocalFileSystem) and exchange(source, target):
            self._delete(staged)
            return
        old = f"{source}-old"
        self.fs.move(target, old)
        self.fs.move(source, target)
        self.fs.delete_dir(old)

    def _exists(self, relative: str) -> bool:
        return self.fs.get_file_info(f"{self.base}/{relative}").type != pafs.FileType.NotFound

    def _delete(self, relative: str) -> None:
        if self._exists(relative):
            self.fs.delete_dir(f"{self.base}/{relative}")

    def _get_json(self, relative: str) -> dict[str, Any]:
        with self.fs.open_input_stream(f"{self.base}/{relative}") as stream:
            return json.loads(stream.read())

    def _put_json(self, relative: str, value: dict[str, Any]) -> None:
        with self.fs.open_output_stream(f"{self.base}/{relative}") as stream:
            stream.write(json.dumps(value, indent=2, default=str).encode())
