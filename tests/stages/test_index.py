"""Approximate lists of a whole lake beside the exact ones."""

import numpy as np
import pyarrow as pa
import pytest
import yaml

from recspark.config import load
from recspark.data.sources import Source
from recspark.errors import UserError
from recspark.pipeline import Deployment
from recspark.stages import candidates, index
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.index import IndexConfig
from recspark.tables import INDEX_LISTS, ITEM_INDEX, ITEM_VECTORS, USER_VECTORS
from tests import nightly
from tests.table_rows import write
from tests.vector_world import lists_of, new_lake, settings, table_frame, write_world

TOP_K = 10


def config(candidates: dict | None = None, **section):
    found = settings(CandidatesConfig(**{"top_k": TOP_K} | (candidates or {})))
    found.index = IndexConfig(**section) if section else None
    return found


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """80 users, 400 items around 20 topics, text for ids; user u0 has seen nearly everything."""
    rng = np.random.default_rng(5)
    topics = rng.standard_normal((20, 8))
    items = {f"i{n}": topics[n % 20] + 0.3 * rng.standard_normal(8) for n in range(400)}
    users = {f"u{n}": topics[rng.integers(20)] + 0.5 * rng.standard_normal(8) for n in range(80)}
    events = [(f"u{u}", f"i{i}", "train") for u, i in rng.integers((80, 400), size=(900, 2))]
    events += [("u0", f"i{i}", "valid") for i in range(395)]
    lake = new_lake(tmp_path_factory.mktemp("world"))
    write_world(lake, users, items, events, pa.string())
    return lake


@pytest.fixture(scope="module")
def exact(spark, world):
    return lists_of(spark, world, config())


def share_of(found: dict, exact: dict) -> float:
    return float(np.mean([len(set(found[u]) & set(exact[u])) / len(exact[u]) for u in exact]))


def test_lists_hold_what_was_asked_for_are_full_and_the_shards_change_nothing(spark, world, exact):
    wanted = config(recall=0.9, lists=40, sample_users=1000)
    index.run(spark, world, wanted)
    about = world.manifest(INDEX_LISTS)
    found = lists_of(spark, world, wanted)
    assert {u: len(items) for u, items in found.items()} == {u: len(items) for u, items in exact.items()}
    assert len(found["u0"]) < TOP_K
    assert 0.9 <= about["recall"] <= share_of(found, exact) < 1
    assert about["users"] == 80
    assert about["probes"] < 20
    assert about["share"] < 0.5
    assert lists_of(spark, world, config(recall=0.9, lists=40, shards=3)) == found


def test_the_whole_recall_is_the_exact_lists(spark, world, exact):
    wanted = config(recall=1.0, lists=15)
    index.run(spark, world, wanted)
    assert lists_of(spark, world, wanted) == exact


def test_the_index_tells_where_each_item_is_and_two_runs_make_one_index(spark, world):
    tables = []
    for _ in range(2):
        index.run(spark, world, config(recall=0.9))
        tables.append([world.read(spark, t).toPandas() for t in (ITEM_INDEX, INDEX_LISTS)])
    (items, lists), again = tables
    assert items.drop(columns="vector").equals(again[0].drop(columns="vector"))
    assert np.stack(items.vector).tobytes() == np.stack(again[0].vector).tobytes()
    assert lists.drop(columns="centroid").equals(again[1].drop(columns="centroid"))
    assert np.stack(lists.centroid).tobytes() == np.stack(again[1].centroid).tobytes()
    assert len(lists) == 80  # 4 times the square root of 400
    counts = items.groupby("list").item_id.count().reindex(lists.list, fill_value=0)
    assert counts.tolist() == lists["items"].tolist()
    vectors = world.read(spark, ITEM_VECTORS).toPandas().set_index("item_id").vector
    centroids = np.stack(lists.set_index("list").centroid.sort_index())
    places = {item: place for place, item in enumerate(sorted(items.item_id))}
    for row in items.itertuples():
        assert row.position == places[row.item_id]
        np.testing.assert_array_equal(row.vector, vectors[row.item_id])
        distances = np.linalg.norm(centroids - np.asarray(vectors[row.item_id]), axis=1)
        assert distances[row.list] == pytest.approx(distances.min(), abs=1e-5)
        assert row.distance == pytest.approx(distances[row.list], abs=1e-6)


