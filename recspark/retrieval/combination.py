"""Retrievers side by side as one inner product: factors, a sequence model where there is one, popularity, and an item-based model.

A user's vector is the factors', the sequence model's, a 1 and the history, one after the other, each divided by the standard deviation
of the scores that it gives that user over the catalogue, then weighted; an item's is its factors, its vector under the sequence
model, its popularity and its column of S. Nothing is lost: the inner product is the weighted sum of the models' scores.

Dimensions: U users, M items, D length of a part's vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recspark.retrieval.histories import history_matrix

FACTORS, SEQUENCE, POPULARITY, ITEM_BASED = "factors", "sequence", "popularity", "item_based"

Floats = NDArray[np.floating]
Again = Literal["nothing", "newest", "all"]  # what of a user's history may be listed again
Texts = Literal["none", "fine_tuned", "base"]  # under which encoder the texts stand in EASE, if they do
ROUNDING = 1e-6  # of the largest score: float32 sums of one and the same number differ by less


@dataclass(frozen=True)
class Choice:
    """How they go together.

    share: of the item-based model against the factors, 0 to 1. sequence: of the sequence model against these two. popularity: of what is
    popular with all against what is said of the user; half_life_days: of an event there, none if all count alike. decay: weight of an item of the history against the one after it. texts: of EASE.
    again: what of the history a user may get again; repeat: what having it says for it, in units of the largest |S_ij|
    of an item on average.
    """

    share: float = 0.0
    decay: float = 1.0
    texts: Texts = "none"
    again: Again = "nothing"
    repeat: float = 0.0
    sequence: float = 0.0
    popularity: float = 0.0
    half_life_days: float | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Of the parts by their names; together 1."""
        personal = 1 - self.popularity
        others = personal * (1 - self.sequence)
        return {
            FACTORS: others * (1 - self.share),
            SEQUENCE: personal * self.sequence,
            POPULARITY: self.popularity,
            ITEM_BASED: others * self.share,
        }

    def described(self) -> dict[str, Any]:
        return asdict(self)


def scale_of(scores_UM: Floats) -> Floats:
    """(U,) 1 / standard deviation of each user's scores; 0 where they are all alike, but for what rounding makes of them."""
    spread = scores_UM.std(axis=1, dtype=np.float64)
    least = np.maximum(ROUNDING * np.abs(scores_UM).max(axis=1), 1e-12)
    return np.where(spread > least, 1 / np.maximum(spread, least), 0.0).astype(np.float32)


Part = tuple[Floats, Floats]  # vectors of the users (U, D) and of the items (M, D)


def user_parts(
    parts: Mapping[str, Part], histories_UM: csr_matrix, similar_MM: Floats, choice: Choice
) -> tuple[Floats, csr_matrix]:
    """The users' vectors: of the parts by their names, one after the other (U, ΣD), and of the history (U, M)."""
    dense = [weighted(*part, choice.weights[name]) for name, part in parts.items()]
    ours = choice.weights[ITEM_BASED] * scale_of(histories_UM @ similar_MM)
    return np.hstack(dense), histories_UM.multiply(ours[:, None]).tocsr()


def weighted(users_UD: Floats, items_MD: Floats, weight: float) -> Floats:
    """The users' vectors so that their scores have this standard deviation."""
    return users_UD * (weight * scale_of(users_UD @ items_MD.T))[:, None]


def own_weight(similar_MM: Floats) -> float:
    """The unit of `repeat`: the mean over items of the largest |S_ij|; 1 where S is empty."""
    return float(np.abs(similar_MM).max(axis=0).mean()) or 1.0


