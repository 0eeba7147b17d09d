"""Metrics on lists a child can check, and against ir_measures, an independent library."""

from math import log2

import ir_measures as ir
import numpy as np
import pytest

from recspark.evaluation import metrics as m
from recspark.evaluation.judged import Judged, Traits, judge, self_information

# Item i tells i bits, and i of ten users have it; what its text says turns a right angle from each to the next but one.
TEXTS = np.array([[3, 0], [3, 3], [0, 2], [-1, 1], [-4, 0]] * 2)
TRAITS = Traits(np.arange(10.0), np.arange(10) / 10, TEXTS)


def one_user(listed: list[int], relevant: list[int], longest: int = 10) -> Judged:
    n, t = len(listed), len(relevant)
    return judge(
        np.zeros(n, int),
        np.arange(1, n + 1),
        np.array(listed),
        np.zeros(t, int),
        np.array(relevant),
        1,
        longest,
        TRAITS,
    )


# Listed 4, 2, 7, 1; relevant 2, 1, 9: hits at ranks 2 and 4, and one relevant item that was not found.
FOUND_SECOND_AND_FOURTH = one_user([4, 2, 7, 1], [2, 1, 9])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        ("recall", 2, 1 / 3),
        ("recall", 4, 2 / 3),
        ("precision", 2, 1 / 2),
        ("precision", 10, 2 / 10),
        ("hit_rate", 1, 0),
        ("hit_rate", 2, 1),
        ("mrr", 1, 0),
        ("mrr", 4, 1 / 2),
        ("ndcg", 2, (1 / log2(3)) / (1 + 1 / log2(3))),
        ("ndcg", 4, (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4))),
        ("map", 4, (1 / 2 + 2 / 4) / 3),
        ("map", 2, (1 / 2) / 3),
        ("map_min", 2, (1 / 2) / 2),
        ("map_min", 4, (1 / 2 + 2 / 4) / 3),
        ("novelty", 2, (4 + 2) / 2),
        ("novelty", 10, (4 + 2 + 7 + 1) / 4),
        ("popularity", 2, (0.4 + 0.2) / 2),
        ("popularity", 10, (0.4 + 0.2 + 0.7 + 0.1) / 4),
        ("diversity", 1, 0),
        ("diversity", 2, 1),
        ("diversity", 3, 1 - (0 + 0 + 1) / 3),
        ("diversity", 10, 1 - (0 + 0 + 1 - 1 / 2**0.5 + 1 / 2**0.5 + 1 / 2**0.5) / 6),
    ],
)
def test_hits_at_the_second_and_fourth_of_three(metric, k, expected):
    assert m.METRICS[metric](FOUND_SECOND_AND_FOURTH, k).tolist() == pytest.approx([expected])


def test_equal_texts_have_no_diversity_opposite_ones_two_and_one_without_a_word_is_like_none():
    assert m.diversity(one_user([0, 5], [0]), 2).tolist() == [0]
    assert m.diversity(one_user([0, 4], [0]), 2) == pytest.approx([2])
    silent = Traits(np.zeros(2), np.zeros(2), np.array([[0, 0], [3, 4]]))
    both = judge(np.zeros(2, int), np.array([1, 2]), np.arange(2), np.array([0]), np.array([0]), 1, 2, silent)
    assert m.diversity(both, 2).tolist() == [1]


def test_diversity_is_one_less_the_mean_cosine_of_plain_loops():
    rng = np.random.default_rng(8)
    vectors, listed = rng.normal(size=(30, 5)), rng.permutation(30)[:12]
    users = np.zeros(12, int)
    judged = judge(
        users, np.arange(1, 13), listed, users[:1], listed[:1], 1, 12, Traits(np.zeros(30), np.zeros(30), vectors)
    )
    for k in (2, 7, 12):
        chosen = [vectors[i] / np.linalg.norm(vectors[i]) for i in listed[:k]]
        mean = np.mean([chosen[i] @ chosen[j] for i in range(k) for j in range(i)])
        assert m.diversity(judged, k) == pytest.approx([1 - mean], abs=1e-6)


def mixed(likes: list[float], *listed: list[float]) -> Judged:
    """A user's likes, and the labels of the items listed."""
    n, labels = len(listed), np.array(listed).reshape(len(listed), len(likes))
    traits = Traits(np.zeros(n), np.zeros(n), labels_MG=labels)
    return judge(
        np.zeros(n, int),
        np.arange(1, n + 1),
        np.arange(n),
        np.array([0]),
        np.array([0]),
        1,
        9,
        traits,
        np.array([likes]),
    )


def test_a_list_of_the_historys_mix_is_calibrated_and_one_that_has_nothing_of_it_is_off_by_log_100():
    half = [0.5, 0.5]
    assert m.miscalibration(mixed(half, [1, 0], [0.5, 0.5], [0, 1]), 9) == pytest.approx([0], abs=1e-12)
    assert m.miscalibration(mixed(half, [1, 0], [0, 1], [0, 1]), 2) == pytest.approx([0], abs=1e-12)  # the first two
    assert m.miscalibration(mixed([1, 0], [0, 1]), 9) == pytest.approx([np.log(100)])
    assert m.miscalibration(mixed([1, 0], [0, 0]), 9) == pytest.approx([np.log(100)])  # no item has a label


