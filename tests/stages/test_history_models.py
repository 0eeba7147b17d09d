"""Baselines that go by users' histories, against their definitions written down densely, and what becomes of those that cannot be had."""

import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from recspark.errors import UserError
from recspark.evaluation.baselines import Popularity
from recspark.evaluation.item_baselines import Bm25, Ease, Frozen, ItemKnn, Sides, Sources, TfIdf
from recspark.models.item_based import ease
from recspark.retrieval.histories import history_matrix, history_sides
from recspark.retrieval.topk import Seen, exact_top_k
from recspark.stages import candidates, evaluate
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.stages.factorize import FactorizeConfig
from recspark.stages.history_models import history_models, word_index
from recspark.tables import METRICS
from tests.vector_world import new_lake, settings, write_world

ALL = (Ease(), ItemKnn(neighbours=3), TfIdf(), Bm25(), Frozen())
WORDS = ["red", "blue", "green", "pen", "ink", "paper", "desk", "lamp"]
ITEMS, USERS = 14, 20
LISTS = {"ease": "met", "item_knn": "met", "tfidf": "all", "bm25": "all", "frozen": "all"}


def judge(spark, lake, baselines, k, **config):
    """(model, slice) -> recall at k, and the manifest's baselines that were left out."""
    given = EvaluateConfig(ks=(k,), replicates=100, slices=False, baselines=baselines, **config)
    deployment = settings(CandidatesConfig(top_k=k), given)
    deployment.factorize = FactorizeConfig(embedding_size=2, iterations=1, blocks=1)
    candidates.run(spark, lake, deployment)
    evaluate.run(spark, lake, deployment)
    rows = lake.read(spark, METRICS).where("metric = 'recall'").collect()
    return {(r.model, r.slice): r.value for r in rows}, lake.manifest(METRICS)["left_out"]


def make_world(seed=3):
    """Events in the order of time, the last items cold; texts of four words of eight; text vectors of four numbers."""
    draw = np.random.default_rng(seed)
    events = [(u, int(i), "train") for u in range(USERS) for i in draw.choice(ITEMS - 3, 4, replace=False)]
    events += [(u, int(draw.integers(ITEMS - 1)), "history") for u in range(0, USERS, 3)]
    events += [(u, int(draw.integers(ITEMS - 2)), "valid") for u in range(0, USERS, 4)]
    events += [(u, int(i), "test") for u in range(USERS) for i in draw.choice(ITEMS, 3, replace=False)]
    texts = {i: " ".join(draw.choice(WORDS, 4)) for i in range(ITEMS)}
    return events, texts, {i: draw.standard_normal(4).astype(np.float32) for i in range(ITEMS)}


def dense_tables(events, texts, encoded):
    """kind -> (M, M): what having item i says of item j."""
    had = np.zeros((USERS, ITEMS))
    for u, i, split in events:
        had[u, i] += split in ("train", "valid")
    had = np.minimum(had, 1)
    shared = had.T @ had
    ridged = np.linalg.inv(shared + 8.5 * np.diag(shared).mean() * np.eye(ITEMS))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.nan_to_num(shared / np.sqrt(np.outer(np.diag(shared), np.diag(shared))))
    np.fill_diagonal(cosine, 0)
    for row in cosine:  # the three nearest of each item, the first of equals
        row[sorted(range(ITEMS), key=lambda j: (-row[j], j))[3:]] = 0
    tfidf = TfidfVectorizer(sublinear_tf=True).fit_transform(texts.values()).toarray()
    counts = np.array([[t.split().count(w) for w in WORDS] for t in texts.values()], float)
    having = (counts > 0).sum(0)
    idf = np.log(1 + (ITEMS - having + 0.5) / (having + 0.5))
    brings = idf * counts / (counts + 1.5)  # every text is as long as the mean
    vectors = np.array(list(encoded.values()))
    vectors = vectors - vectors.mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "ease": (np.eye(ITEMS) - ridged / np.diag(ridged)) * (1 - np.eye(ITEMS)),
        "item_knn": cosine,
        "tfidf": tfidf @ tfidf.T,
        "bm25": counts @ brings.T,
        "frozen": vectors @ vectors.T,
    }


