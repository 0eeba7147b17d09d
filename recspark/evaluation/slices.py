"""Slices within the lists of all items: cold items, users by the length of their history, items by how popular they are.

The lists stay what they are; a slice says which of the relevant items count, and with them which users: those of whom any
counts. So a user with relevant items in two deciles is judged in both, by the same list of all items.

Dimensions: T relevant items (a user and an item each), D deciles.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

# The fewest events of each class of users; a history has at least one.
HISTORIES = (1, 3, 6, 21, 101)
DECILES = 10
USER_SLICES = (
    *(f"users: {first}-{beyond - 1} events" for first, beyond in pairwise(HISTORIES)),
    f"users: more than {HISTORIES[-1] - 1} events",
)
ITEM_SLICES = tuple(f"items: decile {decile}" for decile in range(1, DECILES + 1))
WITHIN = (*USER_SLICES, *ITEM_SLICES)
COLD_AMONG_ALL = "cold_among_all"  # the relevant items are those without a train event
NEW_USERS = "new users: "  # and how many events the users nobody has learned from are folded in from


def new_users(events: int) -> str:
    """The slice of new users after so many events."""
    return f"{NEW_USERS}{events} event{'s' if events > 1 else ''}"


def decile_starts(events: Sequence[int], items: Sequence[int]) -> tuple[int, ...]:
    """(D - 1,) the fewest events of an item of deciles 1 to 9; `items` of them have so many `events`, each number once.

    Decile 1 is the most popular tenth. Items of equally many events go together into the first decile that any of them would
    be in: their order says nothing. So a decile may be larger than a tenth, and then the next ones are smaller, or empty.
    """
    order = np.argsort(events)[::-1]
    cumulated = np.cumsum(np.asarray(items)[order])
    places = [-(-int(cumulated[-1]) * decile // DECILES) for decile in range(1, DECILES)]
    return tuple(int(np.asarray(events)[order][np.searchsorted(cumulated, place)]) for place in places)


def counting(name: str, histories_T: Ints, events_T: Ints, starts: Sequence[int]) -> Bools:
    """(T,) which relevant items count in a slice of WITHIN, in COLD_AMONG_ALL or in one of new users.

    histories: events folded in of the user; events: train events of the item; starts: of `decile_starts`.
    """
    if name == COLD_AMONG_ALL:
        return events_T == 0
    if name.startswith(NEW_USERS):
        return histories_T == int(name.removeprefix(NEW_USERS).split()[0])
    if name in USER_SLICES:
        return np.searchsorted(HISTORIES, histories_T, side="right") - 1 == USER_SLICES.index(name)
    return (events_T[:, None] < np.asarray(starts)).sum(1) == ITEM_SLICES.index(name)
