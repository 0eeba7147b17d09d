"""From a query to the vector whose inner products with the catalogue's are its scores.

Dimensions: Q queries, M items, H the encoder's size, K the factors' size.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recspark.data.text import tokenise

Floats = NDArray[np.float32]
ROWS = 65536  # items at a time


@dataclass(frozen=True)
class QueryTokens:
    """What the encoder reads of a query; `cut` where it is longer than that, `known` if the model knows a part of it."""

    token_ids: list[int]
    cut: bool
    known: bool


def tokenise_queries(tokenizer: Any, queries: list[str], max_length: int, prefix: str = "") -> list[QueryTokens]:
    """Tokens of normalised queries, at most `max_length`, special tokens included; the prefix is what the model wants before a query."""
    whole = [prefix + query for query in queries]
    read, longer = (tokenise(tokenizer, whole, length) for length in (max_length, max_length + 1))
    special, bare = set(tokenizer.all_special_ids), tokenise(tokenizer, queries, max_length)
    return [
        QueryTokens(ids, len(more) > len(ids), not special.issuperset(own))
        for ids, more, own in zip(read, longer, bare, strict=True)
    ]


@dataclass(frozen=True)
class Moments:
    """Mean (K,) and covariance (K, K) of the catalogue's item vectors, float64."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def moments_of(items_MK: Floats) -> Moments:
    """Of the rows, which may be a memory map, a part at a time."""
    count, size = items_MK.shape
    total, squares = np.zeros(size), np.zeros((size, size))
    for start in range(0, count, ROWS):
        rows = items_MK[start : start + ROWS].astype(np.float64)
        total += rows.sum(0)
        squares += rows.T @ rows
    mean = total / count
    return Moments(mean, squares / count - np.outer(mean, mean))


def with_preference(queries_QH: Floats, users_QK: Floats, moments: Moments, weight: float) -> Floats:
    """(Q, H + K + 1) whose product with (text, item vector, 1) is cosine + weight z.

    z is the user's score of the item, u·v, less its mean over the catalogue, in its standard deviations over the catalogue,
    √(uᵀ C u): queries of users with long and with short vectors are moved alike. A zero vector, and one that scores all
    items alike, moves nothing.
    """
    users = users_QK.astype(np.float64)
    spread_Q = np.sqrt(np.maximum(np.einsum("qk,kl,ql->q", users, moments.covariance, users), 0))
    told_apart = spread_Q > 1e-6 * np.linalg.norm(users, axis=1) * np.linalg.norm(moments.mean)
    scale_Q = np.divide(weight, spread_Q, out=np.zeros_like(spread_Q), where=told_apart)
    preference_QK = users * scale_Q[:, None]
    return np.hstack([queries_QH, preference_QK, -preference_QK @ moments.mean[:, None]]).astype(np.float32)
