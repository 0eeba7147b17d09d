"""Lists set beside the truth: what every metric looks at.

Dimensions: U users who have something relevant, K places in a list, M items of the catalogue, G labels (values of an attribute).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Traits:
    """What is known of the catalogue's items, whoever they are shown to.

    information: (M,) bits that its showing tells; popularity: (M,) share of the users of train who have it; vectors: (M, D) what
    the text says of it; labels: (M, G) the share that each label has of it, together 1 or 0. None where nobody asks.
    """

    information_M: Floats
    popularity_M: Floats
    vectors_MD: NDArray[np.floating] | None = None
    labels_MG: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Judged:
    """Lists of U users and what was relevant.

    hits: (U, K) whether the item at a place (rank - 1) is relevant; relevant: (U,) number of the user's relevant items, at
    least 1; listed: (U, K) whether there is an item at all; information and popularity: (U, K) of the item there, 0 where
    none; alike: (U, K) cosines of every two items up to a place, added up, or (U, 0) without vectors; labels: (U, K, G) of the item
    there, and likes: (U, G) of the history, G being 0 without labels.
    """

    hits: NDArray[np.bool_]
    relevant: NDArray[np.int64]
    listed: NDArray[np.bool_]
    information: Floats
    popularity: Floats
    alike: NDArray[np.floating]
    labels: NDArray[np.floating]
    likes: Floats

    def choose(self, users: NDArray[np.bool_]) -> "Judged":
        """The same of some users."""
        return Judged(*(getattr(self, field.name)[users] for field in fields(self)))


def judge(
    list_users: Ints,
    ranks: Ints,
    positions: Ints,
    truth_users: Ints,
    truth_positions: Ints,
    users: int,
    longest: int,
    traits: Traits,
    likes_UG: Floats | None = None,
) -> Judged:
    """Set lists beside the truth.

    One entry a listed item: its user (0 to U - 1), rank from 1 and catalogue position; ranks beyond `longest` (K) are left
    out. One entry a relevant item, each once: user and position. A user without a list has no hits. likes: mean labels of the
    users' histories, where the traits have labels.
    """
    within = ranks <= longest
    row, place, item = list_users[within], ranks[within].astype(np.int64) - 1, positions[within].astype(np.int64)
    items = len(traits.information_M)

    def placed(values_N: NDArray[np.generic]) -> NDArray[Any]:
        table = np.zeros((users, longest, *values_N.shape[1:]), values_N.dtype)
        table[row, place] = values_N
        return table

    vectors, labels = traits.vectors_MD, traits.labels_MG
    hit = np.isin(row.astype(np.int64) * items + item, truth_users.astype(np.int64) * items + truth_positions)
    return Judged(
        placed(hit),
        np.bincount(truth_users, minlength=users),
        placed(np.ones(len(item), bool)),
        placed(traits.information_M[item]),
        placed(traits.popularity_M[item]),
        np.zeros((users, 0)) if vectors is None else cosines(placed(unit_length(vectors[item]))),
        np.zeros((users, longest, 0)) if labels is None else placed(labels[item]),
        np.zeros((users, 0)) if labels is None or likes_UG is None else likes_UG,
    )


def unit_length(rows_ND: NDArray[np.floating]) -> NDArray[np.floating]:
    """Each row divided by its length; one of nothing but zeros stays."""
    lengths = np.sqrt((rows_ND * rows_ND).sum(1, keepdims=True))
    return rows_ND / np.where(lengths > 0, lengths, 1)


def cosines(units_UKD: NDArray[np.floating]) -> NDArray[np.floating]:
    """(U, K) Σ_{i<j≤r} u_i·u_j = (‖Σ_{i≤r} u_i‖² − Σ_{i≤r} ‖u_i‖²) / 2."""
    summed = np.cumsum(units_UKD, axis=1)
    return ((summed * summed).sum(2) - np.cumsum((units_UKD * units_UKD).sum(2), axis=1)) / 2


def self_information(users_having_M: Ints, users: int) -> Floats:
    """(M,) bits: -log2 of the share of users who have the item, (n + 1) / (N + 1) so that an item nobody has is finite."""
    return -np.log2((users_having_M + 1) / (users + 1))
