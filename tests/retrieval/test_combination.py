"""Two models in one inner product, and what a choice gives, on three users and four items."""

import numpy as np
import pyarrow as pa
import pytest

from recspark.retrieval.combination import Choice, Crowd, best_of, ndcg_of, own_weight, scale_of, user_parts
from recspark.retrieval.histories import history_matrix
from recspark.retrieval.topk import Seen, exact_top_k

FACTORS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, -1.0]], np.float32)
USERS = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]], np.float32)
SIMILAR = np.array([[0, 0.5, 0.2, 0], [0.4, 0, 0.1, 0], [0.3, 0.3, 0, 0.6], [0, 0, 0.2, 0]], np.float32)
HISTORIES = pa.chunked_array([pa.array([[0, 3], [2], []], pa.list_(pa.int32()))])
NEVER = np.array([[False] * 4, [False, True, False, False], [False] * 4])  # the second user's item 1 is masked
AFTER = (  # a sequence model's
    np.array([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 0.0]], np.float32),
    np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0, 0.8]], np.float32),
)
PARTS = {"factors": (USERS, FACTORS), "sequence": AFTER}
POPULAR = np.array([3, 1, 0, 2], np.float32)
WANTED = [np.array([1, 2]), np.array([3]), np.array([0])]


def crowd() -> Crowd:
    seen = history_matrix(HISTORIES, 4).toarray() > 0
    return Crowd(PARTS, {None: POPULAR, 7.0: POPULAR**2}, HISTORIES, WANTED, seen, NEVER)


@pytest.mark.parametrize(
    ("again", "barred"),
    [
        ("nothing", [[True, False, False, True], [False, True, True, False], [False] * 4]),
        ("newest", [[False, False, False, True], [False, True, False, False], [False] * 4]),
        ("all", [[False] * 4, [False, True, False, False], [False] * 4]),
    ],
)
@pytest.mark.parametrize("repeat", [0.0, 0.5])
def test_what_is_chosen_on_is_what_the_vectors_then_say(again: str, barred: list[list[bool]], repeat: float):
    choice = Choice(share=0.4, decay=0.5, again=again, repeat=repeat, sequence=0.3, popularity=0.2, half_life_days=7.0)
    parts = {**PARTS, "popularity": (np.ones((3, 1), np.float32), POPULAR[:, None] ** 2)}
    left, right = user_parts(parts, history_matrix(HISTORIES, 4, 0.5), SIMILAR, choice)
    listed = SIMILAR.copy()
    if repeat:
        np.fill_diagonal(listed, repeat * own_weight(SIMILAR))
    scores = np.hstack([left, right.toarray()]) @ np.hstack([FACTORS, AFTER[1], POPULAR[:, None] ** 2, listed.T]).T
    scores[np.array(barred)] = -np.inf
    np.testing.assert_allclose(
        crowd().ndcg(choice, SIMILAR, own_weight(SIMILAR), 2), ndcg_of(scores, WANTED, 2), atol=1e-6
    )


def test_each_model_counts_by_its_share_whatever_its_numbers_are():
    had = history_matrix(HISTORIES, 4)
    left, right = user_parts(PARTS, had, 1000 * SIMILAR, Choice(share=0.25, sequence=0.2))
    np.testing.assert_allclose((left[:, :2] @ FACTORS.T).std(1), [0.6, 0, 0.6], atol=1e-6)  # the second's are all alike
    np.testing.assert_allclose((left[:, 2:] @ AFTER[1].T).std(1), [0.2, 0.2, 0], atol=1e-6)  # the third has no history
    np.testing.assert_allclose((right @ (1000 * SIMILAR)).std(1), [0.2, 0.2, 0], atol=1e-6)
    two, _ = user_parts({"factors": (USERS, FACTORS)}, had, SIMILAR, Choice(share=0.25))
    np.testing.assert_allclose((two @ FACTORS.T).std(1), [0.75, 0, 0.75], atol=1e-6)


def test_scores_that_are_all_alike_weigh_nothing():
    np.testing.assert_array_equal(scale_of(np.array([[2.0, 2.0], [1.0, 3.0]])), [0, 1])
    last_bit = np.nextafter(np.float32(0.7), np.float32(1))
    np.testing.assert_array_equal(scale_of(np.array([[0.7, last_bit]], np.float32)), [0])


def test_ndcg_counts_hits_by_place_and_nothing_that_cannot_be_listed():
    scores = np.array([[0.1, 0.9, 0.5, 0.0], [0.3, -np.inf, 0.2, 0.1]])
    found = ndcg_of(scores, [np.array([2, 3]), np.array([1])], 3)
    second = 1 / np.log2(3)
    np.testing.assert_allclose(found, [second / (1 + second), 0])
    np.testing.assert_allclose(ndcg_of(scores, [np.array([2]), np.array([0])], 9), [second, 1])


def test_equal_scores_count_in_the_order_of_the_lists():
    draw = np.random.default_rng(4)
    scores = draw.integers(0, 3, (30, 50)).astype(np.float32)
    ones = np.ones((30, 1), np.float32)
    for user in range(30):
        lists = exact_top_k(
            ones[:1], scores[user][:, None].copy(), Seen(np.zeros(2, np.int64), np.zeros(0, np.int64)), 10
        )
        assert best_of(scores[user : user + 1], 10)[0].tolist() == lists.positions[0].tolist()
    tied = np.zeros((1, 1000), np.float32)
    tied[0, [7, 500]] = 2, 1
    assert best_of(tied, 5).tolist() == [[7, 500, 0, 1, 2]]


def test_the_unit_of_repeat_is_the_mean_of_the_columns_largest():
    assert own_weight(SIMILAR) == pytest.approx((0.4 + 0.5 + 0.2 + 0.6) / 4)
    assert own_weight(np.zeros((2, 2), np.float32)) == 1
