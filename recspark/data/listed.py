"""Items list by list, as arrays that the workers of a machine map from the disk: one folder a shard, so that no machine needs all of them.

<folder>/shard-0/vector.npy    (M, D) float32 of the shard's items: its lists one after the other, within a list by position
<folder>/shard-0/position.npy  (M,) int32, each item's place in the catalogue
<folder>/shard-0/bounds.npy    (L + 1,) where each list begins and ends; those of the other shards are empty
"""

import uuid
from collections import deque
from dataclasses import dataclass

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.catalogue import laid_out
from recspark.lake import local_folder

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Listed:
    """Where the arrays are; small enough to travel with a task."""

    folder: str
    shards: int

    def arrays(self, shard: int) -> tuple[NDArray[np.float32], NDArray[np.int32], Counts]:
        """vectors, positions, bounds of a shard, mapped from the disk of this machine."""
        local = local_folder(shard_folder(self.folder, shard))
        vectors, positions = (np.load(local / f"{name}.npy", mmap_mode="r") for name in ("vector", "position"))
        return vectors, positions, np.load(local / "bounds.npy")


def shard_folder(folder: str, shard: int) -> str:
    return f"{folder}/shard-{shard}"


def sizes_of(items: DataFrame, lists: int) -> Counts:
    """(L,) how many of the items (list, …) each list has."""
    sizes: Counts = np.zeros(lists, np.int64)
    for row in items.groupBy("list").count().collect():
        sizes[row["list"]] = row["count"]
    return sizes


def write_listed(items: DataFrame, sizes_L: Counts, shards: int, scratch: str) -> Listed:
    """Lay out items (list int, position int, vector array<float>) under a scratch folder; the driver streams them and holds none."""
    folder = f"{scratch}/listed-{uuid.uuid4().hex}"  # never twice the same: machines keep copies by path
    parts = shards_of(sizes_L, shards)
    for number, mine in enumerate(parts):
        some = items.where(F.col("list").between(int(mine[0]), int(mine[-1]))).select("list", "position", "vector")
        shard = shard_folder(folder, number)
        deque(laid_out(some, ("list", "position"), shard), maxlen=0)
        bounds = np.concatenate([[0], np.cumsum(np.where(np.isin(np.arange(len(sizes_L)), mine), sizes_L, 0))])
        fs, base = pafs.FileSystem.from_uri(shard)
        with fs.open_output_stream(f"{base}/bounds.npy") as stream:
            np.lib.format.write_array(stream, bounds)
    return Listed(folder, len(parts))


def shards_of(sizes_L: Counts, shards: int) -> list[Counts]:
    """The lists that are not empty, in runs that hold about as many items each; fewer runs where a list is too large."""
    filled = np.flatnonzero(sizes_L)
    before = np.cumsum(sizes_L[filled]) - sizes_L[filled]
    which = before * shards // max(1, int(sizes_L.sum()))
    return [filled[which == number] for number in np.unique(which)]
