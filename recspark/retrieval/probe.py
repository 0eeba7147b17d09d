"""Approximate top-K by inner product: only the lists of items that lie near a user are searched (an inverted file, IVF).

Items lie in lists, each around a centroid c. A user u probes the lists of largest u·c + |u| s, where s is how far a list's items
lie from its centroid, a dimension (root mean square): about what an item that is one deviation better than its list's mean would
score. Users that probe a list meet it together, in one matrix product; what beats the K-th best that a user has by then is kept.
First every user's nearest lists are searched, so that there is something to beat in the others. Scores are true inner products: what
is approximate is that an item outside the probed lists is missed. (Jégou, Douze, Schmid: Product quantization for nearest neighbor
search, 2011, section IV, without the quantization.)

Dimensions: U users, M items, L lists, P probes, K list length, D vector length, R users that probe a list, W items in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recspark.retrieval.topk import EMPTY, MEMORY_BYTES, Floats, Lists, Seen, keys, padded_blocks, score_of, unpack

ROWS = 256  # vectors that meet the centroids at a time, always so many: no vector's nearest depends on its neighbours
SCORE_BYTES = 8  # of a user and an item of a list: the score, and whether it is a hit
HIT_BYTES = 48  # of an item that may enter a list: its user, its key and their temporaries
LOWEST = float(np.finfo(np.float32).min)  # below every score, above what is hidden
HIT_PARTS = ("users", "rows", "scores")
FIRST = 2  # the first lists to be searched hold so many times K items

Places = NDArray[np.int64]


@dataclass(frozen=True)
class ListedItems:
    """Items list by list, within a list ascending by position: vectors (M, D) float32, positions (M,), bounds (L + 1,).

    Of a shard, the other shards' lists are there and empty.
    """

    vectors: Floats
    positions: NDArray[np.int32]
    bounds: Places


@dataclass(frozen=True)
class Centroids:
    """vectors (L, D), spreads (L,) float32; sizes (L,): items in each list, whatever shard it is in. probes: lists that a user searches at the least."""

    vectors: Floats
    spreads: Floats
    sizes: Places
    probes: int

    def scores(self, users_UD: Floats) -> Iterator[tuple[int, Tensor]]:
        """(first user, (R, L)) for blocks of users: by what a user's lists are ordered, the largest first."""
        sides = torch.from_numpy(np.concatenate([self.vectors, self.spreads[:, None]], 1)).T
        norms_U1 = np.linalg.norm(users_UD, axis=1, keepdims=True).astype(np.float32)
        for first, block in padded_blocks(np.concatenate([users_UD, norms_U1], 1), ROWS):
            yield first, (block @ sides)[: len(users_UD) - first]


def nearest_lists(vectors_ND: Floats, centroids_LD: Floats) -> Places:
    """(N,) the list of each vector: that of the nearest centroid by Euclidean distance, the first of those that tie."""
    centroids = torch.from_numpy(centroids_LD)
    half_norms = (centroids * centroids).sum(1) / 2
    found = np.empty(len(vectors_ND), np.int64)
    for first, block in padded_blocks(vectors_ND, ROWS):
        best = (block @ centroids.T - half_norms).argmax(1).numpy()
        found[first : first + ROWS] = best[: len(found) - first]
    return found


def places_of(users_UD: Floats, centroids: Centroids, users_N: Places, lists_N: Places) -> Places:
    """(N,): how many lists the named users would probe before the named ones. The users are ascending."""
    found = np.empty_like(lists_N)
    for first, scores in centroids.scores(users_UD):
        order = scores.argsort(1, descending=True).numpy()
        place_RL = np.empty_like(order)
        np.put_along_axis(place_RL, order, np.arange(order.shape[1])[None], 1)
        mine = slice(*np.searchsorted(users_N, [first, first + len(order)]))
        found[mine] = place_RL[users_N[mine] - first, lists_N[mine]]
    return found


