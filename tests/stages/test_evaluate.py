"""The metrics of a whole lake against plain loops, and who is judged on what."""

from math import log, log2
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from recspark.data.sources import Source
from recspark.errors import UserError
from recspark.evaluation.baselines import Als, Popularity
from recspark.evaluation.slices import COLD_AMONG_ALL, ITEM_SLICES, USER_SLICES
from recspark.stages import candidates, evaluate
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.tables import CANDIDATES, COMPARISONS, ITEMS, LEAKAGE, METRICS, RERANKED
from tests.judged_world import FOLDED, KS, comparisons, expected, fold_by_sum, make_world, run
from tests.table_rows import write
from tests.vector_world import new_lake, settings, write_world

pytestmark = pytest.mark.slow  # all of them together; begun early


def test_every_model_and_slice_agrees_with_plain_loops(spark, tmp_path, monkeypatch):
    users, items, after, before, events = make_world()
    write_world(lake := new_lake(tmp_path), users, items, events, priors=after, priors_before=before)
    fold_by_sum(monkeypatch, users, 3)
    found = run(spark, lake, users_per_block=9)

    history = {u: {i for v, i, s in events if v == u and s in FOLDED} for u in users}
    warm = {i for _, i, s in events if s == "train"}
    counts = {i: np.array([sum(1 for _, j, s in events if j == i and s in ("train", "valid"))]) for i in items}
    models = {
        "full": (users, items),
        "popularity": (dict.fromkeys(users, np.ones(1)), counts),
        "text_after": ({u: sum(after[i] for i in history[u]) for u in users}, after),
        "text_before": ({u: sum(before[i] for i in history[u]) for u in users}, before),
    }
    everything, folded = lambda user, item: True, [u for u, _, s in events if s in FOLDED]
    slices = {"all": (set(items), everything), "warm": (warm, everything), "cold": (set(items) - warm, everything)}
    slices[COLD_AMONG_ALL] = (set(items), lambda user, item: item not in warm)
    for name, (first, last) in zip(USER_SLICES, ((1, 2), (3, 5), (6, 20), (21, 100), (101, 999)), strict=True):
        slices[name] = (set(items), lambda user, item, first=first, last=last: first <= folded.count(user) <= last)
    met = [sum(1 for _, i, s in events if (i, s) == (item, "train")) for item in items]
    tenth = [10 * sum(other > own for other in met) // len(met) + 1 for own in met]
    for decile, name in enumerate(ITEM_SLICES, 1):
        slices[name] = (set(items), lambda user, item, decile=decile: tenth[item] == decile)
    nobody = {
        name for name, (_, counts) in slices.items() if not any(counts(u, i) for u, i, s in events if s == "test")
    }
    assert {
        *USER_SLICES[3:],
        "items: decile 10",
    } <= nobody  # the longest histories; and the items nobody has met begin before
    assert {key[:2] for key in found} == {(m, s) for m in models for s in set(slices) - nobody}
    for model, (user_side, item_side) in models.items():
        for name in set(slices) - nobody:
            allowed, counts = slices[name]
            for k in KS:
                rows = [found[model, name, metric, k] for metric in ("ndcg", "recall", "map")]
                *values, judged = expected(user_side, item_side, events, allowed, k, counts)
                np.testing.assert_allclose([r.value for r in rows], values, atol=1e-7, err_msg=f"{model} {name} {k}")
                assert {r.users for r in rows} == {judged}
                assert all(r.low <= r.value <= r.high for r in rows)


def test_lists_that_were_made_shorter_than_is_judged_now_are_refused():
    lake = SimpleNamespace(manifest=lambda table: {"top_k": 20} if table is CANDIDATES else {}, run_date="2026-01-02")
    with pytest.raises(UserError, match=r"lists of 50, .* table candidates .* made 20 long; run again from candidates"):
        evaluate.require_made_long(lake, EvaluateConfig(ks=(10, 50)), CANDIDATES, "candidates")
    evaluate.require_made_long(lake, EvaluateConfig(ks=(10, 20)), CANDIDATES, "candidates")
    evaluate.require_made_long(lake, EvaluateConfig(ks=(10, 50)), RERANKED, "rerank")  # of an earlier release


@pytest.fixture(scope="module")
def small_night(spark, tmp_path_factory):
    """Six items, 1 to 5 warm, 6 cold; user 1 had 1 and will want 2, 6, 1 (again) and 99 (unknown); user 2 had 1 to 5, wants 6."""
    events = [(1, 1, "train"), (1, 2, "test"), (1, 6, "test"), (1, 1, "test"), (1, 99, "test"), (2, 6, "test")]
    events += [(2, i, "train") for i in range(1, 6)]
    lake = new_lake(tmp_path_factory.mktemp("small"))
    items = {i: [7 - i, 0] for i in range(1, 7)}
    write_world(lake, {1: [1, 0], 2: [1, 0]}, items, events)
    baselines = (Popularity(), Als(embedding_size=2, iterations=2))
    found = run(spark, lake, top_k=3, ks=(1, 3), baselines=baselines, leakage=True)
    return lake, found, comparisons(spark, lake)


@pytest.fixture(scope="module")
def small(small_night):
    return small_night[:2]


@pytest.fixture(scope="module")
def compared(small_night):
    return small_night[2]


def test_values_worked_out_by_hand(small):
    """User 1 is shown 2, 3, 4 and has two relevant items, the first of which is hit; user 2 can only be shown 6, a hit."""
    _, found = small
    value = {key: row.value for key, row in found.items()}
    assert value["full", "all", "recall", 3] == pytest.approx((1 / 2 + 1) / 2)
    assert value["full", "all", "precision", 3] == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert value["full", "all", "map", 3] == pytest.approx((1 / 2 + 1) / 2)
    assert value["full", "all", "ndcg", 3] == pytest.approx((1 / (1 + 1 / log2(3)) + 1) / 2)
    assert value["full", "warm", "recall", 1] == 1
    assert value["full", "cold", "mrr", 1] == 1
    assert value["full", "all", "coverage", 3] == pytest.approx(4 / 6)
    assert value["full", "warm", "coverage", 1] == pytest.approx(1 / 5)
    # Of two users in train one has each of 2, 3, 4: 2/3 of (n + 1) / (N + 1); none has 6: 1/3.
    assert value["full", "all", "novelty", 3] == pytest.approx((-log2(2 / 3) - log2(1 / 3)) / 2)
    # Half of the users have each of 2, 3, 4, and none has 6; both had 1, and one each of the others of user 2's five.
    assert value["full", "all", "popularity", 3] == pytest.approx((1 / 2 + 0) / 2)
    assert value["full", "all", "popularity_lift", 3] == pytest.approx((1 / 2 + 0) / (1 + (1 + 4 / 2) / 5))
    assert value["full", "all", "diversity", 3] == pytest.approx(0, abs=1e-6)  # all texts point the same way


def test_users_are_counted_slice_by_slice(small):
    """User 1 has one event before, user 2 five. Item 1 has two train events, 2 to 5 have one, 6 none: 2 is of the second
    decile, as one item of six has more events than it, and 6 of the ninth."""
    _, found = small
    assert {s: r.users for (m, s, metric, k), r in found.items() if m == "full"} == {
        "all": 2,
        "warm": 1,
        "cold": 2,
        "cold_among_all": 2,
        "users: 1-2 events": 1,
        "users: 3-5 events": 1,
        "items: decile 2": 1,
        "items: decile 9": 2,
    }
    value = {key: row.value for key, row in found.items()}
    assert value["full", "items: decile 2", "recall", 3] == 1  # of all items, 2 is user 1's first
    assert value["full", "items: decile 9", "recall", 3] == 1 / 2  # 6 is not among user 1's first three


def test_a_cold_item_is_easier_to_find_among_cold_ones_than_among_all(small):
    """6 is the only cold item. Among all, it is not one of user 1's first three, and the only one that user 2 has not had."""
    _, found = small
    value = {key: row.value for key, row in found.items()}
    for metric in ("ndcg", "recall", "hit_rate", "map"):
        assert value["full", "cold", metric, 3] == 1
        assert value["full", "cold_among_all", metric, 3] == 1 / 2
    assert {key[2] for key in value if key[1] == "cold_among_all"} == {"ndcg", "recall", "hit_rate", "map"}
    assert {key[0] for key in value if key[1] == "cold_among_all"} == {
        "popularity",
        "text_before",
        "text_after",
        "full",
    }


def test_what_could_have_been_known_stands_in_the_table_leakage(spark, small):
    """Of five pairs of the test one, user 1's with item 1, is in train; there are no times, and no id of six characters."""
    rows = {r.fact: (r.rows, r.share, r.example) for r in small[0].read(spark, LEAKAGE).collect()}
    assert rows == {
        "pairs_in_both": (1, 0.2, "user 1 and item 1"),
        "cold_with_a_warm_text": (0, 0.0, None),
        "texts_that_name_a_user": (0, None, None),
    }


def test_als_has_no_cold_row_and_coverage_no_interval(small):
    _, found = small
    assert {key[1] for key in found if key[0] == "als"} & {"all", "warm", "cold"} == {"all", "warm"}
    assert {(r.low, r.high) for key, r in found.items() if key[2] == "coverage"} == {(None, None)}


def test_a_second_run_in_other_blocks_gives_the_same_table_to_the_last_bit(spark, small):
    lake, found = small
    config = EvaluateConfig(ks=(1, 3), replicates=100, baselines=(Popularity(),), users_per_block=1)
    evaluate.run(spark, lake, settings(CandidatesConfig(top_k=3), config))
    rows = {(r.model, r.slice, r.metric, r.k): r for r in lake.read(spark, METRICS).collect()}
    assert rows == {key: row for key, row in found.items() if key[0] != "als"}


def test_each_two_models_of_a_slice_are_compared_once_the_later_judged_with_the_earlier(compared, small):
    _, found = small
    models = ["popularity", "als", "text_before", "text_after", "full"]
    for name, known in {"all": models, "cold": [m for m in models if m != "als"]}.items():
        pairs = {key[:2] for key in compared if key[2:] == (name, "ndcg", 3)}
        assert pairs == {(model, other) for n, model in enumerate(known) for other in known[:n]}
    for (model, other, *rest), row in compared.items():
        assert row.difference == pytest.approx(found[model, *rest].value - found[other, *rest].value, abs=1e-12)
        assert row.low <= row.difference <= row.high
        assert 0 <= row.p <= row.p_adjusted <= 1
        assert row.users == found[model, *rest].users


def test_models_with_the_same_lists_do_not_differ(compared):
    """Popularity knows 2, 3 and 4 alike, and so shows user 1 what the full model does; of the cold item there is no choice."""
    row = compared["full", "popularity", "all", "ndcg", 3]
    assert (row.difference, row.low, row.high, row.p, row.p_adjusted) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("events", "ks", "top_k", "said"),
    [
        ([(1, 1, "train")], (1,), 2, "no row of split test"),
        ([(1, 1, "train"), (2, 1, "test"), (1, 1, "test")], (1,), 2, "no user to judge"),
        ([(1, 1, "train"), (1, 2, "test")], (1, 3), 2, "lists of 3, but candidates.top_k is 2"),
        ([(1, 1, "train"), (1, 2, "test")], (9,), 9, "lists of 9, but the catalogue has 3 items"),
    ],
)
def test_nothing_to_judge_is_the_users_error_and_nothing_is_written(spark, tmp_path, events, ks, top_k, said):
    write_world(lake := new_lake(tmp_path), {1: [1, 1]}, {i: [i, 1] for i in (1, 2, 3)}, events)
    write(lake, CANDIDATES, [(1, 1, 2, 1.0)], pa.int64())
    deployment = settings(
        CandidatesConfig(top_k=top_k),
        EvaluateConfig(ks=ks, baselines=(Popularity(),)),
    )
    with pytest.raises(UserError, match=said):
        evaluate.run(spark, lake, deployment)
    assert not lake.has(METRICS)


