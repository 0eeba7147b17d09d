"""Exact top-K by inner product: every user's best items, seen items left out, ties by item.

A tile of scores (users x items) comes from one matrix product of a fixed shape and is then searched in two steps. Items
lie in groups of 16 neighbours; the best groups are found by their maxima, then the best items among their members. This
loses nothing: if an item is among the best K, fewer than K groups can stand before its own.

Order is total: a score and a position make one 64-bit key, so a tie at the K-th place is decided like any other.

Dimensions: U users given, R users a tile, W items a tile, G groups a tile (W / 16), K list length, D vector length, V words.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

Floats = NDArray[np.float32]
Positions = NDArray[np.integer]

GROUP = 16
ROWS = 128  # users a tile: enough for the matrix product, few enough for the scores to stay in cache
STEP = 256  # widths are multiples of it, so that no item falls to a matrix product's edge code and rounds differently
MEMBER_BYTES = 48  # an item in the second step: its score, its key and their temporaries
PAIR_BYTES = 6  # a user and an item of a tile: the score, the group's maximum and its key
WORDS_PAIR_BYTES = 16  # and beside it the words' product, sparse and dense
LAST = 2**31 - 1  # positions are below it
MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Seen:
    """Positions of the items each user may not get, as rows of a sparse matrix: indptr (U + 1,), indices (nonzeros,).

    Any order within a row; repeats do no harm.
    """

    indptr: NDArray[np.int64]
    indices: Positions


@dataclass(frozen=True)
class Words:
    """Vectors beside the dense ones, (U, V) and (M, V) float32, whose product is added to the scores.

    The users' are sparse; the items' are too, unless most of their numbers count.
    """

    users_UV: csr_matrix
    items_MV: csr_matrix | Floats

    @property
    def numbers(self) -> int:
        """Numbers that an item's vector takes in memory: an index is one, too."""
        if isinstance(self.items_MV, np.ndarray):
            return self.items_MV.shape[1]
        return 2 * self.items_MV.nnz // max(1, self.items_MV.shape[0])

    def tile(self, chosen: slice | Positions) -> csr_matrix | Floats:
        """(V, W): the items of a tile as columns, laid out for products with users' rows."""
        items_WV = self.items_MV[chosen]
        return np.ascontiguousarray(items_WV.T) if isinstance(items_WV, np.ndarray) else items_WV.T.tocsr()

    def add(self, scores_RW: Tensor, first: int, items_VW: csr_matrix | Floats, columns: Tensor) -> None:
        """Add the products of the users from `first` on with a tile's items, which stand in these columns of its scores."""
        users_RV = self.users_UV[first : first + len(scores_RW)]
        if users_RV.nnz:
            products = users_RV @ items_VW
            dense = products if isinstance(products, np.ndarray) else products.toarray()
            scores_RW[: len(dense)].index_add_(1, columns, torch.from_numpy(dense))


@dataclass(frozen=True)
class Lists:
    """Best items first: positions (U, K) int32, -1 where a list ends early; scores (U, K) float32, -inf there."""

    positions: NDArray[np.int32]
    scores: Floats


def exact_top_k(
    users_UD: Floats,
    items_MD: Floats,
    seen: Seen | None,
    top_k: int,
    allowed: Positions | None = None,
    memory_bytes: int = MEMORY_BYTES,
    threads: int = 1,
    words: Words | None = None,
) -> Lists:
    """The K items of largest inner product for each user, by (score descending, position ascending).

    With `words` the score is the sum of both products. Vectors are finite; `items_MD` may be a read-only memory map.
    `allowed` names the positions to rank, ascending (all where it is None). A list is shorter than K only if fewer unseen
    items are allowed. Beside the arguments and the result it holds at most about `memory_bytes`, or one tile of 8 x 256 if
    that is more. A pair's score does not depend on the other users given, as the shapes multiplied depend on M, D, K and
    the budget alone.
    """
    torch.set_num_threads(threads)
    count = len(items_MD) if allowed is None else len(allowed)
    dimension, pair = items_MD.shape[1], PAIR_BYTES
    if words is not None:
        dimension, pair = dimension + words.numbers, pair + WORDS_PAIR_BYTES
    rows, width = tile_shape(count, dimension, top_k, memory_bytes, pair)
    best_UK = torch.full((len(users_UD), top_k), EMPTY)
    scores_RW = torch.empty(rows, width)
    for start in range(0, count, width):
        chosen = slice(start, start + width) if allowed is None else allowed[start : start + width]
        items_WD = fold(items_MD[chosen], width)
        hidden = None if seen is None else hidden_entries(seen, chosen, width)
        local = fold_columns(np.arange(width), width)
        filled, padding = local[: count - start], local[count - start :]
        words_VW = None if words is None else words.tile(chosen)
        for first, users_RD in padded_blocks(users_UD, rows):
            torch.mm(users_RD, items_WD.T, out=scores_RW)
            if words is not None:
                words.add(scores_RW, first, words_VW, filled)
            scores_RW.index_fill_(1, padding, -torch.inf)
            if hidden is not None:
                scores_RW.view(-1)[hidden.within(first, rows)] = -torch.inf
            best_RK = best_UK[first : first + rows]
            best_RK.copy_(better(best_RK, scores_RW[: len(best_RK)], start))
    return unpack(best_UK, allowed)