def test_lists_are_those_of_the_dense_formulas_with_what_was_seen_left_out(spark, tmp_path):
    events, texts, encoded = make_world()
    vectors = {u: [1, 0] for u in range(USERS)}, {i: [i, 0] for i in range(ITEMS)}
    write_world(lake := new_lake(tmp_path), *vectors, events, texts=texts, encoded=encoded)
    found, left_out = judge(spark, lake, ALL, 4, id_alone=True)
    assert left_out == {}
    of_cold = ("cold", "cold_among_all")
    assert {key for key in found if key[0] in LISTS} == {
        (kind, s)
        for kind, lists in LISTS.items()
        for s in ("all", "warm", *of_cold)
        if lists == "all" or s not in of_cold
    }
    assert {slice_name for model, slice_name in found if model == "id_alone"} == {"all", "warm"}
    met = {i for _, i, split in events if split in ("train", "valid")}
    for baseline in ALL:
        table = dense_tables(events, texts, encoded)[baseline.kind]
        listable = met if LISTS[baseline.kind] == "met" else set(range(ITEMS))
        recalls = []
        for user in range(USERS):
            past = [i for u, i, split in reversed(events) if u == user and split != "test"]
            history = list(dict.fromkeys(sorted(past, key=lambda i: -last(events, user, i))))
            wanted = {i for u, i, split in events if u == user and split == "test"} - set(history)
            scores = sum(baseline.decay**back * table[i] for back, i in enumerate(history))
            order = sorted(listable - set(history), key=lambda j: (-round(scores[j], 5), j))
            if wanted:
                recalls.append(len(wanted & set(order[:4])) / len(wanted))
        assert found[baseline.kind, "all"] == pytest.approx(np.mean(recalls)), baseline.kind


def test_a_log_in_which_users_had_too_much_is_left_out_by_name(spark, caplog):
    """A user with two items and one with one: four pairs and one."""
    pairs = spark.createDataFrame([(1, 1), (1, 2), (2, 2)], "user_id int, item_id int")
    sources = Sources(SimpleNamespace(items=2), pairs, lambda: pairs, None, word_index, "", pair_limit=4)
    _, left_out = history_models([Ease(), ItemKnn()], sources, memory_gib=4)
    said = "it would count 5 pairs of items that users had both, and evaluate.pair_limit is 4"
    assert left_out == {"ease": said, "item_knn": said}


def last(events, user, item):
    return max(place for place, (u, i, split) in enumerate(events) if (u, i) == (user, item) and split != "test")


@pytest.mark.parametrize(("baseline", "said"), [(Ease(), "223.5 GiB"), (ItemKnn(neighbours=2000), "8.9 GiB")])
def test_what_needs_too_much_memory_is_left_out_by_name_before_anything_is_read(caplog, baseline, said):
    sources = SimpleNamespace(catalogue=SimpleNamespace(items=100_000))
    models, left_out = history_models([Popularity(), baseline], sources, memory_gib=4)
    assert models == []
    assert left_out == {baseline.kind: f"it would need {said}, and evaluate.memory_gib is 4"}
    assert f"the baseline {baseline.kind} is left out" in caplog.text


def test_without_a_word_or_a_vector_what_reads_them_is_left_out():
    wordless = SimpleNamespace(texts=["?", "!"], text_bytes=0, encoded=None, word_index=word_index)
    _, left_out = history_models([TfIdf(), Bm25(), Frozen()], wordless, memory_gib=4)
    assert left_out["tfidf"] == left_out["bm25"] == "no item's text has a word"
    assert "base encoder are not of the night" in left_out["frozen"]


@pytest.mark.parametrize("items", [1, 3])
def test_texts_all_alike_tie_by_item_and_one_item_is_enough(items):
    counts = np.eye(items)
    same = SimpleNamespace(array=lambda _: np.tile(np.array([0.6, 0.8], np.float32), (items, 1)), items=items)
    sources = SimpleNamespace(texts=["pen ink"] * items, encoded="encoded", catalogue=same, word_index=word_index)
    found = [b.sides(sources) for b in (TfIdf(), Bm25(), Frozen())] + [Sides(None, ease(counts, 8.5).T)]
    histories = pa.array([[0], None], pa.list_(pa.int32()))
    for sides in found:
        users, vectors, words = history_sides(history_matrix(histories, items), sides.left, sides.right)
        lists = exact_top_k(users, vectors, Seen(np.array([0, 1, 1]), np.array([0])), 3, words=words)
        assert lists.positions.tolist() == [
            [*range(1, items), *[-1] * (4 - items)],
            [*range(items), *[-1] * (3 - items)],
        ]


def test_bm25_without_its_package_is_the_users_error_before_anything_is_computed(spark, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    deployment = settings(CandidatesConfig(top_k=1), EvaluateConfig(ks=(1,), baselines=(Bm25(),)))
    with pytest.raises(UserError, match=r"whl\[search\]"):
        evaluate.run(spark, new_lake(tmp_path), deployment)
    assert "bm25" not in {b.kind for b in EvaluateConfig().baselines}
