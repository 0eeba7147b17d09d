"""All that a lake holds, night by night: what each table and model was made from, and what of it may go.

A part is one run date of a table, or one version of a model; its manifest names what it was made from.
"""

import datetime
import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from recspark.lake.files import Files
from recspark.lake.folders import MANIFEST
from recspark.lake.promotions import history
from recspark.lake.registry import PREFIX, Registry

MODELS = "models"
BY_DATE = ("logs", "reports", "tensorboard", "_scratch")  # what a night leaves beside its tables
OWN = {*BY_DATE, MODELS, "_locks", "tuning"}
DATED = re.compile(r"run_date=(\d{4}-\d\d-\d\d)")
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
            Input(Place(name, about["path"].rpartition("/")[2]), about["rows"], about["fingerprint"])
            for name, about in found
            if not name.startswith("raw/")
        ]


def part_at(files: Files, place: Place) -> Part | None:
    """The part, if it is there and whole."""
    manifest = f"{place.path}/{MANIFEST}"
    return Part(place, files.get_json(manifest)) if files.exists(manifest) else None


def parts(files: Files) -> list[Part]:
    """All that are there and whole, by name and date."""
    tables = [Place(name, key) for name in files.names("") if name not in OWN for key in files.names(name) if DATED.fullmatch(key)]
    models = [
        Place(f"{MODELS}/{name}", key)
        for name in files.names(MODELS)
        for key in files.names(f"{MODELS}/{name}")
        if key.startswith(PREFIX)
    ]
    return [part for place in (*tables, *models) if (part := part_at(files, place)) is not None]


def dates(found: Iterable[Part]) -> list[datetime.date]:
    """Run dates that have a table, oldest first."""
    return sorted({part.place.date for part in found if DATED.fullmatch(part.place.key)})


# ---- what may go


@dataclass(frozen=True)
class Vacuum:
    """What goes, and what of the dates that go is kept, with why. beside: folders of logs, reports and work of these dates."""

    goes: tuple[Part, ...]
    beside: tuple[str, ...]
    stays: tuple[tuple[Part, str], ...]


def plan(files: Files, kept: Collection[datetime.date]) -> Vacuum:
    """All of other dates than `kept`, but for what a kept table or model was made from, a version that is promoted or that a
    rollback would go back to, the factors that such versions fold in with, and dates that a run is writing."""
    found = parts(files)
    old = [part for part in found if part.place.date not in kept]
    needed = {i.place: part.place.path for part in found if part.place.date in kept for i in part.inputs}
    for name in files.names(MODELS):
        for version in history(Registry(files, name)):
            needed[Place(f"{MODELS}/{name}", f"{PREFIX}{version}")] = "its promotion"
    versions = [place for place in (*needed, *(p.place for p in found if p.place.date in kept)) if place.name == f"{MODELS}/retriever"]
    for place in versions:
        for factors in FACTORS:
            needed.setdefault(Place(factors, f"run_date={place.date}"), place.path)
    written = {datetime.date.fromisoformat(m[1]) for n in files.names("_locks") if (m := DATED.match(n))}
    stays = [(part, needed.get(part.place) or "a run that writes the date") for part in old if part.place in needed or part.place.date in written]
    staying = {part.place for part, _ in stays}
    goes = tuple(part for part in old if part.place not in staying)
    return Vacuum(goes, tuple(folders_beside(files, {*kept, *written})), tuple(stays))


def folders_beside(files: Files, kept: Collection[datetime.date]) -> list[str]:
    """Folders of other dates: logs, reports, work in progress, curves."""
    places = [name for name in BY_DATE if name != "tensorboard"]
    places += [f"tensorboard/{name}" for name in files.names("tensorboard")]
    dated = [(f"{place}/{key}", DATED.fullmatch(key)) for place in places for key in files.names(place)]
    return [path for path, match in dated if match and datetime.date.fromisoformat(match[1]) not in kept]


def remove(files: Files, planned: Vacuum) -> None:
    """Carry it out. Each part goes from where it is read by one rename, and is deleted then."""
    for path in (*(part.place.path for part in planned.goes), *planned.beside):
        away = f"_scratch/vacuum-{uuid.uuid4().hex}"
        files.fs.create_dir(f"{files.base}/_scratch", recursive=True)
        if files.exists(path):
            files.fs.move(f"{files.base}/{path}", f"{files.base}/{away}")
            files.delete(away)
