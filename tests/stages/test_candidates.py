"""The lists of a whole lake against brute force, and what happens to input that does not fit."""

import logging
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.types import LongType

from recspark.data.sources import Source
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages.candidates import (
    CandidatesConfig,
    read_deny_list,
    require_enough_items,
)
from recspark.stages.list_vectors import require_one_model
from recspark.tables import CANDIDATES, INTERACTIONS, ITEM_VECTORS, ITEMS, USER_VECTORS, USERS
from tests.vector_world import lists_of, new_lake, settings, write_world

SPLITS = ["train", "valid", "history", "masked", "test"]


def run(spark, lake: Lake, **config) -> dict:
    """user -> list of items, after the lists were found well-formed."""
    return lists_of(spark, lake, settings(CandidatesConfig(**config)))


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """60 users, 150 items, whole numbers for vectors, so that there are ties; events in every split, some of them twice."""
    rng = np.random.default_rng(5)
    users = {u: rng.integers(-3, 4, 4) for u in range(100, 160)}
    items = {i * 7 - 300: rng.integers(-3, 4, 4) for i in rng.permutation(150)}
    ids = np.array(list(items))
    events = [(int(u), int(rng.choice(ids)), SPLITS[rng.integers(5)]) for u in rng.choice(list(users), 900)]
    events += [(999, int(ids[0]), "train"), *events[:20]]  # 999 has a history and no vector
    lake = new_lake(tmp_path_factory.mktemp("world"))
    write_world(lake, users, {int(i): v for i, v in items.items()}, events)
    return lake, users, items, events


def brute_force(users, items, events, top_k, denied=()):
    lists = {}
    for user, vector in users.items():
        seen = {i for u, i, split in events if u == user and split != "test"} | set(denied)
        scores = {i: int(vector @ v) for i, v in items.items() if i not in seen}
        lists[user] = sorted(scores, key=lambda i: (-scores[i], i))[:top_k]
    return lists


@pytest.mark.parametrize("sizes", [{}, {"users_per_block": 7, "memory_mib": 1}])
def test_every_list_agrees_with_brute_force_whatever_the_blocks(spark, world, sizes):
    lake, users, items, events = world
    assert run(spark, lake, top_k=20, **sizes) == brute_force(users, items, events, 20)


def test_two_runs_write_identical_tables(spark, world):
    lake, *_ = world
    found = []
    for _ in range(2):
        run(spark, lake, top_k=20)
        found.append(lake.read(spark, CANDIDATES).toPandas())
    assert found[0].equals(found[1])


def test_a_denied_item_is_on_no_list_and_an_unknown_one_is_a_warning(spark, world, tmp_path, caplog):
    lake, users, items, events = world
    denied = sorted(items)[:100]
    deny = tmp_path / "deny.csv"
    deny.write_text("\n".join(["item_id,why", *(f"{i},x" for i in denied), "123456,x", "no-number,x"]))
    with caplog.at_level(logging.WARNING, logger="recspark"):
        lists = run(spark, lake, top_k=20, deny=Source(path=str(deny), format="csv"))
    assert lists == brute_force(users, items, events, 20, denied)
    assert "2 entries are not in the catalogue" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("jsonl", '{"item_id": "seven"}', "is string; the catalogue's is bigint"),
        ("jsonl", '{"item_id": 7.5}', "is double"),
        ("jsonl", '{"item": 7}', "lacks column item_id; it has ['item']"),
        ("csv", "item\n7", "lacks column item_id"),
        ("parquet", "no parquet", "cannot be read as parquet"),
        ("csv", None, "cannot be read as csv"),
    ],
)
def test_a_deny_list_of_the_wrong_kind_is_the_users_error(spark, tmp_path, name, text, said):
    path = tmp_path / f"deny.{name}"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as error:
        read_deny_list(spark, Source(path=str(path), format=name), LongType())
    assert said in str(error.value)
    assert "candidates.deny" in str(error.value)


def test_more_than_the_catalogue_has_is_the_users_error_and_nothing_is_written(spark, tmp_path):
    lake = new_lake(tmp_path)
    write_world(lake, {1: [1]}, {i: [i] for i in range(5)}, [(1, 0, "train")])
    with pytest.raises(
        UserError, match=r"top_k is 6, but the catalogue has 5 items; set candidates.top_k to 5 or less"
    ):
        run(spark, lake, top_k=6)
    assert not lake.has(CANDIDATES)


def test_a_deny_list_that_leaves_too_few_is_the_users_error():
    catalogue = SimpleNamespace(items=5, array=lambda column: np.array([True, False, False, True, True]))
    with pytest.raises(UserError, match="5 items, 2 of them denied by"):
        require_enough_items(catalogue, ("allowed",), 4)


