"""A lake as factorize leaves it, for the objectives by pair: 16 items in two kinds, 24 users who each like one kind.

Item i3's text is "aaaa" and of kind 0, as are all even ones in letters a to d; odd ones are of kind 1, w to z. Everything is
small enough that one training takes a second.
"""

import datetime
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from pyspark.sql import SparkSession
from safetensors.numpy import save_file

from recspark.config import parse
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig, load_tokenizer
from recspark.models.factors import FactorSettings
from recspark.stages.factorize import FactorizeConfig
from recspark.stages.finetune import FinetuneConfig
from recspark.stages.provenance import FACTORIZATION, TOKENIZED_BY, tokenized_by
from recspark.tables import CANDIDATES, INTERACTIONS, ITEM_FACTORS, ITEMS, USER_FACTORS, Table
from tests import published_world

ITEMS_THERE, USERS_THERE, K = 16, 24, 3
YESTERDAY, TODAY = datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)
SETTINGS: dict[str, Any] = {
    "adaptation": {"kind": "last_layers", "layers": 1, "learning_rate": 1e-2},
    "head_learning_rate": 1e-2,
    "epochs": 2,
    "batch_size": 16,
    "warmup_steps": 1,
    "validation_fraction": 0.2,
    "patience": 9,
    "launcher": "local",
    "num_processes": 1,
    "reader": "arrow",
}


def text_of(item: int) -> str:
    letters = "wxyz" if item % 2 else "abcd"
    return letters[item // 2 % 4] * (2 + item // 4)


def liked(user: int) -> list[int]:
    """Six of the eight items of the user's kind, in the order they were met."""
    kind = user % 2
    return [2 * (n % 8) + kind for n in range(user % 8, user % 8 + 6)]


def write(lake: Lake, table: Table, rows: list[tuple], **about: Any) -> None:
    """Put rows into the table, `about` into its manifest; by pyarrow, for Spark would take a second a table."""
    published_world.write(lake, table, rows)
    lake.write_json(f"{lake.partition(table)}/_manifest.json", {"rows": len(rows), **about})


class FinetuneWorld:
    """The lake and the settings of its stages."""

    def __init__(self, spark: SparkSession, folder: Path, encoder: Path, rated: bool = True):
        self.spark, self.lake = spark, Lake(str(folder / "lake"), TODAY)
        self.encoder = EncoderConfig(path=str(encoder), max_length=12)
        tokens, tokenizer = {TOKENIZED_BY: tokenized_by(self.encoder)}, load_tokenizer(encoder, 12)
        items = [
            (f"i{n:02}", text_of(n), text_of(n), f"hash-{n}", tokenizer(text_of(n))["input_ids"], {})
            for n in range(ITEMS_THERE)
        ]
        write(self.lake, ITEMS, items, **tokens)
        events = [
            (f"u{u:02}", f"i{item:02}", order, None, 1.0 + (u + item) % 5 if rated else None, 1.0, None, "train")
            for u in range(USERS_THERE)
            for order, item in enumerate(liked(u))
        ]
        write(self.lake, INTERACTIONS, events)
        self.write_factors(tokens)

    def write_factors(self, tokens: dict[str, Any]) -> None:
        draw, one_run = np.random.default_rng(0), {FACTORIZATION: "one"}
        vectors = draw.normal(size=(ITEMS_THERE, K)).astype(np.float32)
        users = draw.normal(size=(USERS_THERE, K)).astype(np.float32)
        met = [sum(n in liked(u) for u in range(USERS_THERE)) for n in range(ITEMS_THERE)]
        rows = [(f"i{n:02}", met[n], 1.0, vectors[n].tolist(), vectors[n].tolist()) for n in range(ITEMS_THERE)]
        write(self.lake, ITEM_FACTORS, rows, **one_run)
        write(
            self.lake,
            USER_FACTORS,
            [(f"u{u:02}", 6, users[u].tolist()) for u in range(USERS_THERE)],
            **one_run,
        )
        folder = Path(self.lake.root) / "factors"
        folder.mkdir()
        tensors = {
            "weight": draw.normal(size=(K, 16)),
            "bias": np.zeros(K),
            "user_gram": (users.T @ users).astype(float),
        }
        save_file(tensors, folder / "factors.safetensors")
        (folder / "settings.json").write_text(json.dumps(FactorSettings(embedding_size=K).model_dump()))
        self.lake.write_model("factors", folder, **one_run, **tokens)

    def give_candidates(self) -> None:
        """Yesterday's lists: all items in the order of their ids, for everybody."""
        rows = [(f"u{u:02}", n + 1, f"i{n:02}", 1.0 - n / 100) for u in range(USERS_THERE) for n in range(ITEMS_THERE)]
        write(Lake(self.lake.root, YESTERDAY), CANDIDATES, rows)

    def config(self, **finetune: Any) -> Any:
        return SimpleNamespace(
            seed=3,
            encoder=self.encoder,
            factorize=FactorizeConfig(embedding_size=K, blocks=1),
            finetune=parse({**SETTINGS, **finetune}, FinetuneConfig, []),
        )
