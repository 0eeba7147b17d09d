"""The items of a training by pairs, by position: their texts, their vectors as of the last refresh, what frozen layers make of them; and
which of them users have.

All lie in temporary files that are mapped, so memory holds what is being read. M items, L tokens, H the encoder's hidden
size, K factors.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from recspark.errors import UserError
from recspark.models.encoder import pad
from recspark.training.kept import reserved
from recspark.training.launcher import Ranks
from recspark.training.prefix import Prefix
from recspark.training.reader import Ragged, Step, opened

Positions = NDArray[np.int64]
REFRESHED = 4096  # items a rank encodes between two exchanges with the others


class PairItems:
    """The table `pair_items`: tokens, share of the examples' targets, rating bias; each by position."""

    def __init__(self, path: str):
        tokens = Ragged(np.dtype("<i4"))
        positions, shares, biases = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0)]
        for piece in opened(path).to_batches(columns=["position", "tokens", "share", "bias"]):
            tokens.append(piece.column("tokens").to_numpy(zero_copy_only=False))
            positions.append(piece.column("position").to_numpy())
            shares.append(piece.column("share").to_numpy())
            biases.append(piece.column("bias").to_numpy())
        tokens.close()
        self.tokens, self.row = tokens, np.argsort(np.concatenate(positions))
        self.share, self.bias = (np.concatenate(parts)[self.row] for parts in (shares, biases))

    def __len__(self) -> int:
        return len(self.row)

    def texts(self, positions: Positions) -> list[NDArray[np.int32]]:
        """Token ids of items."""
        return [self.tokens[row] for row in self.row[positions]]

    def lengths(self, positions: Positions) -> Positions:
        """(n,) tokens of items."""
        ends = np.asarray(self.tokens.ends)
        rows = self.row[positions]
        return ends[rows + 1] - ends[rows]


class PairUsers:
    """The table `pair_users`, of the users that this rank's examples are of."""

    def __init__(self, path: str, users: NDArray[np.int64]):
        """users: those to keep, in any order, as often as they come."""
        self.positives, found = Ragged(np.dtype("<i4")), [np.empty(0, np.int64)]
        wanted = np.unique(users)
        for piece in opened(path).to_batches(columns=["user", "positives"]):
            mine = piece.filter(pa.array(np.isin(piece.column("user").to_numpy(), wanted)))
            self.positives.append(mine.column("positives").to_numpy(zero_copy_only=False))
            found.append(mine.column("user").to_numpy())
        self.positives.close()
        there = np.concatenate(found)
        self.row = np.argsort(there)
        self.users = there[self.row]

    def beside(self, step: Step) -> Step:
        """The step with the array `positives` of each example's user."""
        rows = self.row[np.searchsorted(self.users, step.numbers["user"])]
        return replace(step, arrays={**step.arrays, "positives": [self.positives[row] for row in rows]})


class ItemStates:
    """What the frozen layers make of each item's text, (L, H), kept from its first use on. Raises OSError if there is no room for all."""

    def __init__(self, prefix: Prefix, items: PairItems):
        self.prefix, self.items = prefix, items
        self.prompt = len(prefix.encoder.prompt_ids)
        lengths = items.lengths(np.arange(len(items))) + self.prompt
        self.ends = np.concatenate([[0], np.cumsum(lengths)])
        self.filled = np.zeros(len(items), bool)
        shape = (int(self.ends[-1]), prefix.encoder.embedding_size)
        self.values = np.memmap(reserved(4 * shape[0] * shape[1]), np.float32, "r+", shape=shape)

    @staticmethod
    def size(prefix: Prefix, items: PairItems) -> int:
        """Bytes that all items' states take."""
        tokens = int(items.lengths(np.arange(len(items))).sum()) + len(items) * len(prefix.encoder.prompt_ids)
        return 4 * tokens * prefix.encoder.embedding_size

    def of(self, positions: Positions, device: torch.device) -> Tensor:
        """(B, L, H), zero where a text has no token."""
        missing = np.unique(positions[~self.filled[positions]])
        if len(missing):
            states = self.prefix.states(*(t.to(device) for t in pad(self.items.texts(missing)))).float().cpu().numpy()
            for position, rows in zip(missing, states, strict=True):
                self.values[self.ends[position] : self.ends[position + 1]] = rows[: self.count(position)]
            self.filled[missing] = True
        padded = np.zeros((len(positions), max(map(self.count, positions)), self.values.shape[1]), np.float32)
        for row, position in enumerate(positions):
            padded[row, : self.count(position)] = self.values[self.ends[position] : self.ends[position + 1]]
        return torch.from_numpy(padded).to(device)

    def count(self, position: int) -> int:
        return int(self.ends[position + 1] - self.ends[position])


class KeptVectors:
    """(M, K) vectors of all items, made anew when told: each rank encodes its share, and all get all.

    Raises UserError if the temporary folder has no room for them.
    """

    def __init__(self, items: int, size: int, device: torch.device):
        try:
            file = reserved(4 * items * size)
        except OSError as error:
            raise UserError(
                f"the temporary folder {tempfile.gettempdir()} has no room for the vectors of {items:,} items, {4 * items * size:,} bytes "
                f"a rank ({error}); make room, or set TMPDIR to a larger disk"
            ) from None
        self.mapped = torch.from_numpy(np.memmap(file, np.float32, "r+", shape=(items, size)))
        self.vectors, self.device = self.mapped, device

    def refresh(self, lengths: Positions, encode: Callable[[Positions], Tensor], ranks: Ranks) -> None:
        """encode: from positions (n,) to vectors (n, K). Items of like length are encoded together."""
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), REFRESHED * ranks.size):
            chunk = order[start : start + REFRESHED * ranks.size]
            self.mapped[chunk] = spread_over(chunk, encode, ranks, lambda rows, ranks: ranks.gather(rows)).cpu()
        self.vectors = self.mapped.to(self.device)


def spread_over(
    positions: Positions,
    encode: Callable[[Positions], Tensor],
    ranks: Ranks,
    gather: Callable[[Tensor, Ranks], Tensor],
) -> Tensor:
    """(n, K): rank r encodes every position r of `ranks.size`; all get all, in the order given.

    All ranks encode equally many: the last position is repeated where it does not come out even.
    """
    share = -(-len(positions) // ranks.size)
    even = np.append(positions, np.repeat(positions[-1:], share * ranks.size - len(positions)))
    found = gather(encode(even[ranks.rank :: ranks.size]), ranks)
    place = np.arange(len(positions))
    return found[torch.from_numpy((place % ranks.size) * share + place // ranks.size).to(found.device)]
