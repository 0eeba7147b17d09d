"""Every feature of a list of three, worked out by hand."""

import numpy as np
import pytest

from recspark.retrieval.features import FEATURES, Items, Question, features_of

# Four items. Texts less their centre: right, up, left, nothing. From item 3 comes item 1 (.25), from item 0 item 1 (.64).
ITEMS = Items(
    prior_MD=np.array([[1.0, 0], [0, 1], [2, 2], [0, 0]]),
    text_MT=np.array([[3.0, 1], [1, 2], [0, 1], [1, 1]]),
    centre_T=np.array([1.0, 1]),
    popularity_M=np.array([7, 0, 1, 3]),
    latest_M=np.array([5.0, 5, 5, 5]),
    neighbours=(np.array([0, 1, 1, 1, 2]), np.array([1, 1], np.int32), np.array([0.64, 0.25], np.float32)),
)


def question(history):
    return Question(np.array([1.0, 0]), np.array(history, int), np.array([2, 0, 1]), np.array([3.0, 2, 1]), ITEMS)


def column(name, history=(0, 3)):
    return features_of(question(history))[:, list(FEATURES).index(name)]


Z = np.sqrt(1.5)  # of 3, 2, 1: 1 / sqrt(2/3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retriever", [Z, 0, -Z]),
        ("rank", [0, -np.log(2), -np.log(3)]),
        ("text_prior", [Z, 0, -Z]),  # 2, 1, 0
        ("text_newest", [-Z, Z, 0]),  # cosines with the text that points right: -1, 1, 0
        ("text_history", [-Z, Z, 0]),  # item 3's text is the centre and adds nothing
        ("cooccurrence_newest", [0, 0, 0.8]),
        ("cooccurrence_history", [0, 0, np.sqrt(0.64 + 0.25 / 2)]),
        ("popularity", [np.log(2), np.log(8), 0]),
        ("warm", [1, 1, 0]),
        ("recency", [0, 0, 0]),
    ],
)
def test_feature(name, expected):
    assert column(name) == pytest.approx(expected, abs=1e-6)


def test_the_newest_event_counts_twice_the_one_before():
    assert column("cooccurrence_history", (3, 0))[2] == pytest.approx(np.sqrt(0.25 + 0.64 / 2))


def test_without_a_history_all_that_is_told_of_it_is_0():
    told = [n for n in FEATURES if "newest" in n or "history" in n]
    assert len(told) == 4
    assert all((column(name, ()) == 0).all() for name in told)
