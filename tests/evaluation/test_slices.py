"""Which users are of which class, and which items of which decile, on numbers a child can sort."""

import numpy as np
import pytest

from recspark.evaluation.slices import (
    COLD_AMONG_ALL,
    ITEM_SLICES,
    USER_SLICES,
    WITHIN,
    counting,
    decile_starts,
    new_users,
)


def deciles(events: list[int]) -> list[int]:
    """The decile of each item."""
    starts = decile_starts(*np.unique(events, return_counts=True))
    masks = [counting(name, np.ones(len(events), int), np.array(events), starts) for name in ITEM_SLICES]
    assert (np.sum(masks, axis=0) == 1).all()
    return (np.argmax(masks, axis=0) + 1).tolist()


def test_every_user_is_of_the_class_of_the_history():
    histories = np.array([1, 2, 3, 5, 6, 20, 21, 100, 101, 5000])
    masks = [counting(name, histories, histories, (0,) * 9) for name in USER_SLICES]
    assert np.argmax(masks, axis=0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert np.sum(masks, axis=0).tolist() == [1] * 10
    assert USER_SLICES[0] == "users: 1-2 events"
    assert USER_SLICES[3:] == ("users: 21-100 events", "users: more than 100 events")


def test_of_twenty_items_two_are_in_each_decile_the_most_popular_in_the_first():
    assert deciles(list(range(20))) == [10 - n // 2 for n in range(20)]


def test_of_five_items_each_has_a_decile_of_its_own():
    assert deciles([50, 40, 30, 20, 10]) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([9, 8, 7, 0, 0, 0, 0, 0, 0, 0], [1, 2, 3] + [4] * 7),  # as many as nobody has met: from the fourth on
        ([5, 5, 5, 5, 1, 1, 1, 0, 0, 0], [1] * 4 + [5] * 3 + [8] * 3),
        ([3] * 10, [1] * 10),
    ],
)
def test_items_of_equally_many_events_stay_together_in_the_first_decile_of_any(events, expected):
    assert deciles(events) == expected


def test_cold_among_all_counts_the_items_of_no_train_event_and_a_slice_of_new_users_those_after_so_many_events():
    histories, events = np.array([1, 3, 10, 1]), np.array([0, 4, 0, 2])
    assert counting(COLD_AMONG_ALL, histories, events, ()).tolist() == [True, False, True, False]
    assert [new_users(n) for n in (1, 3)] == ["new users: 1 event", "new users: 3 events"]
    assert counting(new_users(1), histories, events, ()).tolist() == [True, False, False, True]
    assert counting(new_users(10), histories, events, ()).tolist() == [False, False, True, False]


def test_names_are_different():
    assert len(set(WITHIN)) == 15
