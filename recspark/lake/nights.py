"""All that a lake holds, night by night: what each table and model was made from, and what of it may go.

A part is one run date of a table, or one version of a model; its manifest names what it was made from.
"""

import datetime
import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from recspark.errors import RunFailed
from recspark.lake.files import Files
from recspark.lake.folders import MANIFEST
from recspark.lake.lock import REPLACING, RunLock
from recspark.lake.places import VERSIONS, Places
from recspark.lake.promotions import history
from recspark.lake.registry import PREFIX, Registry

MODELS = "models"
BY_DATE = ("logs", "reports", "tensorboard", "_scratch")  # what a night leaves beside its tables
OWN = {*BY_DATE, MODELS, "_locks", "tuning", VERSIONS}
DATED = re.compile(r"run_date=(\d{4}-\d\d-\d\d)")
UNMADE = re.compile(PREFIX + r"(\d{4}-\d\d-\d\d)-")
LOCK = re.compile(r"run_date=(\d{4}-\d\d-\d\d)\.json")
PUBLISHED = "recommendations"
FACTORS = ("user_factors", "item_factors")  # without those of its date, a version of the retriever folds nobody in


@dataclass(frozen=True)
class Place:
    """Of a part: a table's name or models/<name>, and run_date=… or version=…"""

    name: str
    key: str

    @property
    def path(self) -> str:
        return f"{self.name}/{self.key}"

    @property
    def date(self) -> datetime.date:
        """A version is named by its date first."""
        return datetime.date.fromisoformat(self.key.partition("=")[2][:10])


@dataclass(frozen=True)
class Input:
    """What a part was made from, and the fingerprint that it had then."""

    place: Place
    rows: int | None
    fingerprint: str


@dataclass(frozen=True)
class Part:
    """A table's run date or a model's version, as it is now."""

    place: Place
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of a table's rows, or a model's content."""
        return self.manifest.get("fingerprint") or self.manifest.get("content_hash", "")

    @property
    def inputs(self) -> list[Input]:
        found = self.manifest.get("inputs", {}).items()
        return [
            Input(Place(name, key_in(name, about["path"])), about["rows"], about["fingerprint"])
            for name, about in found
            if not name.startswith("raw/")
        ]


def key_in(name: str, path: str) -> str:
    """The run date or version in the path of what was read: its last part, but of a table's folder to which a manifest leads the one before."""
    *_, last_but_one, last = path.rsplit("/", 2)
    return last_but_one if last.startswith(PREFIX) and not name.startswith(f"{MODELS}/") else last


def part_at(files: Files, place: Place) -> Part | None:
    """The part, if it is there and whole."""
    manifest = files.manifest_in(place.path)
    return Part(place, manifest) if manifest else None


def folders(files: Files, relative: str) -> list[str]:
    """Names of the folders in a folder, sorted; none if it is not there."""
    selector = pafs.FileSelector(f"{files.base}/{relative}", allow_not_found=True)
    return sorted(i.base_name for i in files.fs.get_file_info(selector) if i.type == pafs.FileType.Directory)


def parts(files: Files) -> list[Part]:
    """All that are there and whole, by name and date."""
    tables = [
        Place(name, key)
        for name in folders(files, "")
        if name not in OWN
        for key in folders(files, name)
        if DATED.fullmatch(key)
    ]
    models = [
        Place(f"{MODELS}/{name}", key)
        for name in folders(files, MODELS)
        for key in folders(files, f"{MODELS}/{name}")
        if key.startswith(PREFIX)
    ]
    return [part for place in (*tables, *models) if (part := part_at(files, place)) is not None]


def dates(found: Iterable[Part]) -> list[datetime.date]:
    """Run dates that have a table, oldest first."""
    return sorted({part.place.date for part in found if DATED.fullmatch(part.place.key)})


# ---- what may go


@dataclass(frozen=True)
class Vacuum:
    """What goes; what of the dates that go stays, with why; and beside, the folders of logs, reports, work and tables' files that go."""

    goes: tuple[Part, ...]
    beside: tuple[str, ...]
    stays: tuple[tuple[Part, str], ...]