def tile_shape(
    items: int, dimension: int, top_k: int, memory_bytes: int, pair_bytes: int = PAIR_BYTES
) -> tuple[int, int]:
    """(R, W): users and items a tile, as wide as the budget allows and no wider than need be."""
    rows = ROWS
    while rows > 8 and rows * GROUP * top_k * MEMBER_BYTES > memory_bytes // 2:
        rows //= 2
    members = rows * GROUP * min(top_k, -(-items // GROUP)) * MEMBER_BYTES
    widest = max(STEP, (memory_bytes - members) // (rows * pair_bytes + dimension * 12) // STEP * STEP)
    tiles = max(1, -(-items // widest))
    return rows, max(STEP, -(-items // tiles // STEP) * STEP)


def fold_columns(local: NDArray[np.int64], width: int) -> Tensor:
    """The column in a tile of each item of it: a group's 16 items lie W / 16 columns apart.

    So the maximum over a group runs along whole rows of memory, which is several times as fast as over 16 neighbours.
    """
    return torch.from_numpy(local % GROUP * (width // GROUP) + local // GROUP)


def fold(items_WD: Floats, width: int) -> Tensor:
    """(W, D) copy of the items in the order of `fold_columns`, zeros where there are fewer than W."""
    padded = np.zeros((width, items_WD.shape[1]), np.float32)
    padded[: len(items_WD)] = items_WD
    groups = torch.from_numpy(padded).view(width // GROUP, GROUP, items_WD.shape[1])
    return groups.transpose(0, 1).reshape(padded.shape)


def padded_blocks(users_UD: Floats, rows: int) -> Iterator[tuple[int, Tensor]]:
    """(first row, (R, D)) for each block of users; the last is filled up with zeros to keep the shape."""
    for first in range(0, len(users_UD), rows):
        block = np.zeros((rows, users_UD.shape[1]), np.float32)
        found = users_UD[first : first + rows]
        block[: len(found)] = found
        yield first, torch.from_numpy(block)


@dataclass(frozen=True)
class Hidden:
    """Entries (user, column) of one tile that may not be chosen, ascending by user."""

    users: NDArray[np.int64]
    columns: Tensor
    width: int

    def within(self, first: int, rows: int) -> Tensor:
        """Their places in the flat (R, W) scores of the users from `first` on."""
        low, high = np.searchsorted(self.users, [first, first + rows])
        return torch.from_numpy(self.users[low:high] - first) * self.width + self.columns[low:high]


def hidden_entries(seen: Seen, chosen: slice | Positions, width: int) -> Hidden:
    """The seen entries that lie in a tile of the chosen positions."""
    if isinstance(chosen, slice):
        local = seen.indices.astype(np.int64) - chosen.start
        inside = (local >= 0) & (local < width)
    else:
        local = np.searchsorted(chosen, seen.indices)
        inside = chosen[np.minimum(local, len(chosen) - 1)] == seen.indices
    users = np.repeat(np.arange(len(seen.indptr) - 1), np.diff(seen.indptr))
    return Hidden(users[inside], fold_columns(local[inside], width), width)


def better(best_RK: Tensor, scores_RW: Tensor, start: int) -> Tensor:
    """(R, K) keys, largest first, of the best so far and a tile's items, the first of which is item `start`."""
    rows, top_k = best_RK.shape
    scores_RSG = scores_RW.view(rows, GROUP, -1)  # S: the 16 members of a group
    keys_RG = keys(scores_RSG.amax(1), start + GROUP * torch.arange(scores_RSG.shape[2]))
    floor_R = best_RK[:, -1]
    # Later tiles seldom have many groups that could still enter a list.
    promising = int((keys_RG > floor_R[:, None]).sum(1).max())
    if not promising:
        return best_RK
    chosen = keys_RG.topk(min(top_k, promising), sorted=False)
    if promising >= top_k:  # K groups with a member each from here on: nothing below can be among the best K
        floor_R = torch.maximum(floor_R, chosen.values.amin(1))
    members = scores_RSG.gather(2, chosen.indices[:, None, :].expand(-1, GROUP, -1))
    row, member, group = (members >= score_of(floor_R)[:, None, None]).nonzero(as_tuple=True)
    found = keys(members[row, member, group], start + GROUP * chosen.indices[row, group] + member)
    return torch.cat([best_RK, as_rows(row, found, rows)], 1).topk(top_k).values


def as_rows(row: Tensor, values: Tensor, rows: int) -> Tensor:
    """(rows, longest) of values whose rows are given in ascending order, filled up with EMPTY."""
    counts = torch.bincount(row, minlength=rows)
    table = torch.full((rows, int(counts.max())), EMPTY)
    table[row, torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]] = values
    return table


def keys(scores: Tensor, positions: Tensor) -> Tensor:
    """int64 keys whose order is (score ascending, position descending).

    A float's bits, read as an integer, rise with its value if the bits of the negative are turned over; -0 is made 0.
    """
    bits = (scores + 0.0).view(torch.int32)
    return (turned(bits).to(torch.int64) << 32) | (LAST - positions)


def score_of(found: Tensor) -> Tensor:
    """The scores in the keys."""
    return turned((found >> 32).to(torch.int32)).view(torch.float32)


def turned(bits: Tensor) -> Tensor:
    """int32 with the lower 31 bits inverted where the sign is set; its own inverse."""
    return bits ^ ((bits >> 31) & LAST)


EMPTY = int(keys(torch.tensor(-torch.inf), torch.tensor(LAST)))


def unpack(best_UK: Tensor, allowed: Positions | None) -> Lists:
    """Positions and scores of the keys; what was hidden or never filled has the score -inf and the position -1."""
    scores = score_of(best_UK).numpy()
    index = (LAST - (best_UK & LAST)).numpy()
    full = scores > -np.inf
    found = index[full] if allowed is None else allowed[index[full]]
    positions = np.full(index.shape, -1, np.int32)
    positions[full] = found
    return Lists(positions, scores)
