"""Which items users had near one another: a sparse matrix from item to item, mapped from disk by every worker.

For items a, b of one user at distance d (1: b came next after a): 1 / d from a to b, `backward` / d from b to a, added up
over users and divided by the square roots of both items' sums.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.catalogue import Catalogue, numbered_batches
from recspark.data.next_event import newest_first
from recspark.data.sums import EXACT, exact_sum
from recspark.lake import local_folder

PARTS = {"other": np.dtype("<i4"), "weight": np.dtype("<f4")}


class CooccurrenceSettings(Settings):
    """Which pairs count, and how much."""

    window: int = Field(10, ge=1, description="events between the two at most, plus one")
    backward: float = Field(0.6, ge=0, description="a pair's weight against the order, in the order it is 1")
    neighbours: int = Field(200, ge=1, description="other items kept for an item, those of largest weight")


@dataclass(frozen=True)
class Neighbours:
    """The matrix (M, M) by rows; small enough to travel with a task."""

    folder: str

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """indptr (M + 1,), indices ascending within a row, weights."""
        local = local_folder(self.folder)
        indices, weights = (mapped(local / name, kind) for name, kind in PARTS.items())
        return np.load(local / "indptr.npy"), indices, weights


def cooccurrences(events: DataFrame, catalogue: Catalogue, settings: CooccurrenceSettings, seed: int) -> DataFrame:
    """(item, other, weight float) by position, each pair once."""
    placed = events.join(catalogue.positions(events.sparkSession), "item_id")
    after = Window.partitionBy("user_id").orderBy(F.asc("order_key"), newest_first(events, seed)[1])
    nexts = [F.lead("position", d).over(after) for d in range(1, settings.window + 1)]
    placed = placed.select("position", F.array(*nexts).alias("nexts"))
    pairs = placed.select("position", F.posexplode("nexts").alias("gap", "next")).where("next <> position")
    near = 1 / (F.col("gap") + 1)
    forward = pairs.select(F.col("position").alias("item"), F.col("next").alias("other"), near.alias("weight"))
    back = pairs.select(
        F.col("next").alias("item"), F.col("position").alias("other"), (near * settings.backward).alias("weight")
    )
    summed = forward.unionByName(back).groupBy("item", "other").agg(exact_sum("weight").alias("weight"))
    size = {
        side: F.sum(F.col("weight").cast(EXACT)).over(Window.partitionBy(side)).cast("double")
        for side in ("item", "other")
    }
    scaled = summed.where("weight > 0").select(
        "item", "other", (F.col("weight") / F.sqrt(size["item"] * size["other"])).cast("float").alias("weight")
    )
    best = F.row_number().over(Window.partitionBy("item").orderBy(F.desc("weight"), "other"))
    return scaled.withColumn("place", best).where(F.col("place") <= settings.neighbours).drop("place")


def write_neighbours(matrix: DataFrame, items: int, scratch: str) -> Neighbours:
    """Lay out the pairs of `items` items under a scratch folder; the driver streams them and holds none."""
    folder = f"{scratch}/neighbours-{uuid.uuid4().hex}"  # never twice the same: machines keep copies by path
    matrix.orderBy("item", "other").write.parquet(f"{folder}/sorted")
    fs, base = pafs.FileSystem.from_uri(folder)
    counts: NDArray[Any] = np.zeros(items + 1, np.int64)
    with fs.open_output_stream(f"{base}/other") as others, fs.open_output_stream(f"{base}/weight") as weights:
        for _, batch in numbered_batches(fs, f"{base}/sorted"):
            others.write(batch.column("other").to_numpy().astype(PARTS["other"]).tobytes())
            weights.write(batch.column("weight").to_numpy().astype(PARTS["weight"]).tobytes())
            counts[1:] += np.bincount(batch.column("item").to_numpy(), minlength=items)
    with fs.open_output_stream(f"{base}/indptr.npy") as stream:
        np.lib.format.write_array(stream, np.cumsum(counts))
    return Neighbours(folder)


def mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    """The file's numbers from the page cache; an empty file cannot be mapped."""
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
