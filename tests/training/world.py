"""A training small enough to watch: 24 items, a two-layer encoder, random users."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from recspark.models.adaptation import Full
from recspark.models.encoder import EncoderConfig
from recspark.models.factors import FactorSettings
from recspark.training.item_lesson import ItemLesson, ItemSettings
from recspark.training.learner import TrainingJob

K, ITEMS, VALID, BATCH = 4, 24, 4, 8
SETTINGS = ItemSettings(
    adaptation=Full(learning_rate=1e-2),
    reader="arrow",
    epochs=3,
    batch_size=BATCH,
    head_learning_rate=1e-2,
    warmup_steps=2,
    patience=9,  # the targets are random: nothing to be learnt for the held-out items
)


def write_factors(folder: Path, hidden: int = 16) -> Path:
    """The model `factors`, random."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    users = draw.normal(size=(20, K))
    save_file(
        {"weight": draw.normal(size=(K, hidden)) * 0.1, "bias": np.zeros(K), "user_gram": users.T @ users},
        folder / "factors.safetensors",
    )
    (folder / "settings.json").write_text(json.dumps(FactorSettings(embedding_size=K).model_dump()))
    return folder


def write_examples(folder: Path, shards: int) -> Path:
    """The table `training_examples` for a number of ranks; the same steps whatever the number."""
    rows = [example(i, shards) for i in range(ITEMS)]
    for shard in range(shards):
        (folder / f"shard={shard}").mkdir(parents=True)
        mine = [{k: v for k, v in row.items() if k != "shard"} for row in rows if row["shard"] == shard]
        schema = pa.schema(
            {
                "item_id": pa.string(),
                "part": pa.string(),
                "batch": pa.int32(),
                "slot": pa.int32(),
                "batch_size": pa.int32(),
                "tokens": pa.binary(),
                "positives": pa.float32(),
                "user_sum": pa.binary(),
                "user_root": pa.binary(),
                "penalty": pa.float32(),
                "unobserved": pa.float32(),
                "weight": pa.float32(),
            }
        )
        pq.write_table(pa.Table.from_pylist(mine, schema), folder / f"shard={shard}" / "part.parquet", row_group_size=3)
    return folder


def example(item: int, shards: int) -> dict:
    draw = np.random.default_rng([1, item])
    users = draw.normal(size=(1 + item % 5, K)).astype("<f4")
    part, position = ("valid", item) if item < VALID else ("train", item - VALID)
    batch, slot = divmod(position, BATCH if part == "train" else VALID)
    last = (ITEMS - VALID) % BATCH
    size = VALID if part == "valid" else last if last and batch == (ITEMS - VALID) // BATCH else BATCH
    tokens = np.array([2, *draw.integers(5, 40, 3 + item % 6), 3], "<i4")
    return {
        "item_id": f"i{item}",
        "part": part,
        "batch": batch,
        "slot": slot,
        "batch_size": size,
        "tokens": tokens.tobytes(),
        "positives": float(len(users)),
        "user_sum": users.sum(0).tobytes(),
        "user_root": users.tobytes(),
        "penalty": 1.0 + len(users),
        "unobserved": 0.15 / (1 + item % 2),
        "weight": 1.0 / len(users),
        "shard": slot % shards,
    }


def make_job(
    tmp_path: Path, encoder: Path, shards: int, settings: ItemSettings = SETTINGS, name: str = "job"
) -> TrainingJob:
    """A job for a number of ranks, in a folder of its own."""
    root = tmp_path / name
    return TrainingJob(
        settings,
        ItemLesson(settings, EncoderConfig(path=str(encoder)), str(write_factors(root / "factors"))),
        str(write_examples(root / "examples", shards)),
        str(root / "checkpoints"),
        str(root / "tensorboard"),
        seed=5,
        threads=1,
    )
