"""Items list by list, as arrays that the workers of a machine map from the disk: one folder a shard, so that no machine needs all of them.

<folder>/shard-0/vector.npy    (M, D) float32 of the shard's items: its lists one after the other, within a list by position
<folder>/shard-0/position.npy  (M,) int32, each item's place in the catalogue
<folder>/shard-0/bounds.npy    (L + 1,) where each list begins and ends; those of the other shards are empty
"""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray

from recspark.data.catalogue import numbered_batches, numbers_of, vectors_of, write_header
from recspark.errors import UserError
from recspark.lake import local_folder

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Listed:
    """Where the arrays are; small enough to travel with a task. sizes (L,): items in each list, whatever shard it is in."""

    folder: str
    shards: int
    sizes: Counts

    def arrays(self, shard: int) -> tuple[NDArray[np.float32], NDArray[np.int32], Counts]:
        """vectors, positions, bounds of a shard, mapped from the disk of this machine."""
        local = local_folder(shard_folder(self.folder, shard))
        vectors, positions = (np.load(local / f"{name}.npy", mmap_mode="r") for name in ("vector", "position"))
        return vectors, positions, np.load(local / "bounds.npy")


def shard_folder(folder: str, shard: int) -> str:
    return f"{folder}/shard-{shard}"


def write_listed(index: str, lists: int, allowed: NDArray[np.bool_] | None, shards: int, scratch: str) -> Listed:
    """Lay out a folder of Parquet files, rows (list int, position int, vector array<float>) in the order of list, then position, in
    so many lists. allowed: by position, which of them; all if None. The driver streams them, and holds none.

    Raises UserError if the rows are in another order.
    """
    folder = f"{scratch}/listed-{uuid.uuid4().hex}"  # never twice the same: machines keep copies by path
    sizes: Counts = np.zeros(lists, np.int64)
    for which, _, _ in offered(index, allowed):
        sizes += np.bincount(which, minlength=lists)
    parts = shards_of(sizes, shards)
    shard_of = np.zeros(lists, np.int64)
    for number, mine in enumerate(parts):
        shard_of[mine] = number
    fs, _ = pafs.FileSystem.from_uri(folder)
    with ExitStack() as stack:
        arrays = [
            Arrays(stack, fs, shard_folder(folder, number), int(sizes[mine].sum())) for number, mine in enumerate(parts)
        ]
        for which, positions, vectors in offered(index, allowed, vectors=True):
            starts = np.flatnonzero(np.diff(shard_of[which], prepend=-1))
            for rows in np.split(np.arange(len(which)), starts[1:]) if len(which) else ():
                arrays[shard_of[which[rows[0]]]].append(positions[rows], vectors[rows])
    for number, mine in enumerate(parts):
        bounds = np.concatenate([[0], np.cumsum(np.where(np.isin(np.arange(lists), mine), sizes, 0))])
        base = pafs.FileSystem.from_uri(shard_folder(folder, number))[1]
        with fs.open_output_stream(f"{base}/bounds.npy") as stream:
            np.lib.format.write_array(stream, bounds)
    return Listed(folder, len(parts), sizes)


class Arrays:
    """The arrays of a shard, row by row."""

    def __init__(self, stack: ExitStack, fs: pafs.FileSystem, folder: str, count: int):
        base = pafs.FileSystem.from_uri(folder)[1]
        fs.create_dir(base, recursive=True)
        self.streams = [
            stack.enter_context(fs.open_output_stream(f"{base}/{name}.npy")) for name in ("position", "vector")
        ]
        self.count, self.begun = count, False

    def append(self, *rows: NDArray[Any]) -> None:
        for stream, part in zip(self.streams, rows, strict=True):
            if not self.begun:
                write_header(stream, part, self.count)
            stream.write(np.ascontiguousarray(part).tobytes())
        self.begun = True


def offered(
    index: str, allowed: NDArray[np.bool_] | None, vectors: bool = False
) -> Iterator[tuple[Counts, NDArray[np.int32], NDArray[np.float32]]]:
    """(list, position, vector) of the rows that are allowed, a batch at a time; without vectors those are empty."""
    fs, base = pafs.FileSystem.from_uri(index)
    before = np.zeros(0, np.int64)
    for _, batch in numbered_batches(fs, base, ["list", "position", *(["vector"] if vectors else [])]):
        which, positions = (numbers_of(batch.column(name)) for name in ("list", "position"))
        keys = np.concatenate([before, which.astype(np.int64) << 32 | positions])
        if (np.diff(keys) <= 0).any():
            raise UserError(f"{index} is not in the order of its lists; run again from index")
        before = keys[-1:]
        found = vectors_of(batch.column("vector")) if vectors else np.zeros((len(which), 0), np.float32)
        keep = slice(None) if allowed is None else allowed[positions]
        yield which[keep], positions[keep], found[keep]


def shards_of(sizes_L: Counts, shards: int) -> list[Counts]:
    """The lists that are not empty, in runs that hold about as many items each; fewer runs where a list is too large."""
    filled = np.flatnonzero(sizes_L)
    before = np.cumsum(sizes_L[filled]) - sizes_L[filled]
    which = before * shards // max(1, int(sizes_L.sum()))
    return [filled[which == number] for number in np.unique(which)]
