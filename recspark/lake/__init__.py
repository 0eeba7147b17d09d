"""The lake: tables and models by name. The only owner of paths, manifests and atomicity.

    <root>/_tables/<table>/run_date=2026-11-24/version=…/ the Parquet of one run date, as it was written once; nothing in it changes
    <root>/<table>/run_date=2026-11-24/_manifest.json     names that folder; rows, schema, settings, inputs, code version, seconds
    <root>/<table>/run_date=2026-11-24/part-….parquet     on a local disk the same files, for who reads them by this path
    <root>/models/<name>/version=2026-11-24-1a2b3c4d/     a model's folder, with a manifest of the same kind; it stays (registry.py)
    <root>/_scratch/run_date=2026-11-24/<name>/           work in progress: staging, checkpoints; nobody reads it
    <root>/_scratch/replaced/                             what was published before, for those who are still reading it; goes by itself
    <root>/_locks/run_date=2026-11-24.json                which run writes the date now (lock.py)

The root is a local folder or a URI that pyarrow knows (hdfs://, s3://, gs://). A table takes its place by one file, its manifest, the pointer to
its folder; a model is there once its manifest is. Only local folders were run here, and the part without Spark on objects in memory.
"""

import datetime
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from pyspark.sql import DataFrame, SparkSession

from recspark import __version__
from recspark.errors import UserError
from recspark.lake.checks import verify_rows
from recspark.lake.folders import MANIFEST, folder_hash, local_folder
from recspark.lake.lock import RunLock
from recspark.lake.places import Places, pointer
from recspark.lake.registry import Registry, Version, version_id
from recspark.tables import Table, check

__all__ = ["Lake", "Traffic", "local_folder"]


@dataclass(frozen=True)
class Traffic:
    """One table or model that a stage read or wrote."""

    action: str  # read | write
    name: str
    rows: int | None
    path: str
    fingerprint: str = ""  # of a table's rows, or a model's content hash


