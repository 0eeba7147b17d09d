"""A night that uses a version of the night before: which factors, which exposure, what it leaves behind.

The night before is put into its tables by hand. Two groups of users have each met items of their own group; on the second night
a user and an item are new.
"""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data.text import text_hash
from recspark.lake import Lake, promotions
from recspark.models.encoder import EncoderConfig, load_encoder, load_tokenizer
from recspark.models.factors import FactorSettings, row_penalty
from recspark.models.retriever import Retriever, save_retriever
from recspark.pipeline import STAGES
from recspark.stages.provenance import TOKENIZED_BY, tokenized_by
from recspark.stages.versions import retriever_behind
from recspark.tables import (
    CANDIDATES,
    INTERACTIONS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    ITEMS,
    METRICS,
    TEXT_VECTORS,
    USER_FACTORS,
    USER_VECTORS,
    USERS,
    Table,
)
from tests.published_world import deployment
from tests.table_rows import write

FIRST, SECOND = datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)
OLD_USERS, OLD_ITEMS, SIZE = 8, 6, 2
SETTINGS = FactorSettings(embedding_size=SIZE)
NEW_USER, NEW_ITEM = f"u{OLD_USERS}", f"i{OLD_ITEMS}"
EXPOSED = 3 / 9  # users who were still there when the new item came: it came last, and u0, u2 and the new user met it
TEST = [("u0", "i2"), ("u1", "i5")]


def train() -> list[tuple[str, str, datetime.datetime]]:
    """A day an event; u1 has no other group's items, u0 not i2, u1 not i5; the new item is met last, all on one day."""
    met = [(u, i) for u in range(OLD_USERS) for i in range(u % 2, OLD_ITEMS, 2) if (u, i) not in ((0, 2), (1, 5))]
    met += [(OLD_USERS, 0), (OLD_USERS, 2)]
    start = datetime.datetime(2025, 1, 1)
    old = [(f"u{u}", f"i{i}", start + datetime.timedelta(days=n)) for n, (u, i) in enumerate(met)]
    last = start + datetime.timedelta(days=len(met))
    return old + [(user, NEW_ITEM, last) for user in ("u0", "u2", NEW_USER)]


def factors() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of the first night's users and items, near the axis of their group."""
    rng = np.random.default_rng(3)
    draw = lambda name, n: {f"{name}{i}": np.eye(SIZE)[i % 2] + rng.normal(0, 0.2, SIZE) for i in range(n)}  # noqa: E731
    return draw("u", OLD_USERS), draw("i", OLD_ITEMS)


class World:
    def __init__(self, spark: SparkSession, folder: Path, encoder: Path):
        self.spark, self.folder = spark, folder
        self.base = EncoderConfig(path=str(encoder), max_length=8)
        self.first, self.second = (Lake(str(folder / "lake"), date) for date in (FIRST, SECOND))
        self.users, self.items = factors()

    def first_night(self) -> None:
        """Factor tables and a retriever that was trained with them."""
        lake = self.first
        write(lake, USER_FACTORS, [(u, 3, v.tolist()) for u, v in self.users.items()])
        write(lake, ITEM_FACTORS, [(i, 3, 0.75, v.tolist(), v.tolist()) for i, v in self.items.items()])
        inputs = {}
        for table in (USER_FACTORS, ITEM_FACTORS):
            inputs[table.name] = {"path": "", "rows": 1, "fingerprint": f"of {table.name}"}
            place = f"{table.name}/run_date={FIRST}/_manifest.json"
            lake.write_json(place, {**lake.get_json(place), "fingerprint": f"of {table.name}"})
        encoder = load_encoder(self.base.path)
        head = np.random.default_rng(4).normal(0, 1, (SIZE, encoder.embedding_size))
        save_retriever(Retriever(encoder, head, np.zeros(SIZE)), self.base, SETTINGS, self.folder / "model")
        lake.write_model("retriever", self.folder / "model", inputs=inputs, **{TOKENIZED_BY: tokenized_by(self.base)})

    def second_night(self) -> None:
        """What preprocess leaves, and the stages after it; none of them trains."""
        lake, tokenizer = self.second, load_tokenizer(self.base.path, self.base.max_length)
        texts = {f"i{i}": f"{'red' if i % 2 else 'blue'} {i}" for i in range(OLD_ITEMS + 1)}
        items = [(i, t, t, text_hash(t), tokenizer(t)["input_ids"], {}) for i, t in texts.items()]
        write(lake, ITEMS, items)
        lake.write_json(
            f"items/run_date={SECOND}/_manifest.json", {"rows": len(items), TOKENIZED_BY: tokenized_by(self.base)}
        )
        later = datetime.datetime(2025, 12, 1)
        events = [(*e, "train") for e in train()] + [(*pair, later, "test") for pair in TEST]
        rows = [(u, i, n, time, None, 1.0, None, split) for n, (u, i, time, split) in enumerate(events)]
        write(lake, INTERACTIONS, rows)
        write(lake, USERS, [(f"u{u}", 3, None) for u in range(OLD_USERS + 1)])
        settings = deployment(
            lake,
            "embed={retriever: promoted, blocks: 1}",
            "evaluate={ks: [2], replicates: 100, baselines: [{kind: popularity}]}",
            encoder=self.base.path,
        )
        for name in ("embed", "candidates", "evaluate"):
            lake.begin(name)
            STAGES[name].run(self.spark, lake, settings)

    def rows(self, table: Table) -> dict[str, Any]:
        return {row[0]: row for row in self.second.read(self.spark, table).collect()}


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> World:
    world = World(spark, tmp_path_factory.mktemp("versions"), tiny_encoder)
    world.first_night()
    promotions.promote(world.first.registry("retriever"), world.first.model_of_date("retriever").id)
    world.second_night()
    return world