def test_a_denied_item_is_on_no_list_and_nobody_is_short_of_one(spark, world, tmp_path):
    (tmp_path / "deny.csv").write_text("item_id\n" + "\n".join(f"i{n}" for n in range(0, 400, 2)))
    wanted = config({"deny": Source(path=str(tmp_path / "deny.csv"), format="csv")}, recall=0.9)
    index.run(spark, world, wanted)
    found = lists_of(spark, world, wanted)
    assert all(int(item[1:]) % 2 for items in found.values() for item in items)
    assert {len(items) for user, items in found.items() if user != "u0"} == {TOP_K}


def test_an_index_of_other_vectors_than_are_there_now_is_the_users_error(spark, tmp_path):
    lake = new_lake(tmp_path)
    write_world(lake, {1: [1]}, {i: [i] for i in range(20)}, [(1, 0, "train")])
    with pytest.raises(UserError, match="the configuration has no section index"):
        index.run(spark, lake, config())
    wanted = config(recall=0.9)
    with pytest.raises(UserError, match=r"table item_index of run date .* is not in the lake"):
        candidates.run(spark, lake, wanted)
    index.run(spark, lake, wanted)
    lake.write(
        table_frame(spark, ITEM_VECTORS, [(i, [-float(i)], [1.0], 0, 1.0, "t", "model") for i in range(20)]),
        ITEM_VECTORS,
    )
    with pytest.raises(UserError, match=r"item_index .* was made from another item_vectors .*run again from index"):
        candidates.run(spark, lake, wanted)


def test_an_index_that_was_measured_for_less_is_the_users_error(spark, world, tmp_path):
    index.run(spark, world, config(recall=0.9))
    for more, said in (
        (config({"top_k": TOP_K + 1}, recall=0.9), f"candidates.top_k {TOP_K}, and {TOP_K + 1} is asked for now"),
        (config(recall=0.95), "index.recall 0.9, and 0.95 is asked for now"),
    ):
        with pytest.raises(UserError, match=said):
            candidates.run(spark, world, more)


def test_vectors_that_are_all_the_same_make_one_list(spark, tmp_path):
    lake = new_lake(tmp_path)
    write_world(lake, {1: [1, 0]}, {i: [1, 1] for i in range(30)}, [(1, 0, "train")])
    wanted = config(recall=0.95)
    index.run(spark, lake, wanted)
    assert lake.manifest(INDEX_LISTS)["probes"] == 1
    assert lists_of(spark, lake, wanted) == {1: list(range(1, 11))}


def test_an_index_beside_combine_is_a_mistake_before_spark_starts(tmp_path):
    raw = nightly.small_night(tmp_path, tmp_path / "lake", tmp_path, index={}, combine={})
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match="index: the vectors that combine makes are longer than the catalogue"):
        load(path, Deployment)


def test_the_index_is_measured_on_users_who_had_something(spark, tmp_path):
    """Nine in ten have the mean vector: they would be nearly all of a sample."""
    rng = np.random.default_rng(6)
    items = {n: rng.standard_normal(4) for n in range(60)}
    users = {n: rng.standard_normal(4) for n in range(5)} | {n: np.zeros(4) for n in range(5, 50)}
    lake = new_lake(tmp_path)
    write_world(lake, users, items, [(n, n, "train") for n in range(5)])
    write(
        lake, USER_VECTORS, [(n, np.asarray(v, np.float32), int(n < 5), "model") for n, v in users.items()], pa.int64()
    )
    index.run(spark, lake, config(lists=6, sample_users=20))
    assert lake.manifest(INDEX_LISTS)["users"] == 5
