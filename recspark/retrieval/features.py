"""What a cheap reranker knows of each item on a user's list, without reading text: numbers from scores, vectors and counts.

To add a feature: write the function and name it in FEATURES. Shapes: K items of the list, H events of the history (newest
first), D factors, T the length of text vectors, M items of the catalogue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
DECAY = 0.5  # an event back


@dataclass(frozen=True)
class Items:
    """All items by position. centre (T,): mean of the text vectors; neighbours: rows of the co-occurrence matrix (M, M) as
    indptr, indices ascending within a row, and weights; tokens_ML: of the texts, filled up with -1, where a model reads them."""

    prior_MD: Floats
    text_MT: Floats
    centre_T: Floats
    popularity_M: NDArray[np.integer]
    latest_M: Floats
    neighbours: tuple[NDArray[np.int64], NDArray[np.int32], Floats]
    tokens_ML: Floats | None = None


@dataclass(frozen=True)
class Question:
    """A user's list, best first, and what of the user is known."""

    user_D: Floats
    history_H: NDArray[np.integer]
    positions_K: NDArray[np.integer]
    scores_K: Floats
    items: Items

    @cached_property
    def cosines(self) -> Floats:
        """(K, H), of the text vectors, centred over the catalogue."""
        both = [unit(self.items.text_MT[p] - self.items.centre_T) for p in (self.positions_K, self.history_H)]
        return both[0] @ both[1].T

    @cached_property
    def links(self) -> Floats:
        """(K, H): co-occurrence from each event of the history to each item of the list."""
        found = np.zeros((len(self.positions_K), len(self.history_H)), np.float32)
        indptr, indices, weights = self.items.neighbours
        for column, event in enumerate(self.history_H):
            row = slice(indptr[event], indptr[event + 1])
            if row.start < row.stop:
                others = indices[row]
                place = np.minimum(np.searchsorted(others, self.positions_K), len(others) - 1)
                found[:, column] = np.where(others[place] == self.positions_K, weights[row][place], 0)
        return found


def unit(vectors_NT: Floats) -> Floats:
    """Each divided by its length; zero stays zero."""
    length = np.linalg.norm(vectors_NT, axis=1, keepdims=True)
    return vectors_NT / np.where(length > 0, length, 1)


def standardised(values_K: Floats) -> NDArray[np.float64]:
    """Of mean 0 and standard deviation 1 over the list; all 0 where they are alike."""
    values = np.asarray(values_K, np.float64)
    spread = values.std() if len(values) else 0.0
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros(len(values))


def decayed(values_KH: Floats) -> Floats:
    """(K,) Σ ½^h values over the history, h from 0 for the newest event."""
    return values_KH @ DECAY ** np.arange(values_KH.shape[1])


def newest(values_KH: Floats) -> Floats:
    """(K,) of the newest event; 0 without a history."""
    return values_KH[:, 0] if values_KH.shape[1] else np.zeros(len(values_KH), np.float32)


FEATURES: dict[str, Callable[[Question], Floats]] = {
    "retriever": lambda q: standardised(q.scores_K),
    "rank": lambda q: -np.log(np.arange(1.0, len(q.positions_K) + 1)),
    "text_prior": lambda q: standardised(q.items.prior_MD[q.positions_K] @ q.user_D),
    "text_newest": lambda q: standardised(newest(q.cosines)),
    "text_history": lambda q: standardised(decayed(q.cosines)),
    "cooccurrence_newest": lambda q: np.sqrt(newest(q.links)),
    "cooccurrence_history": lambda q: np.sqrt(decayed(q.links)),
    "popularity": lambda q: np.log1p(q.items.popularity_M[q.positions_K]),
    "warm": lambda q: q.items.popularity_M[q.positions_K] > 0,
    "recency": lambda q: standardised(q.items.latest_M[q.positions_K]),
}


def features_of(question: Question) -> NDArray[np.float32]:
    """(K, F) in the order of FEATURES."""
    return np.stack([feature(question) for feature in FEATURES.values()], axis=1).astype(np.float32)
