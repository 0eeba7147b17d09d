"""Ranking metrics of one user's list, for many users at once.

h_r is 1 if the item at rank r (from 1) is relevant, else 0; n >= 1 is the number of the user's relevant items. Gains are
binary. A user without a list scores 0 everywhere. The value of a model is the mean over users.

To add a metric: write the function and name it in METRICS.
"""

from collections.abc import Callable

import numpy as np

from recspark.evaluation.judged import Floats, Judged

SMOOTHING = 0.01  # of miscalibration
TINY = 1e-12


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


def popularity(judged: Judged, k: int) -> Floats:
    """Mean of n_i / N over the first k listed items, with n_i of N users of train having item i. An empty list has 0.

    Average recommendation popularity (Yin, Cui, Li, Yao and Chen 2012, "Challenging the long tail recommendation").
    """
    return judged.popularity[:, :k].sum(1) / np.maximum(judged.listed[:, :k].sum(1), 1)


def diversity(judged: Judged, k: int) -> Floats:
    """1 - mean cosine of every two of the first k listed items' texts; 0 of fewer than two items.

    Intra-list diversity (Smyth and McClave 2001, "Similarity vs. diversity"; Ziegler et al. 2005, "Improving recommendation lists
    through topic diversification"). The vectors are what the fine-tuned text alone says of an item.
    """
    listed = judged.listed[:, :k].sum(1)
    pairs = listed * (listed - 1) / 2
    apart = 1 - judged.alike[:, k - 1] / np.maximum(pairs, 1)
    return np.where(pairs > 0, np.maximum(apart, 0.0), 0.0)  # equal vectors are a bit apart


def miscalibration(judged: Judged, k: int) -> Floats:
    """Σ_g p_g log(p_g / q̃_g), with p the labels of the history, q those of the first k listed items, and q̃ = .99 q + .01 p; in nats.

    How far an attribute's mix in the list is from the user's own: 0 is the same mix, log 100 nothing in common (Steck 2018,
    "Calibrated recommendations"). Items without a label do not count; 0 where no item of the history has one.
    """
    p, q = judged.likes, judged.labels[:, :k].sum(1, dtype=np.float64)
    q = q / np.maximum(q.sum(1, keepdims=True), TINY)
    smoothed = (1 - SMOOTHING) * q + SMOOTHING * p
    return np.maximum((p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, smoothed, 1))).sum(1), 0.0)


METRICS: dict[str, Callable[[Judged, int], Floats]] = {
    "recall": recall,
    "ndcg": ndcg,
    "map": average_precision,
    "map_min": average_precision_min,
    "mrr": mrr,
    "hit_rate": hit_rate,
    "precision": precision,
    "novelty": novelty,
    "popularity": popularity,
    "diversity": diversity,
    "miscalibration": miscalibration,
}
LABELLED = ("miscalibration",)  # want an attribute's labels


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
