"""Histories as sparse matrices: what a user had, by position, the newest counting most; and what they say of every item.

Dimensions: U users, M items, D length of a dense vector, V of a sparse one.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from recspark.retrieval.topk import Words

Floats = NDArray[np.float32]


def history_matrix(histories: pa.ChunkedArray | pa.ListArray, items: int, decay: float = 1.0) -> csr_matrix:
    """(U, M) float32: decay^b where the user had the item b places before the newest, zero elsewhere.

    histories: positions list<int>, newest first, each item once. A null or an empty history is a row of zeros.
    """
    lists = histories.combine_chunks() if isinstance(histories, pa.ChunkedArray) else histories
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    positions = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int32)
    back = np.arange(len(positions)) - np.repeat(indptr[:-1], lengths)
    weights = np.power(np.float32(decay), back, dtype=np.float32)
    matrix = csr_matrix((weights, positions, indptr), (len(lengths), items))
    matrix.sort_indices()
    return matrix


def history_sides(
    had_UM: csr_matrix, left: csr_matrix | Floats | None, right: csr_matrix | Floats
) -> tuple[Floats, Floats, "Words | None"]:
    """What the top-K kernel takes to rank by had @ left @ rightᵀ: dense users (U, D), dense items (M, D), and words.

    left: a row an item; None: the identity. If it is dense, right is, too.
    """
    from recspark.retrieval.topk import Words

    if isinstance(left, np.ndarray):
        return had_UM @ left, np.asarray(right), None
    users_UV = had_UM if left is None else (had_UM @ left).tocsr()
    users_U0, items_M0 = (np.zeros((n, 0), np.float32) for n in (had_UM.shape[0], right.shape[0]))
    return users_U0, items_M0, Words(users_UV, right)