def ndcg_of(scores_UM: Floats, wanted: Sequence[NDArray[np.integer]], k: int) -> Floats:
    """(U,) nDCG@k of each user's wanted items, binary gains; scores of -inf are of items that cannot be listed. Ties go by position, as in the lists."""
    k = min(k, scores_UM.shape[1])
    top = best_of(scores_UM, k)
    values = np.take_along_axis(scores_UM, top, axis=1)
    gains = 1 / np.log2(np.arange(2, k + 2))
    hits = np.stack([np.isin(row, items) for row, items in zip(top, wanted, strict=True)]) & (values > -np.inf)
    return hits @ gains / np.cumsum(gains)[[min(len(items), k) - 1 for items in wanted]]


def best_of(scores_UM: Floats, k: int) -> NDArray[np.integer]:
    """(U, k) positions of each user's k highest scores, the highest first, equal ones by position."""
    top = np.sort(np.argpartition(-scores_UM, k - 1, axis=1)[:, :k], axis=1)
    least = np.take_along_axis(scores_UM, top, axis=1).min(axis=1)
    equal_UM = scores_UM == least[:, None]
    placed = np.take_along_axis(equal_UM, top, axis=1).sum(1)
    for user in np.flatnonzero(equal_UM.sum(1) > placed):  # not all of its equals have a place
        above = np.flatnonzero(scores_UM[user] > least[user])
        top[user] = np.sort(np.append(above, np.flatnonzero(equal_UM[user])[: k - len(above)]))
    values = np.take_along_axis(scores_UM, top, axis=1)
    return np.take_along_axis(top, np.argsort(-values, axis=1, kind="stable"), axis=1)


class Crowd:
    """Some users' scores under every model, and what they want: what a choice gives them.

    parts: by their names, but for the popularity; popular: (M,) by half-life. histories: positions list<int>, the newest first; wanted: positions of each; seen_UM: true where the user had the item, or may not
    get it; never_UM: true where he may not get it whatever is chosen.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        popular: Mapping[float | None, Floats],
        histories: pa.ChunkedArray,
        wanted: Sequence[NDArray[np.integer]],
        seen_UM: NDArray[np.bool_],
        never_UM: NDArray[np.bool_],
    ):
        self.histories, self.wanted = histories, wanted
        newest_UM = history_matrix(pc.list_slice(histories, 0, 1), seen_UM.shape[1]).toarray() > 0
        self.barred = {"nothing": seen_UM | never_UM, "newest": (seen_UM & ~newest_UM) | never_UM, "all": never_UM}
        self.parts = {name: weighted(*part, 1.0) @ part[1].T for name, part in parts.items()}
        self.popular = {half_life: counts * scale_of(counts[None]) for half_life, counts in popular.items()}
        self.kept: tuple[tuple[float, Texts], Floats, csr_matrix] | None = None

    def ndcg(self, choice: Choice, similar_MM: Floats, unit: float, k: int) -> Floats:
        """(U,) nDCG@k of each user. unit: `own_weight` of S."""
        own, had = self.item_based(choice, similar_MM)
        weights = choice.weights
        scores_UM = weights[ITEM_BASED] * own
        for name, part_UM in self.parts.items():
            if weights[name]:
                scores_UM += weights[name] * part_UM
        if choice.popularity:
            scores_UM += weights[POPULARITY] * self.popular[choice.half_life_days]
        if choice.repeat:
            scores_UM += weights[ITEM_BASED] * choice.repeat * unit * had.toarray()
        scores_UM[self.barred[choice.again]] = -np.inf
        return ndcg_of(scores_UM, self.wanted, k)

    def item_based(self, choice: Choice, similar_MM: Floats) -> tuple[Floats, csr_matrix]:
        """(U, M) scaled scores of the item-based model, and the scaled history; of the last decay and texts they are kept."""
        key = (choice.decay, choice.texts)
        if self.kept is None or self.kept[0] != key:
            had = history_matrix(self.histories, len(similar_MM), choice.decay)
            scores = had @ similar_MM
            scale = scale_of(scores)[:, None]
            self.kept = key, scores * scale, had.multiply(scale).tocsr()
        return self.kept[1], self.kept[2]