def test_without_test_rows_on_purpose_there_are_no_metrics_and_no_error(spark, tmp_path):
    write_world(lake := new_lake(tmp_path), {1: [1, 1]}, {i: [i, 1] for i in (1, 2, 3)}, [(1, 1, "train")])
    write(lake, CANDIDATES, [(1, 1, 2, 1.0)], pa.int64())
    deployment = settings(CandidatesConfig(top_k=2), EvaluateConfig(ks=(1,)))
    deployment.preprocess.allow_no_test = True
    evaluate.run(spark, lake, deployment)
    assert [lake.read(spark, table).count() for table in (METRICS, COMPARISONS, LEAKAGE)] == [0, 0, 0]


@pytest.fixture(scope="module")
def reranked_night(spark, tmp_path_factory):
    """User 1 had item 1 and will want 3: second on the retriever's list, first on the reranked one."""
    lake, genres = new_lake(tmp_path_factory.mktemp("reranked")), {1: "A", 2: "B", 3: "A, B"}
    write_world(lake, {1: [1, 1]}, {i: [-i, 1] for i in genres}, [(1, 1, "train"), (1, 3, "test")])
    for table, rows in (
        (ITEMS, [(i, "title", "text", f"text-{i}", [1], {"genres": names}) for i, names in genres.items()]),
        (CANDIDATES, [(1, 1, 2, 1.0), (1, 2, 3, 0.5)]),
        (RERANKED, [(1, 1, 3, 1.0, 0.5, 2.0), (1, 2, 2, 0.0, 1.0, 1.0)]),
    ):
        write(lake, table, rows, pa.int64())
    config = {"ks": (1, 2), "baselines": (), "replicates": 100, "slices": False, "new_users": ()}
    deployment = settings(
        CandidatesConfig(top_k=2), EvaluateConfig(**config, calibrate="genres", calibrate_separator=",")
    )
    deployment.rerank = SimpleNamespace(top_k=None)
    evaluate.run(spark, lake, deployment)
    return lake, deployment, {(r.model, r.slice, r.metric, r.k): r for r in lake.read(spark, METRICS).collect()}


