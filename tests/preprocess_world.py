"""A small raw world for tests of preprocess: files in a folder, settings over them, a tokenizer of letters, a lake."""

import datetime
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recspark.config import parse
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig
from recspark.stages import preprocess
from recspark.tables import INTERACTIONS, ITEMS, REJECTS, USERS
from tests.spark_memory import kept

RUN_DATE = datetime.date(2026, 11, 24)

Rows = list[dict[str, Any]]


def twenty_events() -> Rows:
    """Users u0 to u3 meet items i0 to i4, one event a second: the event of second t is of user t % 4 and item t // 4."""
    return [{"user_id": f"u{t % 4}", "item_id": f"i{t // 4}", "timestamp": 1_000_000_000 + t} for t in range(20)]


def six_items() -> Rows:
    """i0 to i5; nobody has met i5."""
    return [{"item_id": f"i{n}", "title": f"the film {n}"} for n in range(6)]


class World:
    """Writes raw rows as JSON lines, runs preprocess over them, and reads what it wrote."""

    def __init__(self, spark: SparkSession, folder: Path, encoder: Path):
        self.spark, self.folder = spark, folder
        self.lake = Lake(str(folder / "lake"), RUN_DATE)
        self.encoder = SimpleNamespace(path=str(encoder), max_length=8)
        self.top_k = 3
        self.settings: dict[str, Any] = {
            "interactions": {"format": "jsonl", "columns": {"timestamp": "timestamp"}},
            "items": {"format": "jsonl", "text": "{title}"},
            "split": {"kind": "temporal", "test": 0.2},
        }
        self.give("interactions", twenty_events())
        self.give("items", six_items())

    def give(self, source: str, rows: Rows) -> None:
        """Put the rows in place of a source's."""
        self.give_text(source, "\n".join(json.dumps(r) for r in rows))

    def give_text(self, source: str, text: str, suffix: str = "jsonl") -> None:
        path = self.folder / f"{source}.{suffix}"
        path.write_text(text, encoding="utf-8")
        self.settings.setdefault(source, {"format": "jsonl"})["path"] = str(path)

    def run(self, *overrides: str) -> None:
        config = parse({**self.settings}, preprocess.PreprocessConfig, list(overrides))
        deployment: Any = SimpleNamespace(
            preprocess=config,
            encoder=EncoderConfig(**vars(self.encoder)),
            candidates=SimpleNamespace(top_k=self.top_k),
            seed=42,
        )
        preprocess.run(self.spark, self.lake, deployment)

    def refusal(self, *overrides: str) -> str:
        """The message of the UserError that the run ends with; asserts that the lake holds nothing then."""
        before = kept(self.spark)
        with pytest.raises(UserError) as caught:
            self.run(*overrides)
        assert not (self.folder / "lake").exists()
        assert kept(self.spark) <= before
        return str(caught.value)

    def table(self, name: str) -> list[dict[str, Any]]:
        table = {t.name: t for t in (INTERACTIONS, ITEMS, USERS, REJECTS)}[name]
        return [r.asDict(recursive=True) for r in self.lake.read(self.spark, table).collect()]

    def rejects(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(source, reason, raw row), sorted."""
        rows = [(r["source"], r["reason"], json.loads(r["row"])) for r in self.table("rejects")]
        return sorted(rows, key=lambda r: (r[0], r[1], str(r[2])))
