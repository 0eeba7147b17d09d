"""Users' vectors under the sequence model, from histories.

Dimensions: U users, M items, D length of vectors.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recspark.lake import local_folder

if TYPE_CHECKING:
    from torch import Tensor

    from recspark.models.sequence import Encoder, SequenceShape

Floats = NDArray[np.float32]
TOGETHER = 512  # histories that are read at once


@dataclass(frozen=True)
class Sequences:
    """A saved sequence model: where it lies, and the threads it may use; small enough to travel with a task."""

    folder: str
    threads: int

    def items(self) -> Floats:
        """(M, D) unit vectors, by position."""
        from torch.nn.functional import normalize

        return normalize(kept_model(self.folder, self.threads)[1], dim=-1).numpy()

    def part(self, histories: pa.ChunkedArray | pa.ListArray) -> tuple[Floats, Floats]:
        """The users' vectors and the items'."""
        return self.users(histories), self.items()

    def users(self, histories: pa.ChunkedArray | pa.ListArray) -> Floats:
        """(U, D) unit vectors; 0 for an empty history. histories: positions list<int>, the newest first."""
        import torch

        encoder, items_MD, shape = kept_model(self.folder, self.threads)
        rows = [np.array(row[: shape.longest][::-1], np.int64) for row in histories.to_pylist()]
        vectors = np.zeros((len(rows), shape.size), np.float32)
        there = [row for row, history in enumerate(rows) if len(history)]
        there.sort(key=lambda row: len(rows[row]))  # those of like length together; what is beyond an end costs, too
        for start in range(0, len(there), TOGETHER):
            chosen = there[start : start + TOGETHER]
            lengths = np.array([len(rows[row]) for row in chosen])
            read = np.zeros((len(chosen), lengths.max()), np.int64)
            for place, row in enumerate(chosen):
                read[place, : lengths[place]] = rows[row]
            with torch.inference_mode():
                after = encoder(items_MD, torch.from_numpy(read))
            vectors[chosen] = after[torch.arange(len(chosen)), torch.from_numpy(lengths - 1)].numpy()
        return vectors


@lru_cache(maxsize=2)
def kept_model(folder: str, threads: int) -> "tuple[Encoder, Tensor, SequenceShape]":
    """The model, loaded once per Python worker."""
    import torch

    from recspark.models.sequence import load_sequence

    torch.set_num_threads(threads)
    return load_sequence(local_folder(folder))
