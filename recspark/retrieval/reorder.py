"""A list in a new order: two scores blended, and what lies below the reranker's depth.

Shapes: K items of a list, best first; R <= K of them reranked.
"""

import numpy as np
from numpy.typing import NDArray

from recspark.retrieval.features import Floats, standardised


def reorder(
    scores_K: Floats, reranker_R: Floats, positions_K: NDArray[np.integer], weight: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(order (K,) of places in the old list, scores (K,) in the new order, which never rise).

    A reranked item's score is (1 - weight) retriever + weight reranker, each standardised over the R; ties go by position.
    The rest follows as it was: its scores fall below the last by as much as the retriever's do.
    """
    depth = len(reranker_R)
    if not depth:
        return np.arange(len(scores_K)), standardised(scores_K).astype(np.float32)
    retriever = np.asarray(scores_K, np.float64)
    blended = (1 - weight) * standardised(retriever[:depth]) + weight * standardised(reranker_R)
    blended = blended.astype(np.float32)
    order = np.lexsort((positions_K[:depth], -blended))
    spread = retriever[:depth].std() or 1.0
    below = blended.min() - (retriever[depth - 1] - retriever[depth:]) / spread
    return np.append(order, np.arange(depth, len(scores_K))), np.append(blended[order], below).astype(np.float32)


def gain(place: int | None, k: int) -> float:
    """nDCG@k of a list with one relevant item: 1 / log2(place + 2), place from 0; 0 beyond k, and where it is not listed."""
    return 0.0 if place is None or place >= k else float(1 / np.log2(place + 2))
