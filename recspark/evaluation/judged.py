"""Lists set beside the truth: what every metric looks at.

Dimensions: U users who have something relevant, K places in a list, M items of the catalogue.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Lists of U users and what was relevant.

    hits: (U, K) whether the item at a place (rank - 1) is relevant; relevant: (U,) number of the user's relevant items, at
    least 1; listed: (U, K) whether there is an item at all; information: (U, K) bits its showing tells, 0 where none.
    """

    hits: NDArray[np.bool_]
    relevant: NDArray[np.int64]
    listed: NDArray[np.bool_]
    information: Floats

    def choose(self, users: NDArray[np.bool_]) -> "Judged":
        """The same of some users."""
        return Judged(self.hits[users], self.relevant[users], self.listed[users], self.information[users])


def judge(
    list_users: Ints,
    ranks: Ints,
    positions: Ints,
    truth_users: Ints,
    truth_positions: Ints,
    users: int,
    longest: int,
    information_M: Floats,
) -> Judged:
    """Set lists beside the truth.

    One entry a listed item: its user (0 to U - 1), rank from 1 and catalogue position; ranks beyond `longest` (K) are left
    out. One entry a relevant item, each once: user and position. A user without a list has no hits.
    """
    within = ranks <= longest
    row, place, item = list_users[within], ranks[within].astype(np.int64) - 1, positions[within].astype(np.int64)
    items = len(information_M)
    hits, listed = np.zeros((users, longest), bool), np.zeros((users, longest), bool)
    information = np.zeros((users, longest))
    hits[row, place] = np.isin(
        row.astype(np.int64) * items + item, truth_users.astype(np.int64) * items + truth_positions
    )
    listed[row, place] = True
    information[row, place] = information_M[item]
    return Judged(hits, np.bincount(truth_users, minlength=users), listed, information)


def self_information(users_having_M: Ints, users: int) -> Floats:
    """(M,) bits: -log2 of the share of users who have the item, (n + 1) / (N + 1) so that an item nobody has is finite."""
    return -np.log2((users_having_M + 1) / (users + 1))
