"""Ranking metrics of one user's list, for many users at once.

h_r is 1 if the item at rank r (from 1) is relevant, else 0; n >= 1 is the number of the user's relevant items. Gains are
binary. A user without a list scores 0 everywhere. The value of a model is the mean over users.

To add a metric: write the function and name it in METRICS.
"""

from collections.abc import Callable

import numpy as np

from recspark.evaluation.judged import Floats, Judged


def recall(judged: Judged, k: int) -> Floats:
    """Σ_{r≤k} h_r / n. It cannot reach 1 where n > k."""
    return judged.hits[:, :k].sum(1) / judged.relevant


def precision(judged: Judged, k: int) -> Floats:
    """Σ_{r≤k} h_r / k, also where the list is shorter than k."""
    return judged.hits[:, :k].sum(1) / k


def hit_rate(judged: Judged, k: int) -> Floats:
    """1 if any of the first k is relevant, else 0."""
    return judged.hits[:, :k].any(1).astype(np.float64)


def mrr(judged: Judged, k: int) -> Floats:
    """1 / rank of the first relevant item among the first k; 0 if there is none."""
    return (judged.hits[:, :k] / ranks(k)).max(1)


def ndcg(judged: Judged, k: int) -> Floats:
    """Σ_{r≤k} h_r / log2(r + 1), divided by its largest value, Σ_{r≤min(n,k)} 1 / log2(r + 1)."""
    gains = 1 / np.log2(ranks(k) + 1)
    ideal = np.cumsum(gains)[np.minimum(judged.relevant, k) - 1]
    return judged.hits[:, :k] @ gains / ideal


def average_precision(judged: Judged, k: int) -> Floats:
    """MAP: Σ_{r≤k} h_r · precision at r / n, with n all of the user's relevant items, not min(n, k).

    As in Microsoft recommenders' published table and in trec_eval's map_cut.
    """
    return precision_at_hits(judged, k) / judged.relevant


def average_precision_min(judged: Judged, k: int) -> Floats:
    """The other MAP: Σ_{r≤k} h_r · precision at r / min(n, k), which can reach 1 however many are relevant."""
    return precision_at_hits(judged, k) / np.minimum(judged.relevant, k)


def novelty(judged: Judged, k: int) -> Floats:
    """Mean of the first k listed items' self-information, -log2((n_i + 1) / (N + 1)) bits.

    n_i of N users have item i in train; the 1 added keeps an item that nobody has finite. An empty list has 0.
    """
    return judged.information[:, :k].sum(1) / np.maximum(judged.listed[:, :k].sum(1), 1)


METRICS: dict[str, Callable[[Judged, int], Floats]] = {
    "recall": recall,
    "ndcg": ndcg,
    "map": average_precision,
    "map_min": average_precision_min,
    "mrr": mrr,
    "hit_rate": hit_rate,
    "precision": precision,
    "novelty": novelty,
}


def ranks(k: int) -> Floats:
    """1, 2, … k."""
    return np.arange(1.0, k + 1)


def precision_at_hits(judged: Judged, k: int) -> Floats:
    """Σ_{r≤k} h_r · (hits among the first r) / r."""
    hits = judged.hits[:, :k]
    return (hits * np.cumsum(hits, 1) / ranks(k)).sum(1)


def coverage(shown: int, items: int) -> float:
    """Share of the items that could be shown which anyone is shown: distinct items in all users' first k / items."""
    return shown / items