def find_centroids(sample_ND: Floats, lists: int, iterations: int, seed: int) -> Floats:
    """(L, D) by k-means (Lloyd), L at most the vectors that differ; one thread, so that two runs give the same."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    lists = min(lists, len(np.unique(sample_ND, axis=0)))
    k_means = KMeans(lists, init="random", n_init=1, max_iter=iterations, tol=0, random_state=seed)
    with threadpool_limits(1):
        return k_means.fit(sample_ND).cluster_centers_.astype(np.float32)


def probed_top_k(
    users_UD: Floats,
    items: ListedItems,
    centroids: Centroids,
    seen: Seen | None,
    top_k: int,
    memory_bytes: int = MEMORY_BYTES,
    threads: int = 1,
) -> Lists:
    """The K items of largest inner product among those in the lists each user probes, by (score descending, position ascending).

    A user probes more than `probes` lists where they could not fill the list with items that are not among the seen. Of a shard,
    the best of its own items. Beside the arguments and the result it holds about `memory_bytes`, who probes what, and a number an item
    where something was seen.
    """
    torch.set_num_threads(threads)
    pairs = probed_pairs(users_UD, centroids, seen, top_k)
    rows = None if seen is None else seen_rows(items, seen)
    best_UK = torch.full((len(users_UD), top_k), EMPTY)
    for chosen in (pairs.near, ~pairs.near):
        part = Pairs(pairs.users[chosen], pairs.lists[chosen], pairs.near[chosen])
        search(best_UK, users_UD, items, part, Hidden.of(rows, part, len(users_UD), items), memory_bytes)
    return unpack(best_UK, None)


# ---- who probes what


@dataclass(frozen=True)
class Pairs:
    """Users and the lists they probe, ascending by list, then user. near: whether it is one of the first that the user probes."""

    users: Places
    lists: Places
    near: NDArray[np.bool_]


def probed_pairs(users_UD: Floats, centroids: Centroids, seen: Seen | None, top_k: int) -> Pairs:
    """Each user probes as many lists as asked for, or as hold K items beyond all that the user has seen."""
    had_U = np.zeros(len(users_UD), np.int64) if seen is None else np.diff(seen.indptr)
    users, lists, near = [], [], []
    for first, scores in centroids.scores(users_UD):
        had_R = had_U[first : first + ROWS]
        order, held = probe_order(scores, centroids, had_R + top_k)
        deep = np.maximum(centroids.probes, 1 + (held < had_R[:, None] + top_k).sum(1))
        row, place = np.nonzero(np.arange(order.shape[1])[None] < deep[:, None])
        before = (held - centroids.sizes[order])[row, place]
        users.append(row + first)
        lists.append(order[row, place])
        near.append(before < had_R[row] + FIRST * top_k)
    which = np.concatenate([np.zeros(0, np.int64), *lists])
    narrow = which.astype(np.uint16) if len(centroids.sizes) <= 2**16 else which  # which numpy sorts by radix
    by_list = np.argsort(narrow, kind="stable")  # the users are ascending already
    user, first_ones = np.concatenate([np.zeros(0, np.int64), *users]), np.concatenate([np.zeros(0, bool), *near])
    return Pairs(user[by_list], which[by_list], first_ones[by_list])


def probe_order(scores_RL: Tensor, centroids: Centroids, wanted_R: Places) -> tuple[Places, Places]:
    """(R, N) lists, the largest score first, and how many items they hold up to each; N lists hold what is wanted, or are all there are."""
    lists, longest = scores_RL.shape[1], min(centroids.probes, scores_RL.shape[1])
    while True:
        order = scores_RL.topk(longest, 1).indices.numpy()
        held = np.cumsum(centroids.sizes[order], 1)
        if longest == lists or (held[:, -1] >= wanted_R).all():
            return order, held
        longest = min(2 * longest, lists)


# ---- what may not be listed


def seen_rows(items: ListedItems, seen: Seen) -> tuple[Places, Places]:
    """(users, rows of the items) of what was seen and is here."""
    last = max(int(items.positions.max(initial=-1)), int(seen.indices.max(initial=-1)))
    row_of = np.full(last + 1, -1, np.int32)
    row_of[items.positions] = np.arange(len(items.positions), dtype=np.int32)
    users, rows = np.repeat(np.arange(len(seen.indptr) - 1), np.diff(seen.indptr)), row_of[seen.indices]
    return users[rows >= 0], rows[rows >= 0].astype(np.int64)


@dataclass(frozen=True)
class Hidden:
    """Items that a user may not get, in lists that the user probes: the pair's number, ascending, and the item's column in its list."""

    pairs: Places
    columns: Places

    @classmethod
    def of(cls, seen: tuple[Places, Places] | None, pairs: Pairs, users: int, items: ListedItems) -> "Hidden":
        if seen is None or not len(pairs.users):
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        user, row = seen
        which = np.searchsorted(items.bounds, row, side="right") - 1
        probed, wanted = pairs.lists * users + pairs.users, which * users + user
        pair = np.minimum(np.searchsorted(probed, wanted), len(probed) - 1)
        there = probed[pair] == wanted
        order = np.argsort(pair[there], kind="stable")
        return cls(pair[there][order], (row - items.bounds[which])[there][order])


# ---- the search


@dataclass(frozen=True)
class Hits:
    """What may enter the users' best: the user, the item's row among the listed, the score."""

    users: Places
    rows: Places
    scores: Floats


@dataclass(frozen=True)
class Tiles:
    """What is multiplied at once: a list, the pairs from `begins` to `ends`, and the list's size."""

    lists: Places
    begins: Places
    ends: Places
    sizes: Places

    def rows(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(*(part.tolist() for part in (self.lists, self.begins, self.ends, self.sizes)), strict=True)


def search(
    best_UK: Tensor, users_UD: Floats, items: ListedItems, pairs: Pairs, hidden: Hidden, memory_bytes: int
) -> None:
    """Put what the pairs' lists have that is better into the users' best."""
    tiles = tiles_of(pairs, items, memory_bytes // SCORE_BYTES)
    hides = np.searchsorted(hidden.pairs, tiles.begins), np.searchsorted(hidden.pairs, tiles.ends)
    # Made once: memory that is new at each list costs more than its product.
    room = torch.empty(int(((tiles.ends - tiles.begins) * tiles.sizes).max(initial=0)))
    floor_U = floors(best_UK)
    found: list[Hits] = []
    held, most = 0, max(1, memory_bytes // HIT_BYTES)
    for number, (which, begin, end, width) in enumerate(tiles.rows()):
        first = items.bounds[which]
        users, listed_WD = pairs.users[begin:end], np.array(items.vectors[first : first + width])
        scores_RW = room[: len(users) * width].view(len(users), width)
        torch.mm(torch.from_numpy(users_UD[users]), torch.from_numpy(listed_WD).T, out=scores_RW)
        scores = scores_RW.numpy()
        hide = slice(hides[0][number], hides[1][number])
        if hide.start < hide.stop:
            scores[hidden.pairs[hide] - begin, hidden.columns[hide]] = -np.inf
        flat = np.flatnonzero(scores >= floor_U[users][:, None])
        row, column = np.divmod(flat, width)
        found.append(Hits(users[row], first + column, scores.reshape(-1)[flat]))
        held += len(flat)
        if held > most:
            merge(best_UK, items, found, memory_bytes)
            floor_U, found, held = floors(best_UK), [], 0
    merge(best_UK, items, found, memory_bytes)


def tiles_of(pairs: Pairs, items: ListedItems, most_scores: int) -> Tiles:
    """A tile for each list that is not empty; several where its users and items are too many."""
    lists, begins, counts = np.unique(pairs.lists, return_index=True, return_counts=True)
    sizes = items.bounds[lists + 1] - items.bounds[lists]
    filled = sizes > 0
    lists, begins, counts, sizes = lists[filled], begins[filled].astype(np.int64), counts[filled], sizes[filled]
    rows = np.maximum(1, most_scores // sizes)  # users of a tile
    pieces = -(-counts // rows)
    piece = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lists, sizes, rows, last = (np.repeat(part, pieces) for part in (lists, sizes, rows, begins + counts))
    begins = np.repeat(begins, pieces) + piece * rows
    return Tiles(lists, begins, np.minimum(begins + rows, last), sizes)


def floors(best_UK: Tensor) -> Floats:
    """(U,) the least score that can still enter each user's best."""
    return score_of(best_UK[:, -1]).clamp(min=LOWEST).numpy()


def merge(best_UK: Tensor, items: ListedItems, found: list[Hits], memory_bytes: int) -> None:
    """Put hits of users, in any order, among their best. Users with about as many are done together."""
    if not found:
        return
    users, rows, scores = (torch.from_numpy(np.concatenate([getattr(h, part) for h in found])) for part in HIT_PARTS)
    values = keys(scores, torch.from_numpy(items.positions[rows.numpy()].astype(np.int64)))
    values = values[users.argsort(stable=True)]
    counts = torch.bincount(users, minlength=len(best_UK))
    starts = counts.cumsum(0) - counts
    by_count = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())]
    first, top_k = 0, best_UK.shape[1]
    while first < len(by_count):
        longest = int(counts[by_count[first]])
        some = by_count[first : first + max(1, memory_bytes // (HIT_BYTES * (longest + top_k)))]
        place = torch.arange(longest)
        inside = place < counts[some][:, None]
        table = values[(starts[some][:, None] + place).clamp(max=len(values) - 1)].masked_fill_(~inside, EMPTY)
        best_UK[some] = torch.cat([best_UK[some], table], 1).topk(top_k).values
        first += len(some)
