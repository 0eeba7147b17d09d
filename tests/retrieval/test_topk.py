"""The exact top-K against a few lines of numpy that anyone can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from recspark.retrieval.topk import STEP, Seen, Words, exact_top_k, tile_shape

TINY = 1  # bytes: the smallest tiles there are, of 8 users x 256 items


def seen_of(rows: list[list[int]]) -> Seen:
    indptr = np.cumsum([0, *map(len, rows)])
    return Seen(indptr, np.array([i for row in rows for i in row], np.int32))


def brute_force(users, items, seen_rows, top_k, allowed=None):
    """Positions a user by (score descending, position ascending), -1 where the list ends."""
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    lists = np.full((len(users), top_k), -1)
    for user, row in enumerate(scores):
        open_items = [i for i in (range(len(items)) if allowed is None else allowed) if i not in seen_rows[user]]
        best = sorted(open_items, key=lambda i: (-row[i], i))[:top_k]
        lists[user, : len(best)] = best
    return lists


@st.composite
def worlds(draw):
    """Small whole numbers: inner products are exact, and ties are everywhere."""
    users, items, size = draw(st.integers(1, 20)), draw(st.integers(1, 600)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    largest = draw(st.sampled_from([0, 1, 3, 100]))
    matrices = [rng.integers(-largest, largest + 1, (n, size)).astype(np.float32) for n in (users, items)]
    shares = rng.random(users) ** 3 * draw(st.sampled_from([0, 0.1, 1.1]))
    seen = [np.flatnonzero(rng.random(items) < share).tolist() for share in shares]
    allowed = None if draw(st.booleans()) else np.flatnonzero(rng.random(items) < 0.5)
    return *matrices, seen, draw(st.integers(1, 40)), allowed, draw(st.sampled_from([TINY, 2**26]))


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_agrees_with_sorting_everything(world):
    users, items, seen, top_k, allowed, memory = world
    lists = exact_top_k(users, items, seen_of(seen), top_k, allowed, memory)
    np.testing.assert_array_equal(lists.positions, brute_force(users, items, seen, top_k, allowed))
    found = lists.positions >= 0
    rows = np.nonzero(found)[0]
    np.testing.assert_array_equal(
        lists.scores[found], np.einsum("nd,nd->n", users[rows], items[lists.positions[found]])
    )
    assert (lists.scores[~found] == -np.inf).all()


def test_random_floats_agree_with_sorting_everything():
    rng = np.random.default_rng(1)
    users, items = rng.standard_normal((300, 64), np.float32), rng.standard_normal((3000, 64), np.float32)
    seen = [rng.choice(3000, 50, replace=False).tolist() for _ in range(300)]
    lists = exact_top_k(users, items, seen_of(seen), 100, memory_bytes=TINY)
    np.testing.assert_array_equal(lists.positions, brute_force(users, items, seen, 100))
    np.testing.assert_allclose(lists.scores, np.einsum("ud,ukd->uk", users, items[lists.positions]), rtol=0, atol=1e-4)


def test_a_tie_at_the_last_place_goes_to_the_lowest_position_whatever_the_tile():
    items = np.ones((1000, 1), np.float32)
    items[[999, 700]] = 2
    for memory in (TINY, 2**26):
        lists = exact_top_k(np.ones((1, 1), np.float32), items, None, 5, memory_bytes=memory)
        assert lists.positions.tolist() == [[700, 999, 0, 1, 2]]


def test_minus_zero_ties_with_zero():
    lists = exact_top_k(np.array([[0.0]], np.float32), np.array([[-1.0], [1.0], [-1.0]], np.float32), None, 3)
    assert lists.positions.tolist() == [[0, 1, 2]]
    assert not np.signbit(lists.scores).any()


def test_a_user_who_has_seen_everything_gets_nothing():
    users, items = np.ones((2, 3), np.float32), np.ones((40, 3), np.float32)
    lists = exact_top_k(users, items, seen_of([list(range(40)), []]), 4)
    assert lists.positions.tolist() == [[-1] * 4, [0, 1, 2, 3]]


def test_a_list_is_full_although_the_best_15000_are_seen():
    items = np.arange(20000, 0, -1, dtype=np.float32)[:, None]
    lists = exact_top_k(np.ones((1, 1), np.float32), items, seen_of([list(range(15000))]), 100)
    assert lists.positions.tolist() == [list(range(15000, 15100))]


def test_one_allowed_item_left_makes_a_list_of_one():
    users, items = np.ones((1, 2), np.float32), np.ones((300, 2), np.float32)
    lists = exact_top_k(users, items, seen_of([[7, 7, 250]]), 3, np.array([7, 250, 299]))
    assert lists.positions.tolist() == [[299, -1, -1]]


def test_nothing_allowed_and_nobody_asking():
    users, items = np.ones((2, 2), np.float32), np.ones((5, 2), np.float32)
    assert exact_top_k(users, items, None, 2, np.array([], np.int64)).positions.tolist() == [[-1, -1]] * 2
    assert exact_top_k(users[:0], items, None, 2).positions.shape == (0, 2)


@pytest.mark.parametrize("memory", [TINY, 2**22, 2**26])
def test_a_users_list_has_the_same_bits_in_any_company(memory):
    rng = np.random.default_rng(2)
    users, items = rng.standard_normal((500, 50), np.float32), rng.standard_normal((2500, 50), np.float32)
    together = exact_top_k(users, items, None, 20, memory_bytes=memory)
    order = rng.permutation(500)
    shuffled = exact_top_k(users[order], items, None, 20, memory_bytes=memory)
    alone = [exact_top_k(users[[u]], items, None, 20, memory_bytes=memory) for u in range(0, 500, 50)]
    assert together.scores[order].tobytes() == shuffled.scores.tobytes()
    assert together.positions[order].tobytes() == shuffled.positions.tobytes()
    assert together.scores[::50].tobytes() == b"".join(a.scores.tobytes() for a in alone)


def test_equal_items_tie_to_the_bit_wherever_they_stand():
    rng = np.random.default_rng(3)
    users, item = rng.standard_normal((200, 37), np.float32), rng.standard_normal((1, 37), np.float32)
    lists = exact_top_k(users, np.repeat(item, 777, axis=0), None, 777, memory_bytes=TINY)
    np.testing.assert_array_equal(lists.positions, np.tile(np.arange(777), (200, 1)))


def test_a_read_only_map_of_the_items_will_do(tmp_path):
    np.save(tmp_path / "items.npy", np.eye(4, dtype=np.float32))
    lists = exact_top_k(np.array([[1, 3, 2, 4]], np.float32), np.load(tmp_path / "items.npy", mmap_mode="r"), None, 4)
    assert lists.positions.tolist() == [[3, 1, 2, 0]]


@given(st.integers(1, 10**7), st.integers(1, 512), st.integers(1, 2000), st.integers(1, 2**28))
def test_tiles_keep_to_the_budget_and_cover_the_items_evenly(items, size, top_k, memory):
    rows, width = tile_shape(items, size, top_k, memory)
    assert 8 <= rows <= 128
    assert width % STEP == 0
    assert width == STEP or rows * width * 4 + width * size * 4 <= memory
    assert -(-items // width) * width - items < STEP * -(-items // width)


@pytest.mark.parametrize("memory", [TINY, 2**26])
@pytest.mark.parametrize("allowed", [None, np.arange(3, 700, 2)])
@pytest.mark.parametrize("laid_out", [csr_matrix, np.asarray])
@pytest.mark.parametrize("size", [3, 0])
def test_words_are_added_to_the_scores_whatever_the_tile(memory, allowed, laid_out, size):
    """Whole numbers: sums are exact, and one product over both vectors side by side is the truth."""
    rng = np.random.default_rng(7)
    users, items = (rng.integers(-2, 3, (n, size)).astype(np.float32) for n in (20, 700))
    user_words, item_words = (
        rng.integers(1, 4, (n, 9)).astype(np.float32) * (rng.random((n, 9)) < 0.2) for n in (20, 700)
    )
    words = Words(csr_matrix(user_words), laid_out(item_words))
    seen = [rng.choice(700, 5).tolist() for _ in users]
    lists = exact_top_k(users, items, seen_of(seen), 12, allowed, memory, words=words)
    both = brute_force(np.hstack([users, user_words]), np.hstack([items, item_words]), seen, 12, allowed)
    np.testing.assert_array_equal(lists.positions, both)
