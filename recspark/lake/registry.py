"""The versions of the lake's models: each stays as it was made, is known by its content, and has been judged on so many nights.

<root>/models/<name>/version=2026-11-24-1a2b3c4d/                    a version: run date and the content hash's first eight
<root>/models/<name>/version=2026-11-24-1a2b3c4d/_manifest.json      its facts; it is a version once they are there
<root>/models/<name>/evaluations/2026-11-24-1a2b3c4d/run_date=….json metrics of a night whose vectors it made
<root>/models/<name>/cards/2026-11-24-1a2b3c4d.md                    its model card
<root>/models/<name>/promotions.json                                 which is promoted, and every promotion there was
"""

import datetime
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recspark.errors import UserError
from recspark.lake.files import Files
from recspark.lake.folders import MANIFEST, folder_hash

PREFIX = "version="
HASH_DIGITS = 8
NAME = re.compile(rf"\d{{4}}-\d\d-\d\d-[0-9a-f]{{{HASH_DIGITS}}}")


def version_id(run_date: datetime.date, content_hash: str) -> str:
    """The name of a version among those of one model."""
    return f"{run_date}-{content_hash[:HASH_DIGITS]}"


def require_name(version: str) -> str:
    """The version; UserError if it is no name of one: it becomes part of a path."""
    if NAME.fullmatch(version):
        return version
    raise UserError(f"{version!r} is no version of a model; one is such as 2026-11-24-1a2b3c4d")


@dataclass(frozen=True)
class Version:
    """One version of a model: where it lies, and what its manifest says."""

    id: str
    path: str
    manifest: Mapping[str, Any]

    @property
    def run_date(self) -> datetime.date:
        return datetime.date.fromisoformat(self.manifest["run_date"])

    @property
    def content_hash(self) -> str:
        return self.manifest["content_hash"]

    def require_whole(self) -> None:
        """UserError if its files are not those that were written."""
        if folder_hash(self.path) != self.content_hash:
            raise UserError(
                f"version {self.id} is damaged: the files in {self.path} are not those that were written; "
                "put them back, make it anew by the stage that writes it, or use another version (recspark models list)"
            )


@dataclass(frozen=True)
class Registry:
    """The versions of one model."""

    files: Files
    name: str

    def place(self, version: str) -> str:
        """Where a version lies below the root."""
        return f"models/{self.name}/{PREFIX}{version}"

    def ids(self) -> list[str]:
        """Of all versions, by date."""
        names = (n for n in self.files.names(f"models/{self.name}") if n.startswith(PREFIX))
        return [n.removeprefix(PREFIX) for n in names if self.files.exists(f"models/{self.name}/{n}/{MANIFEST}")]

    def all(self) -> list[Version]:
        """The oldest first."""
        return sorted(map(self.version, self.ids()), key=lambda v: v.manifest["written_at"])

    def version(self, version: str) -> Version:
        """Raises UserError, with the nearest there is, if it is not there."""
        place = self.place(version)
        manifest = self.files.manifest_in(place) if NAME.fullmatch(version) else {}
        if not manifest:
            near = difflib.get_close_matches(version, self.ids(), n=1, cutoff=0.0)
            hint = f"nearest to it is {near[0]}" if near else "it has none"
            raise UserError(f"model {self.name} has no version {version} in the lake {self.files.root}; {hint}")
        return Version(version, self.files.path(place), manifest)

    def of_date(self, run_date: datetime.date) -> Version | None:
        """The newest version of a run date, if it has any."""
        found = [self.version(version) for version in self.ids() if version.startswith(f"{run_date}-")]
        return max(found, key=lambda v: v.manifest["written_at"], default=None)

    def dates(self) -> list[datetime.date]:
        """Run dates of the versions, oldest first."""
        return sorted({datetime.date.fromisoformat(version[:10]) for version in self.ids()})

    # ---- beside the version's folder, whose content stays

    def keep_metrics(self, version: str, run_date: datetime.date, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of the table `metrics` of a night whose vectors the version made; in place of that night's earlier ones."""
        self.files.write_json(f"{self._evaluations(version)}/run_date={run_date}.json", {"metrics": list(rows)})

    def metrics(self, version: str) -> dict[str, list[dict[str, Any]]]:
        """Run date to what `keep_metrics` kept of it, oldest first."""
        folder = self._evaluations(version)
        names = [name for name in self.files.names(folder) if name.endswith(".json")]
        return {name[9:-5]: self.files.get_json(f"{folder}/{name}")["metrics"] for name in names}

    def keep_card(self, version: str, text: str) -> str:
        """Put a version's model card beside it; returns the path."""
        return self.files.write_file(f"models/{self.name}/cards/{require_name(version)}.md", text)

    def _evaluations(self, version: str) -> str:
        return f"models/{self.name}/evaluations/{require_name(version)}"
