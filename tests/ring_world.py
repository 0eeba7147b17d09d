"""A ring of items that everybody walks along: the retriever knows nothing of it, a reranker sees what comes next."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from recspark.models.factors import FactorSettings
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.embed import EmbedConfig
from recspark.stages.feature_reranker import FeatureReranker
from recspark.stages.rerank import RerankConfig
from recspark.tables import (
    BASE_TEXT_VECTORS,
    CANDIDATES,
    INTERACTIONS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    ITEMS,
    RERANKED,
    TEXT_VECTORS,
    USER_FACTORS,
    USER_VECTORS,
)
from tests.table_rows import write
from tests.vector_world import new_lake

RING, USERS, WALKED = 12, 24, 4  # user u has had the items u, u + 1, u + 2, u + 3; then comes u + 4
LISTED = RING - WALKED
NOBODY = 99  # a user without a history


def after(user: int, steps: int) -> int:
    return (user + steps) % RING


def events(valid: bool) -> list[tuple]:
    rows = [(u, after(u, n), n, None, None, 1.0, None, "train") for u in range(USERS) for n in range(WALKED)]
    return rows + [(u, after(u, WALKED), WALKED, None, None, 1.0, None, "valid") for u in range(0, USERS, 2) if valid]


def settings(**given) -> SimpleNamespace:
    config = RerankConfig(**{"model": FeatureReranker(depth=6), **given})
    return SimpleNamespace(
        seed=42, rerank=config, candidates=CandidatesConfig(top_k=LISTED - 1), embed=EmbedConfig(blocks=2)
    )


def write_lake(path, valid: bool):
    """Random vectors, and candidates in the order of the item ids."""
    lake, draw = new_lake(path), np.random.default_rng(3)
    model = path / "model"
    model.mkdir(parents=True)
    save_file({"weight": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32)}, model / "head.safetensors")
    (model / "recspark.json").write_text(json.dumps({"factors": FactorSettings(embedding_size=2).model_dump()}))
    learned_from = {t.name: {"fingerprint": t.name} for t in (INTERACTIONS, ITEMS, USER_FACTORS, ITEM_FACTORS)}
    retriever = lake.write_model("retriever", model, inputs=learned_from)
    vector = {i: draw.normal(size=2).astype(np.float32).tolist() for i in range(RING)}
    taste = {u: draw.normal(size=2).astype(np.float32).tolist() for u in [*range(USERS), NOBODY]}
    had = {u: {i for v, i, *_ in events(valid) if u == v} for u in taste}
    lists = {u: [i for i in range(RING) if i not in had[u]][: LISTED - 1] for u in taste}
    frames = {
        INTERACTIONS: events(valid),
        ITEMS: [(i, "", "", f"text-{i}", [2, 3], {}) for i in range(RING)],
        USER_FACTORS: [(u, WALKED, taste[u]) for u in range(USERS)],
        ITEM_FACTORS: [(i, 8, 1.0, vector[i], vector[i]) for i in range(RING)],
        TEXT_VECTORS: [(f"text-{i}", retriever, vector[i]) for i in range(RING)],
        BASE_TEXT_VECTORS: [(f"text-{i}", "base", vector[RING - 1 - i]) for i in range(RING)],
        ITEM_VECTORS: [(i, vector[i], vector[i], 8, 1.0, f"text-{i}", retriever) for i in range(RING)],
        USER_VECTORS: [(u, taste[u], WALKED, retriever) for u in taste],
        CANDIDATES: [(u, n, i, float(-n)) for u in taste for n, i in enumerate(lists[u], 1)],
    }
    for table, rows in frames.items():
        put(lake, table, rows)
    return lake, lists


def put(lake, table, rows: list) -> None:
    """The table, in the place of what was there."""
    write(lake, table, rows, pa.int64())
    write_manifest(lake, table, rows)


def write_manifest(lake, table, rows: list, **about) -> None:
    """As if it were what the retriever learned from, where that is a table of these."""
    facts = {"rows": len(rows), "fingerprint": table.name, **about}
    lake.write_json(f"{lake.partition(table)}/_manifest.json", facts)


def reranked(spark, lake) -> dict:
    frame = lake.read(spark, RERANKED).toPandas().sort_values(["user_id", "rank"])
    for _, one in frame.groupby("user_id"):
        assert one["rank"].tolist() == list(range(1, len(one) + 1))
        assert (np.diff(one.score) <= 0).all()
    return dict(iter(frame.groupby("user_id")))
