"""The approximate top-K: exact in the lists it looks into, and never short while there are items left."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recspark.retrieval.probe import (
    Centroids,
    ListedItems,
    Pairs,
    find_centroids,
    nearest_lists,
    places_of,
    probed_pairs,
    probed_top_k,
    tiles_of,
)
from recspark.retrieval.topk import exact_top_k
from tests.retrieval.test_topk import TINY, brute_force, seen_of


def listed(items, which, lists, within=None) -> ListedItems:
    """The items list by list; within: positions of a shard."""
    here = np.arange(len(items)) if within is None else np.asarray(within, np.int64)
    order = here[np.argsort(which[here], kind="stable")]
    sizes = np.bincount(which[here], minlength=lists)
    return ListedItems(items[order], order.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)]))


def near(centroids, which, probes, spreads=None) -> Centroids:
    spreads = np.zeros(len(centroids), np.float32) if spreads is None else spreads
    return Centroids(centroids, spreads, np.bincount(which, minlength=len(centroids)), probes)


@st.composite
def worlds(draw):
    """Small whole numbers, so that products are exact and ties are everywhere; items fall into any lists, some of them empty."""
    users, items, size, lists = (draw(st.integers(1, most)) for most in (20, 300, 4, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sides = [rng.integers(-3, 4, (n, size)).astype(np.float32) for n in (users, items, lists)]
    shares = rng.random(users) ** 3 * draw(st.sampled_from([0, 0.1, 1.1]))
    seen = [np.flatnonzero(rng.random(items) < share).tolist() for share in shares]
    which = rng.integers(0, lists, items)
    return *sides, which, seen, draw(st.integers(1, 40)), draw(st.integers(1, 14)), draw(st.sampled_from([TINY, 2**26]))


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_lists_are_the_best_of_the_lists_probed_and_as_long_as_they_can_be(world):
    users, items, centroids, which, seen, top_k, probes, memory = world
    sides = near(centroids, which, probes)
    lists = probed_top_k(users, listed(items, which, len(centroids)), sides, seen_of(seen), top_k, memory)
    whole = brute_force(users, items, seen, top_k)
    assert ((lists.positions >= 0).sum(1) == (whole >= 0).sum(1)).all()
    pairs, sizes = probed_pairs(users, sides, seen_of(seen), top_k), sides.sizes
    for user, scores in enumerate(users @ centroids.T):
        probed = pairs.lists[pairs.users == user]
        others = np.setdiff1d(np.arange(len(centroids)), probed)
        assert len(others) == 0 or scores[probed].min() >= scores[others].max()
        enough = len(probed) >= probes and sizes[probed].sum() >= top_k + len(seen[user])
        assert enough or len(others) == 0
        allowed = np.flatnonzero(np.isin(which, probed))
        np.testing.assert_array_equal(
            lists.positions[user], brute_force(users[[user]], items, [seen[user]], top_k, allowed)[0]
        )


@settings(max_examples=50, deadline=None)
@given(worlds(), st.integers(1, 4))
def test_the_best_of_all_shards_are_those_of_the_whole(world, shards):
    users, items, centroids, which, seen, top_k, probes, memory = world
    sides = near(centroids, which, probes)
    whole = probed_top_k(users, listed(items, which, len(centroids)), sides, seen_of(seen), top_k, memory)
    parts = [
        probed_top_k(
            users,
            listed(items, which, len(centroids), np.flatnonzero(which % shards == shard)),
            sides,
            seen_of(seen),
            top_k,
            memory,
        )
        for shard in range(shards)
    ]
    scores, positions = (np.concatenate([getattr(p, name) for p in parts], 1) for name in ("scores", "positions"))
    order = np.lexsort((positions, -scores))[:, :top_k]
    np.testing.assert_array_equal(np.take_along_axis(positions, order, 1), whole.positions)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50)), min_size=1, max_size=8), st.integers(1, 300))
def test_tiles_have_every_pair_of_a_filled_list_once_and_no_more_scores_than_allowed(shape, most):
    """shape: of each list how many items it has, and how many users probe it."""
    sizes, users = (np.array(part) for part in zip(*shape, strict=True))
    pairs = Pairs(np.zeros(users.sum(), np.int64), np.repeat(np.arange(len(sizes)), users), np.zeros(users.sum(), bool))
    items = ListedItems(np.zeros((0, 1), np.float32), np.zeros(0, np.int32), np.concatenate([[0], np.cumsum(sizes)]))
    done = []
    for which, begin, end, size in tiles_of(pairs, items, most).rows():
        assert (pairs.lists[begin:end] == which).all()
        assert size == sizes[which]
        assert (end - begin) * size <= most or end - begin == 1
        done += range(begin, end)
    assert done == np.flatnonzero(sizes[pairs.lists] > 0).tolist()


def test_every_list_probed_is_the_exact_answer():
    rng = np.random.default_rng(3)
    users, items = rng.standard_normal((300, 16), np.float32), rng.standard_normal((3000, 16), np.float32)
    centroids = find_centroids(items, 50, 5, seed=1)
    which = nearest_lists(items, centroids)
    seen = seen_of([rng.choice(3000, 30, replace=False).tolist() for _ in range(300)])
    found = probed_top_k(users, listed(items, which, 50), near(centroids, which, 50), seen, 20)
    exact = exact_top_k(users, items, seen, 20)
    np.testing.assert_array_equal(found.positions, exact.positions)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=0, atol=1e-5)


def test_more_lists_hold_more_of_the_exact_answer_and_the_spread_counts():
    """Two lists with one centroid: the one whose items lie farther from it comes first."""
    items = np.array([[1, 0.1], [1, -0.1], [1, 5], [1, -5], [-9, 0]], np.float32)
    centroids, which = np.array([[1, 0], [1, 0], [-9, 0]], np.float32), np.array([0, 0, 1, 1, 2])
    users = np.array([[0, 1]], np.float32)
    for spreads, first in ([0.1, 5, 0], 2), ([5, 0.1, 0], 0):
        sides = near(centroids, which, 1, np.array(spreads, np.float32))
        assert probed_top_k(users, listed(items, which, 3), sides, None, 1).positions.tolist() == [[first]]


def test_the_place_of_a_list_is_how_many_come_before_it():
    rng = np.random.default_rng(6)
    users, centroids = rng.standard_normal((600, 8), np.float32), rng.standard_normal((30, 8), np.float32)
    sides = near(centroids, np.arange(30), 1, rng.random(30, np.float32))
    scores = users @ centroids.T + np.linalg.norm(users, axis=1, keepdims=True) * sides.spreads
    asked_users, asked_lists = np.array([0, 0, 255, 256, 599]), np.array([3, 29, 0, 7, 7])
    expected = [(scores[u] > scores[u, which]).sum() for u, which in zip(asked_users, asked_lists, strict=True)]
    assert places_of(users, sides, asked_users, asked_lists).tolist() == expected


def test_a_vector_goes_to_the_nearest_centroid_whoever_stands_beside_it():
    rng = np.random.default_rng(4)
    vectors, centroids = rng.standard_normal((700, 8), np.float32), rng.standard_normal((40, 8), np.float32)
    found = nearest_lists(vectors, centroids)
    distances = ((vectors[:, None].astype(np.float64) - centroids[None]) ** 2).sum(2)
    assert (np.take_along_axis(distances, found[:, None], 1)[:, 0] <= distances.min(1) + 1e-5).all()
    np.testing.assert_array_equal(nearest_lists(vectors[100:], centroids), found[100:])


def test_there_are_no_more_centroids_than_vectors_that_differ():
    sample = np.repeat(np.eye(3, dtype=np.float32), 10, 0)
    assert np.unique(find_centroids(sample, 8, 5, seed=0), axis=0).shape == (3, 3)


@pytest.mark.parametrize("seen", [None, seen_of([])])
def test_nobody_gets_nothing(seen):
    items, which = np.ones((4, 2), np.float32), np.zeros(4, np.int64)
    found = probed_top_k(np.zeros((0, 2), np.float32), listed(items, which, 1), near(items[:1], which, 1), seen, 3)
    assert found.positions.shape == (0, 3)