def test_a_list_of_one_half_of_the_mix_alone():
    """p = (1/2, 1/2), q = (1, 0), so q̃ = (.995, .005)."""
    off = 0.5 * np.log(0.5 / 0.995) + 0.5 * np.log(0.5 / 0.005)
    assert m.miscalibration(mixed([0.5, 0.5], [1, 0], [0, 0]), 9) == pytest.approx([off])


def test_where_the_history_has_no_label_nothing_is_off():
    assert m.miscalibration(mixed([0, 0], [1, 0]), 9).tolist() == [0]


@pytest.mark.parametrize("metric", ["recall", "ndcg", "map", "map_min", "mrr", "hit_rate", "precision"])
def test_a_perfect_list_of_two_scores_one(metric):
    assert m.METRICS[metric](one_user([3, 5], [5, 3]), 2).tolist() == [1.0]


@pytest.mark.parametrize("metric", m.METRICS)
def test_no_list_scores_zero(metric):
    assert m.METRICS[metric](one_user([], [5]), 10).tolist() == [0.0]


def test_one_more_relevant_than_k_leaves_recall_below_one_and_ndcg_at_one():
    judged = one_user([1, 2], [1, 2, 3])
    assert m.recall(judged, 2).tolist() == [2 / 3]
    assert m.ndcg(judged, 2).tolist() == [1.0]
    assert m.average_precision(judged, 2).tolist() == [2 / 3]


def test_entries_are_told_apart_by_user_and_beyond_the_longest_are_left_out():
    judged = judge(
        np.array([1, 0, 0]), np.array([1, 1, 3]), np.array([4, 5, 4]), np.array([0, 1]), np.array([4, 4]), 2, 2, TRAITS
    )
    assert judged.hits.tolist() == [[False, False], [True, False]]
    assert judged.listed.tolist() == [[True, False], [True, False]]


def test_an_item_that_one_of_three_users_has_tells_one_bit():
    assert self_information(np.array([1, 3, 0]), 3).tolist() == [1.0, 0.0, 2.0]


def test_three_of_four_items_shown_cover_three_quarters():
    assert m.coverage(3, 4) == 0.75


def random_lists(users: int = 60, items: int = 80, longest: int = 20):
    rng = np.random.default_rng(4)
    lists = [rng.permutation(items)[: rng.integers(1, longest + 1)] for _ in range(users)]
    truth = [rng.permutation(items)[: rng.integers(1, 30)] for _ in range(users)]
    return lists, truth, items, longest


def judged_of(lists, truth, items, longest) -> Judged:
    list_users = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
    ranks = np.concatenate([np.arange(1, len(x) + 1) for x in lists])
    truth_users = np.repeat(np.arange(len(truth)), [len(x) for x in truth])
    return judge(
        list_users,
        ranks,
        np.concatenate(lists),
        truth_users,
        np.concatenate(truth),
        len(lists),
        longest,
        Traits(np.zeros(items), np.zeros(items)),
    )


@pytest.mark.parametrize("k", [1, 5, 20])
def test_ir_measures_agrees_user_by_user(k):
    lists, truth, items, longest = random_lists()
    qrels = [ir.Qrel(f"{u:02}", str(i), 1) for u, row in enumerate(truth) for i in row]
    run = [ir.ScoredDoc(f"{u:02}", str(i), -float(place)) for u, row in enumerate(lists) for place, i in enumerate(row)]
    theirs = {
        "recall": ir.R @ k,
        "precision": ir.P @ k,
        "hit_rate": ir.Success @ k,
        "mrr": ir.RR @ k,
        "ndcg": ir.nDCG @ k,
        "map": ir.AP @ k,
    }
    found = {(v.query_id, v.measure): v.value for v in ir.iter_calc(theirs.values(), qrels, run)}
    judged = judged_of(lists, truth, items, longest)
    for ours, measure in theirs.items():
        expected = [found[f"{u:02}", measure] for u in range(len(lists))]
        np.testing.assert_allclose(m.METRICS[ours](judged, k), expected, atol=1e-9, err_msg=ours)


def test_the_protocols_scorer_agrees():
    """Its definitions in plain loops: precision = hits / k, recall = hits / n, MAP = Σ precision at hits / n, binary nDCG."""
    lists, truth, items, longest = random_lists()
    k, rows = 10, []
    for listed, relevant in zip(lists, truth, strict=True):
        n, hits, average, dcg = len(relevant), 0, 0.0, 0.0
        for rank, item in enumerate(listed[:k], start=1):
            if item in relevant:
                hits += 1
                average += hits / rank
                dcg += 1 / log2(rank + 1)
        ideal = sum(1 / log2(r + 1) for r in range(1, min(n, k) + 1))
        rows.append((hits / k, hits / n, average / n, dcg / ideal))
    judged = judged_of(lists, truth, items, longest)
    ours = np.stack([f(judged, k) for f in (m.precision, m.recall, m.average_precision, m.ndcg)], axis=1)
    np.testing.assert_allclose(ours, rows, atol=1e-12)