def test_all_that_is_made_names_the_version_and_its_model(world: World):
    version = world.first.model_of_date("retriever")
    for table in (TEXT_VECTORS, ITEM_VECTORS, USER_VECTORS, CANDIDATES, METRICS):
        assert world.second.manifest(table)["retriever_version"] == version.id
    for table in (TEXT_VECTORS, ITEM_VECTORS, USER_VECTORS):
        assert {row["model_hash"] for row in world.rows(table).values()} == {version.content_hash}
    assert retriever_behind(world.second, TEXT_VECTORS).path == version.path
    assert not world.second.has(USER_FACTORS)
    assert world.second.registry("retriever").of_date(SECOND) is None


def test_vectors_name_what_of_tonights_they_were_made_from(world: World):
    for table, made_from in ((ITEM_VECTORS, TEXT_VECTORS), (USER_VECTORS, ITEM_VECTORS)):
        given = world.second.manifest(table)["inputs"][made_from.name]
        assert given["fingerprint"] == world.second.manifest(made_from)["fingerprint"]


def test_items_are_corrected_with_the_versions_factors_and_tonights_interactions(world: World):
    """argmin Σ (1 − v·x)² + a s xᵀGx + λ ‖x − z‖² by plain numpy; the new user's factors by its own solve over the old items'."""
    a, rows = SETTINGS.unobserved_weight, world.rows(ITEM_VECTORS)

    def solve(met: list[np.ndarray], gram: np.ndarray, others: float, share: float, prior: np.ndarray) -> np.ndarray:
        vectors, penalty = np.array(met), row_penalty(np.array(len(met)), np.array(others * share), SETTINGS)
        left = a * share * gram + vectors.T @ vectors + penalty * np.eye(SIZE)
        return np.linalg.solve(left, vectors.sum(0) + penalty * prior)

    gram = sum(0.75 * np.outer(v, v) for v in world.items.values())
    new_user = solve([world.items["i0"], world.items["i2"]], gram, 0.75 * OLD_ITEMS, 1.0, np.zeros(SIZE))
    users = {**world.users, NEW_USER: new_user}
    gram = sum(np.outer(v, v) for v in users.values())
    for item, share in (("i0", 1.0), (NEW_ITEM, EXPOSED)):
        met = [users[user] for user, with_item, _ in train() if with_item == item]
        assert (rows[item]["interactions"], rows[item]["exposure"]) == (len(met), pytest.approx(share))
        found = solve(met, gram, len(users), share, np.array(rows[item]["prior"]))
        np.testing.assert_allclose(rows[item]["vector"], found, rtol=1e-4, atol=1e-6)


def test_a_new_user_is_folded_in(world: World):
    users, items = world.rows(USER_VECTORS), world.rows(ITEM_VECTORS)
    scores = [np.dot(users[NEW_USER]["vector"], items[f"i{i}"]["vector"]) for i in range(OLD_ITEMS)]
    assert min(scores[0::2]) > max(scores[1::2])


def test_the_nights_metrics_stand_beside_the_version_and_in_its_card(world: World):
    """Without the row of the text before fine-tuning, which is of the night that trained."""
    registry, version = world.first.registry("retriever"), world.first.model_of_date("retriever").id
    kept = registry.metrics(version)
    assert list(kept) == [str(SECOND)]
    assert {row["model"] for row in kept[str(SECOND)]} == {"popularity", "text_after", "full"}
    assert len(kept[str(SECOND)]) == world.second.manifest(METRICS)["rows"]
    card = (world.folder / "lake" / "models" / "retriever" / "cards" / f"{version}.md").read_text()
    full = next(r for r in kept[str(SECOND)] if (r["model"], r["slice"], r["metric"]) == ("full", "all", "ndcg"))
    assert f"| full model | all | {full['value']:.4f} [{full['low']:.4f}, {full['high']:.4f}] |" in card