def test_reranked_lists_are_judged_as_they_stand_beside_the_candidates(spark, reranked_night):
    lake, deployment, found = reranked_night
    values = [found[model, "all", "ndcg", 2].value for model in ("full", "reranked")]
    assert values == pytest.approx([1 / log2(3), 1.0])
    row = comparisons(spark, lake)["reranked", "full", "all", "ndcg", 2]
    assert (row.difference, row.p, row.users) == (pytest.approx(1 - 1 / log2(3)), 1, 1)  # one user proves nothing
    deployment.rerank = SimpleNamespace(top_k=1)
    with pytest.raises(UserError, match=r"lists of 2, but rerank.top_k is 1; raise it and run rerank again"):
        evaluate.run(spark, lake, deployment)


def test_without_slices_no_classes_of_users_and_items_are_judged(reranked_night):
    assert {key[1] for key in reranked_night[2]} == {"all", "cold", "cold_among_all"}  # what the user wants is cold


def test_an_attributes_mix_in_the_list_is_set_beside_the_historys(reranked_night):
    """User 1 had A alone and is shown B, then A and B: of the first two, A has a quarter. Reranked, of the first it has half."""
    found = reranked_night[2]
    off = [found["full", "all", "miscalibration", k].value for k in (1, 2)]
    assert off == pytest.approx([-log(0.01), -log(0.99 / 4 + 0.01)])
    assert found["reranked", "all", "miscalibration", 1].value == pytest.approx(-log(0.99 / 2 + 0.01))


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        {"ks": ()},
        {"ks": (0,)},
        {"ks": (5, 5)},
        {"baselines": (Popularity(), Popularity())},
        {"replicates": 1},
    ):
        with pytest.raises(ValueError, match="EvaluateConfig"):
            EvaluateConfig(**wrong)
    assert EvaluateConfig(ks=(20, 10)).ks == (10, 20)