@dataclass
class Lake(Places):
    """Reads and publishes the tables and models of one run date.

    `facts` (settings, stage) go into the manifest of everything written; `traffic` records what was read and written. `tell` is told of each
    table that has taken its place, and says whether what was there before may go.
    """

    run_date: datetime.date
    facts: dict[str, Any] = field(default_factory=dict)
    traffic: list[Traffic] = field(default_factory=list)
    stage: str = ""
    stage_began: int = 0  # what was in the traffic before the stage
    lock: RunLock | None = None  # held by whoever runs stages; nothing is published once it is another's
    tell: Callable[[Table], bool] | None = None

    def begin(self, stage: str) -> None:
        """From here on, what is read and written is the stage's."""
        self.stage, self.stage_began = stage, len(self.traffic)

    def require_lock(self) -> None:
        """RunFailed if another run writes the run date by now."""
        if self.lock is not None:
            self.lock.require_mine()

    def publish(self, staged: str, final: str) -> bool:
        """As of places; RunFailed if another run writes the run date by now."""
        self.require_lock()
        return super().publish(staged, final)

    def write_file(self, relative: str, text: str) -> str:
        """As of files; RunFailed if another run writes the run date by now."""
        self.require_lock()
        return super().write_file(relative, text)

    # ---- paths

    def partition(self, table: Table, run_date: datetime.date | None = None) -> str:
        """The folder below the root in which the manifest of a table's run date is, if the table is there."""
        return f"{table.name}/run_date={run_date or self.run_date}"

    def table_path(self, table: Table, run_date: datetime.date | None = None) -> str:
        """Where the files of one run date of a table lie; where they would, if it is not there."""
        partition = self.partition(table, run_date)
        return self.path(self._folder(partition, self.manifest_in(partition)))

    def _folder(self, partition: str, manifest: Mapping[str, Any]) -> str:
        """Where the files of a table's run date lie below the root; UserError if its manifest leads to nothing."""
        folder = pointer(manifest)
        if folder is not None and not self.exists(folder):
            raise UserError(
                f"the manifest of {partition} in the lake {self.root} leads to {folder}, which is not there; put the folder back, or run again "
                "from the stage that writes the table"
            )
        return folder or partition

    def nights_of(self, table: Table) -> dict[datetime.date, tuple[str, dict[str, Any]]]:
        """Of each run date that the table has, oldest first: where its files lie, and its manifest."""
        partitions = {date: self.partition(table, date) for date in self.run_dates(table)}
        found = {date: (partition, self.manifest_in(partition)) for date, partition in partitions.items()}
        return {date: (self.path(pointer(about) or place), about) for date, (place, about) in found.items() if about}

    def scratch(self, name: str) -> str:
        """A folder for work in progress of this run date; made if need be. RunFailed if another run writes it by now."""
        self.require_lock()
        relative = f"_scratch/run_date={self.run_date}/{name}"
        self.fs.create_dir(f"{self.base}/{relative}", recursive=True)
        return self.path(relative)

    def clear_scratch(self, name: str) -> None:
        """Remove a scratch folder. RunFailed if another run writes the run date by now."""
        self.require_lock()
        self.delete(f"_scratch/run_date={self.run_date}/{name}")

    def log_path(self, name: str) -> str:
        """A local file for this run date's logs; see `local_file`."""
        return self.local_file(f"logs/run_date={self.run_date}/{name}")

    def local_file(self, relative: str) -> str:
        """A file that must be on this machine; its folder is made. With a remote lake, it is under the working directory."""
        path = Path(self.base if isinstance(self.fs, pafs.LocalFileSystem) else ".") / relative
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"lake {self.root} cannot be written: {error}; set lake to a folder that can") from None
        return str(path)

    def within(self, folder: str) -> "Lake":
        """A lake of its own in a folder of this one, of the same run date."""
        return Lake(self.path(folder), self.run_date, lock=self.lock)

    def remove(self, relative: str) -> None:
        """Remove a folder under the root, if it is there."""
        self.delete(relative)

    def run_dates(self, table: Table) -> list[datetime.date]:
        """Dates that a table has, oldest first."""
        names = self.names(table.name)
        return [datetime.date.fromisoformat(n[9:]) for n in names if re.fullmatch(r"run_date=\d{4}-\d\d-\d\d", n)]

    # ---- tables

    def has(self, table: Table, run_date: datetime.date | None = None) -> bool:
        """Whether the table of the run date is there, whole."""
        return self.exists(f"{self.partition(table, run_date)}/{MANIFEST}")

    def read(self, spark: SparkSession, table: Table, run_date: datetime.date | None = None) -> DataFrame:
        """The table of the run date, checked.

        Raises UserError if it is not there or has other columns.
        """
        manifest = self.manifest(table, run_date)
        path = self.path(self._folder(self.partition(table, run_date), manifest))
        self.traffic.append(Traffic("read", table.name, manifest["rows"], path, manifest.get("fingerprint", "")))
        return check(spark.read.parquet(path), table)

    def look(self, spark: SparkSession, table: Table, run_date: datetime.date | None = None) -> DataFrame:
        """As `read`, for a comparison: nothing is made from it, so it is no input."""
        path = self.path(self._folder(self.partition(table, run_date), self.manifest(table, run_date)))
        return check(spark.read.parquet(path), table)

    def write(self, df: DataFrame, table: Table, **about: Any) -> DataFrame:
        """Write the frame where nobody reads, check its rows, then let the manifest of the table's run date lead there.

        about: goes into the manifest. Returns what was written, read back. Raises UserError if columns, nulls, the key
        or a constant column break the table's contract; nothing is published then.
        """
        began = time.time()
        version = self.new_version(self.partition(table))
        try:
            check(df, table).write.partitionBy(*table.folders).parquet(self.path(version))
            written = df.sparkSession.read.schema(check(df, table).schema).parquet(self.path(version))
            rows, fingerprint = verify_rows(written, table)
            about |= {"schema": written.schema.simpleString(), "fingerprint": fingerprint}
            self.lead_to(version, table, self._new_manifest(table.name, rows, began, **about))
        except Exception:
            self.forget(self.partition(table), version)
            raise
        self.traffic.append(Traffic("write", table.name, rows, self.path(self.partition(table)), fingerprint))
        return check(written, table)

    def lead_to(self, version: str, table: Table, manifest: Mapping[str, Any]) -> None:
        """Make a folder that `new_version` named the table's run date, in one step.

        What the manifest led to before stays for some minutes for those who read it, and then goes, as does what a killed run left.
        """
        self.require_lock()
        partition = self.partition(table)
        self.lead(partition, version, manifest, f"_scratch/run_date={self.run_date}/staging/{table.name}")
        if self.tell is None or self.tell(table):
            self.let_others_go(partition, version)

    def manifest(self, table: Table, run_date: datetime.date | None = None) -> dict[str, Any]:
        """The manifest of a table's run date.

        Raises UserError if it is not there.
        """
        manifest = self.manifest_in(self.partition(table, run_date))
        if not manifest:
            raise UserError(
                f"table {table.name} of run date {run_date or self.run_date} is not in the lake {self.root}; "
                f"run the stage that writes it first (recspark run --to …), or give --run-date"
                + (f"; it has {', '.join(map(str, self.run_dates(table)))}" if self.run_dates(table) else "")
            )
        return manifest

    # ---- models

    def registry(self, name: str) -> Registry:
        """All versions of a model."""
        return Registry(self, name)

    def model_dates(self, name: str) -> list[datetime.date]:
        """Dates of which a model is there, oldest first."""
        return self.registry(name).dates()

    def write_model(self, name: str, folder: str | Path, **about: Any) -> str:
        """Publish a local folder as a version of the model, the run date's from now on; returns its content hash.

        about: goes into the manifest. Earlier versions of the run date stay. It is no version before its manifest is there.
        """
        began, content = time.time(), folder_hash(Path(folder))
        version = version_id(self.run_date, content)
        place = self.registry(name).place(version)
        about |= {"version": version, "content_hash": content}
        self.require_lock()
        if not self.is_whole(place, content):
            self.discard(place)  # what is left of a run that was killed, or damaged
            try:
                self.put_folder(folder, self.path(place))
            except OSError:  # a full disk has the more need of the room
                self.discard(place)
                raise
        self.write_json(f"{place}/{MANIFEST}", self._new_manifest(name, None, began, **about))
        self.traffic.append(Traffic("write", f"models/{name}", None, self.path(place), content))
        return content

    def is_whole(self, place: str, content: str) -> bool:
        """Whether a model stands there with its manifest and this content."""
        try:
            return bool(self.manifest_in(place)) and folder_hash(self.path(place)) == content
        except UserError:  # the manifest is damaged
            return False

    def read_model(self, name: str, run_date: datetime.date | None = None) -> tuple[str, str]:
        """(path, content hash) of a run date's model; `local_folder` brings the path to this machine.

        Raises UserError if it is not there, or its files are not those that were written.
        """
        return self.read_version(name, self.model_of_date(name, run_date))

    def read_version(self, name: str, version: Version) -> tuple[str, str]:
        """As `read_model`, of a version."""
        version.require_whole()
        self.traffic.append(Traffic("read", f"models/{name}", None, version.path, version.content_hash))
        return version.path, version.content_hash

    def model_of_date(self, name: str, run_date: datetime.date | None = None) -> Version:
        """The version of a model that was written last for a run date.

        Raises UserError if there is none.
        """
        found = self.registry(name).of_date(run_date or self.run_date)
        if found is None:
            raise UserError(
                f"model {name} of run date {run_date or self.run_date} is not in the lake {self.root}; run the stage that writes it first"
            )
        return found

    def model_manifest(self, name: str, run_date: datetime.date | None = None) -> Mapping[str, Any]:
        """The manifest of a run date's model.

        Raises UserError if it is not there.
        """
        return self.model_of_date(name, run_date).manifest

    # ---- beneath

    def record_stage(
        self, stage: str, rows_in: dict[str, int], rows_out: dict[str, int | None], seconds: float
    ) -> None:
        """Keep what a stage read, wrote and took; the report shows it."""
        facts = {"stage": stage, "rows_in": rows_in, "rows_out": rows_out, "seconds": round(seconds, 3)}
        self.write_file(f"logs/run_date={self.run_date}/stage-{stage}.json", json.dumps(facts))

    def stage_records(self) -> dict[str, dict[str, Any]]:
        """What `record_stage` kept of this run date, by stage."""
        folder = f"logs/run_date={self.run_date}"
        files = [n for n in self.names(folder) if n.startswith("stage-") and n.endswith(".json")]
        records = [self.get_json(f"{folder}/{name}") for name in files]
        return {r["stage"]: r for r in records}

    def _new_manifest(self, name: str, rows: int | None, began: float, **more: Any) -> dict[str, Any]:
        read = [t for t in self.traffic[self.stage_began :] if t.action == "read"]
        return {
            "name": name,
            "run_date": str(self.run_date),
            "rows": rows,
            "written_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "seconds": round(time.time() - began, 3),
            "code_version": __version__,
            "stage": self.stage,
            "inputs": {t.name: {"path": t.path, "rows": t.rows, "fingerprint": t.fingerprint} for t in read},
            **more,
            **self.facts,
        }