def test_thousands_of_seen_items_leave_a_full_list_and_nearly_all_leave_what_there_is(spark, tmp_path):
    lake = new_lake(tmp_path)
    events = (
        [(1, i, "train") for i in range(15000)]
        + [(3, i, "masked") for i in range(15098)]
        + [(4, i, "valid") for i in range(15100)]
    )
    write_world(lake, {1: [-1], 2: [1], 3: [1], 4: [1]}, {i: [i] for i in range(15100)}, events)
    assert run(spark, lake, top_k=50) == {
        1: list(range(15000, 15050)),
        2: list(range(15099, 15049, -1)),
        3: [15099, 15098],
    }


def test_text_ids_tie_by_code_point_and_numbers_by_value(spark, tmp_path):
    names = ["9", "10", "B", "a", "é", "\uff5e", "😀"]  # UTF-16 would put the last before the one before it
    write_world(
        text := new_lake(tmp_path / "text"),
        {"u": [1]},
        {name: [1] for name in reversed(names)},
        [("u", "?", "train")],
        pa.string(),
    )
    assert run(spark, text, top_k=7) == {"u": sorted(names)}

    big = [Decimal(10**30), Decimal(9), Decimal(10), Decimal(-(10**30))]
    write_world(
        lake := new_lake(tmp_path / "big"),
        {Decimal(10**25): [1]},
        {number: [1] for number in big},
        [(Decimal(10**25), Decimal(9), "valid")],
        pa.decimal128(38, 0),
    )
    assert run(spark, lake, top_k=3) == {Decimal(10**25): [Decimal(-(10**30)), Decimal(10), Decimal(10**30)]}


def test_vectors_of_two_models_are_the_users_error(spark):
    items, users = (
        spark.createDataFrame([("model", [1.0] * n)], "model_hash string, vector array<float>") for n in (1, 2)
    )
    with pytest.raises(UserError, match=r"length 1.*length 2.*run the stage embed again"):
        require_one_model(items, users)
    with pytest.raises(UserError, match="user_vectors is empty"):
        require_one_model(items, users.where("false"))


def test_a_vector_that_is_not_finite_is_the_users_error(spark, tmp_path):
    lake = new_lake(tmp_path)
    write_world(lake, {1: [1]}, {1: [1], 2: [float("nan")]}, [(1, 1, "train")])
    with pytest.raises(UserError, match="1 or more vectors hold a NaN"):
        run(spark, lake, top_k=1)


def test_vectors_of_another_log_than_is_there_now_are_the_users_error(spark, tmp_path):
    lake = new_lake(tmp_path)
    items = {i: [i] for i in range(5)}
    write_world(lake, {1: [1]}, items, [(1, 0, "train")])
    lake.begin("embed")
    lake.read(spark, INTERACTIONS)
    for table in (ITEM_VECTORS, USER_VECTORS):
        lake.write(lake.read(spark, table).localCheckpoint(), table)
    assert run(spark, lake, top_k=2) == {1: [4, 3]}
    write_world(lake, {1: [1]}, items, [(1, 0, "test")])
    lake.begin("candidates")
    for table in (ITEM_VECTORS, USER_VECTORS):  # made from what was train
        manifest = lake.manifest(table)
        manifest["inputs"] = {"interactions": {"path": "", "rows": 1, "fingerprint": "another"}}
        lake.write_json(f"{table.name}/run_date={lake.run_date}/_manifest.json", manifest)
    with pytest.raises(
        UserError, match=r"item_vectors .* was made from another interactions than is there now; run again from embed"
    ):
        run(spark, lake, top_k=2)


@pytest.mark.parametrize(("table", "of"), [(ITEMS, ITEM_VECTORS), (USERS, USER_VECTORS)], ids=lambda t: t.name)
def test_vectors_of_another_catalogue_or_other_users_are_the_users_error(spark, tmp_path, table, of):
    lake = new_lake(tmp_path)
    write_world(lake, {1: [1]}, {i: [i] for i in range(5)}, [(1, 0, "train")])
    lake.write_json(f"{table.name}/run_date={lake.run_date}/_manifest.json", {"fingerprint": "of now"})
    manifest = lake.manifest(of)
    manifest["inputs"] = {table.name: {"path": "", "rows": 1, "fingerprint": "of then"}}
    lake.write_json(f"{of.name}/run_date={lake.run_date}/_manifest.json", manifest)
    with pytest.raises(
        UserError, match=rf"{of.name} .* was made from another {table.name} than is there now; run again from embed"
    ):
        run(spark, lake, top_k=2)


def test_vectors_of_two_runs_are_the_users_error(spark, tmp_path):
    lake = new_lake(tmp_path)
    write_world(lake, {1: [1]}, {i: [i] for i in range(5)}, [(1, 0, "train")])
    lake.write(lake.read(spark, USER_VECTORS).localCheckpoint(), USER_VECTORS, embedding="another")
    with pytest.raises(
        UserError, match=r"item_vectors and user_vectors .* are of different runs.* run again from embed"
    ):
        run(spark, lake, top_k=2)