def test_what_is_denied_is_listed_by_no_model_and_counts_for_none(spark, tmp_path):
    """Item 2, the best of all and what the user wants, is denied, and so is 3; what is left to find is 4, and each model finds it."""
    lake = new_lake(tmp_path)
    events = [(1, 1, "train"), (1, 2, "test"), (1, 4, "test"), (2, 2, "train"), (2, 3, "train"), (2, 4, "train")]
    write_world(lake, {1: [1, 0], 2: [1, 0]}, {1: [9, 0], 2: [8, 0], 3: [7, 0], 4: [6, 0]}, events)
    (tmp_path / "deny.csv").write_text("item_id\n2\n3\n")
    deny = Source(path=str(tmp_path / "deny.csv"), format="csv")
    deployment = settings(
        CandidatesConfig(top_k=1, deny=deny), EvaluateConfig(ks=(1,), replicates=100, baselines=(Popularity(),))
    )
    candidates.run(spark, lake, deployment)
    evaluate.run(spark, lake, deployment)
    rows = lake.read(spark, METRICS).where("metric = 'recall' AND slice IN ('all', 'warm')").collect()
    found = {(r.model, r.slice): r.value for r in rows}
    assert found == {(m, s): 1 for m in ("full", "popularity", "text_after", "text_before") for s in ("all", "warm")}
