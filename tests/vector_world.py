"""Small made-up lakes for the stages that rank: vectors and interactions put straight into their tables."""

import datetime
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from recspark.lake import Lake
from recspark.stages import candidates
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.embed import EmbedConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.stages.factorize import FactorizeConfig
from recspark.tables import (
    BASE_TEXT_VECTORS,
    CANDIDATES,
    INTERACTIONS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    ITEMS,
    USER_VECTORS,
    Table,
)
from tests.table_rows import write

Event = tuple  # user, item, split


def new_lake(path: Path) -> Lake:
    return Lake(str(path / "lake"), datetime.date(2026, 11, 24))


def settings(lists: CandidatesConfig, evaluate: EvaluateConfig | None = None, size: int = 2) -> SimpleNamespace:
    """What a Deployment has of use to these stages."""
    return SimpleNamespace(
        seed=42,
        preprocess=SimpleNamespace(
            allow_no_test=False,
            interactions=SimpleNamespace(columns=SimpleNamespace(timestamp=None, order="order")),
        ),
        candidates=lists,
        sequence=None,
        combine=None,
        index=None,
        rerank=None,
        evaluate=evaluate,
        ratings=None,
        embed=EmbedConfig(blocks=2),
        factorize=FactorizeConfig(embedding_size=size),
    )


def table_frame(spark: SparkSession, table: Table, rows: list[tuple], id_type: str = "bigint") -> DataFrame:
    columns = (f"{c.name} {id_type if c.type == 'id' else c.type}" for c in table.columns)
    return spark.createDataFrame(rows, ", ".join(columns)).coalesce(1)


def write_world(
    lake: Lake,
    users: dict,
    items: dict,
    events: list[Event],
    id_type: pa.DataType | None = None,
    priors: dict | None = None,
    priors_before: dict | None = None,
    texts: dict | None = None,
    encoded: dict | None = None,
) -> None:
    """users, items, priors, encoded: id -> vector. An item is as warm as its train events say. texts: id -> text, for `items`."""
    train = Counter(item for _, item, split in events if split == "train")
    listed = {i: np.asarray(v, np.float32) for i, v in items.items()}
    after = {i: np.asarray(v, np.float32) for i, v in (priors or items).items()}
    before = {i: np.asarray(v, np.float32) for i, v in (priors_before or priors or items).items()}
    tables = {
        ITEM_VECTORS: [(i, v, after[i], train[i], 1.0, f"text-{i}", "model") for i, v in listed.items()],
        ITEM_FACTORS: [(i, train[i], 1.0, v, before[i]) for i, v in listed.items()],
        USER_VECTORS: [(u, np.asarray(v, np.float32), 1, "model") for u, v in users.items()],
        INTERACTIONS: [(u, i, order, None, None, 1.0, None, split) for order, (u, i, split) in enumerate(events)],
    }
    named = {i: f"text {i}" for i in items} if texts is None else texts
    tables[ITEMS] = [(i, text, text, f"text-{i}", [1], {}) for i, text in named.items()]
    if encoded is not None:
        tables[BASE_TEXT_VECTORS] = [(f"text-{i}", "base", np.asarray(v, np.float32)) for i, v in encoded.items()]
    for table, rows in tables.items():
        write(lake, table, rows, id_type or pa.int64())


def lists_of(spark: SparkSession, lake: Lake, config: SimpleNamespace) -> dict:
    """What candidates writes, user -> list of items, after the lists were found well-formed."""
    candidates.run(spark, lake, config)
    frame = lake.read(spark, CANDIDATES).toPandas().sort_values(["user_id", "rank"])
    for _, one in frame.groupby("user_id"):
        assert one["rank"].tolist() == list(range(1, len(one) + 1))
        assert (np.diff(one.score) <= 0).all()
    return frame.groupby("user_id").item_id.apply(list).to_dict()