def plan(files: Files, keeps: Callable[[datetime.date], bool], own: Collection[datetime.date] = ()) -> Vacuum:
    """All of the dates that `keeps` does not, but for: the newest lists that were published; what a kept table or model was made
    from; a version that is promoted or that a rollback would go back to; the factors that such versions fold in with, and the pre-trained
    encoder whose tokens they read; and dates that a run is writing. own: dates whose lock is the caller's.
    """
    # Before the parts: what a run writes meanwhile is in neither.
    written, around = locked_dates(files) - set(own), folders_beside(files)
    found = parts(files)
    published = [part.place.date for part in found if part.place.name == PUBLISHED]
    newest = max(published, default=None)

    def kept(date: datetime.date) -> bool:
        return keeps(date) or date == newest or date in written

    needed = {i.place: part.place.path for part in found if kept(part.place.date) for i in part.inputs}
    for name in folders(files, MODELS):
        for version in history(Registry(files, name)):
            needed[Place(f"{MODELS}/{name}", f"{PREFIX}{version}")] = "its promotion"
    there = (part.place for part in found if kept(part.place.date))
    for place in [place for place in (*needed, *there) if place.name == f"{MODELS}/retriever"]:
        for factors in FACTORS:
            needed.setdefault(Place(factors, f"run_date={place.date}"), place.path)
    for part in found:
        if part.place in needed and part.place.name == f"{MODELS}/retriever":
            for made_from in part.inputs:
                if made_from.place.name == f"{MODELS}/pretrained":
                    needed.setdefault(made_from.place, part.place.path)
    why = {part.place: needed.get(part.place) for part in found}
    for part in found:
        if not keeps(part.place.date) and part.place.date in written:
            why[part.place] = "a run that writes the date"
        elif not keeps(part.place.date) and part.place.date == newest:
            why[part.place] = "the newest lists that are published"
    old = [part for part in found if not keeps(part.place.date)]
    stays = tuple((part, reason) for part in old if (reason := why[part.place]))
    goes = tuple(part for part in old if not why[part.place])
    led_to = {f"{VERSIONS}/{part.place.path}" for part, _ in stays}
    beside = [path for path, date in around if not kept(date) and path not in led_to]
    return Vacuum(goes, tuple(beside), stays)


def locked_dates(files: Files) -> set[datetime.date]:
    """Run dates that a run holds. Where a lock's file is replaced by deleting it first, it is looked for twice."""
    names = set(files.names("_locks"))
    if not files.local:
        time.sleep(REPLACING[-1])
        names |= set(files.names("_locks"))
    found = map(LOCK.fullmatch, names)
    return {datetime.date.fromisoformat(match[1]) for match in found if match}


def folders_beside(files: Files) -> list[tuple[str, datetime.date]]:
    """Folders of logs, reports, work in progress and curves, of tables to which manifests lead or led, and of models whose manifest was never
    written; with their dates."""
    places = [name for name in BY_DATE if name != "tensorboard"]
    places += [f"{name}/{below}" for name in ("tensorboard", VERSIONS) for below in folders(files, name)]
    dated = [(f"{place}/{key}", DATED.fullmatch(key)) for place in places for key in folders(files, place)]
    models = [
        Place(f"{MODELS}/{name}", key) for name in folders(files, MODELS) for key in folders(files, f"{MODELS}/{name}")
    ]
    dated += [(m.path, UNMADE.match(m.key)) for m in models if not files.exists(f"{m.path}/{MANIFEST}")]
    return [(path, datetime.date.fromisoformat(match[1])) for path, match in dated if match]


def remove(files: Places, keeps: Callable[[datetime.date], bool]) -> Vacuum:
    """Carry out what `plan` says, as it says it once no run can write the dates that go; returns what went, and what stayed.

    Raises RunFailed if a run writes any date: it may read what would go.
    """
    planned = plan(files, keeps)
    going = {part.place.date for part in planned.goes} | set(map(date_in, planned.beside))
    with ExitStack() as stack:
        for date in sorted(going):
            stack.enter_context(RunLock(files, date).held())
        if busy := locked_dates(files) - going:
            raise RunFailed(
                f"vacuum: a run is writing {', '.join(map(str, sorted(busy)))} and may read what would go; wait for it, or, if you know "
                "that it has died, recspark unlock"
            )
        planned = plan(files, keeps, going)
        held = Vacuum(
            tuple(part for part in planned.goes if part.place.date in going),
            tuple(path for path in planned.beside if date_in(path) in going),
            planned.stays,
        )
        withdraw(files, held)
    return held


def date_in(path: str) -> datetime.date:
    """Of a folder of a run date or a version."""
    return datetime.date.fromisoformat(path.rpartition("=")[2][:10])


def withdraw(files: Places, planned: Vacuum) -> None:
    """All goes from where it is read, a rename each, and only then is deleted: whoever had begun to list it may be done. On object
    stores the manifests go first, without which nothing is a table or a version."""
    paths = [path for path in (*(part.place.path for part in planned.goes), *planned.beside) if files.exists(path)]
    for aside in [withdrawn(files, path) for path in paths]:
        files.delete(aside)
    files.sweep()


def withdrawn(files: Places, path: str) -> str:
    """Take a folder from where it is read; returns where it is now."""
    if files.renames:
        return files.set_aside(path)
    if files.exists(f"{path}/{MANIFEST}"):  # without it, it is no table and no version
        files.fs.delete_file(f"{files.base}/{path}/{MANIFEST}")
    return path
