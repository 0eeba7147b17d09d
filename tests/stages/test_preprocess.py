"""preprocess, whole: raw files in, four tables out."""

import datetime
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from recspark.config import ConfigError, parse
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.encoder import load_tokenizer
from recspark.stages.preprocess import PreprocessConfig
from tests.preprocess_world import World, six_items, twenty_events
from tests.spark_memory import kept

RAW = {"interactions": {"path": "i", "columns": {"order": "o"}}, "items": {"path": "t", "text": "{title}"}}


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path, tiny_encoder: Path) -> World:
    return World(spark, tmp_path, tiny_encoder)


def test_twenty_events_become_four_tables(world: World) -> None:
    before = kept(world.spark)
    world.run()
    interactions = world.table("interactions")
    assert Counter(r["split"] for r in interactions) == {"train": 16, "test": 4}
    assert {r["item_id"] for r in interactions if r["split"] == "test"} == {"i4"}
    first = min(interactions, key=lambda r: r["order_key"])
    assert (first["user_id"], first["item_id"], first["order_key"], first["weight"]) == (
        "u0",
        "i0",
        10**15,
        1.0,
    )
    assert first["event_time"].astimezone(datetime.UTC) == datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.UTC)

    items = {r["item_id"]: r for r in world.table("items")}
    assert sorted(items) == ["i0", "i1", "i2", "i3", "i4", "i5"]
    assert (items["i5"]["text"], items["i5"]["title"], items["i5"]["attributes"]) == (
        "the film 5",
        "the film 5",
        {},
    )
    own = load_tokenizer(world.encoder.path, 8)("the film 5", truncation=True, max_length=8)
    assert items["i5"]["token_ids"] == own["input_ids"]

    users = world.table("users")
    assert sorted((r["user_id"], r["events"], r["attributes"]) for r in users) == [(f"u{n}", 4, None) for n in range(4)]
    assert world.rejects() == []

    reads = [(t.action, t.name, t.rows) for t in world.lake.traffic[:2]]
    assert reads == [("read", "raw/items", 6), ("read", "raw/interactions", 20)]
    assert kept(world.spark) <= before


def test_users_with_attributes_and_users_without_events(world: World) -> None:
    world.give("users", [{"user_id": "u0", "age": 7}, {"user_id": "new", "age": None}])
    world.settings["users"]["attributes"] = {"years": "age"}
    world.run()
    found = {r["user_id"]: (r["events"], r["attributes"]) for r in world.table("users")}
    assert found == {
        "u0": (4, {"years": "7"}),
        "u1": (4, None),
        "u2": (4, None),
        "u3": (4, None),
        "new": (0, {}),
    }


def test_integer_ids_come_out_as_they_went_in(world: World) -> None:
    world.give(
        "interactions",
        [{**r, "user_id": 2**70 + int(r["user_id"][1]), "item_id": int(r["item_id"][1])} for r in twenty_events()],
    )
    world.give("items", [{**r, "item_id": int(r["item_id"][1])} for r in six_items()])
    world.run()
    assert {int(r["user_id"]) for r in world.table("users")} == {2**70 + n for n in range(4)}
    assert {r["item_id"] for r in world.table("items")} == {0, 1, 2, 3, 4, 5}


def test_all_events_of_a_pair_stay_where_all_are_wanted(world: World) -> None:
    world.give("interactions", [*twenty_events(), {"user_id": "u0", "item_id": "i0", "timestamp": 1_000_000_100}])
    world.run("duplicates=all")
    assert len(world.table("interactions")) == 21


def test_who_has_an_item_again_in_the_test_had_it_before_all_the_same(world: World) -> None:
    """Else what is learned from would depend on the test; and in the k-core a pair counts once."""
    again = [{"user_id": "u0", "item_id": "i0", "timestamp": 1_000_000_100 + t} for t in range(2)]
    world.give("interactions", [*twenty_events(), *again])
    world.run("min_user_interactions=5")
    mine = Counter((r["item_id"], r["split"]) for r in world.table("interactions") if r["user_id"] == "u0")
    assert (mine["i0", "train"], mine["i0", "test"]) == (1, 1)
    world.give("interactions", [r for r in [*twenty_events(), *again] if r["item_id"] != "i4"])
    with pytest.raises(UserError, match="no interaction is left"):
        world.run("min_user_interactions=5")


def test_an_event_that_was_logged_twice_is_not_its_users_last_and_last_but_one(world: World) -> None:
    last = {"user_id": "u0", "item_id": "i5", "timestamp": 1_000_000_100}
    world.give("interactions", [*twenty_events(), last, last])
    world.settings["split"] = {"kind": "leave_last_out"}
    world.run()
    mine = [(r["item_id"], r["split"]) for r in world.table("interactions") if r["user_id"] == "u0"]
    assert sorted(mine) == [*((f"i{n}", "train") for n in range(5)), ("i5", "test")]


@pytest.mark.parametrize(("arrived", "kept"), [(False, 21), (True, 20)])
def test_what_lies_in_the_future_is_told_by_the_clock_unless_the_log_tells_what_had_arrived(
    world: World, arrived: bool, kept: int
) -> None:
    """A date that is run again then gives what it gave. Two days after the run date is the future; today is later."""
    date = datetime.date(2025, 3, 1)
    world.lake = Lake(str(world.folder / "lake"), date)
    two_days_on = datetime.datetime.combine(date + datetime.timedelta(days=2), datetime.time(1), datetime.UTC)
    late = {"user_id": "u0", "item_id": "i5", "timestamp": int(two_days_on.timestamp())}
    world.give("interactions", [{**r, "ds": str(date)} for r in [*twenty_events(), late]])
    if arrived:
        world.settings["interactions"]["arrived"] = {"column": "ds"}
    world.run()
    assert len(world.table("interactions")) == kept


def test_k_core_thins_the_interactions_and_leaves_the_catalogue(world: World) -> None:
    world.give("interactions", [*twenty_events(), {"user_id": "once", "item_id": "i0", "timestamp": 1_000_000_000}])
    world.run("min_user_interactions=2")
    assert "once" not in {r["user_id"] for r in world.table("interactions")}
    assert len(world.table("items")) == 6


def test_rows_of_history_are_counted_but_not_learned_from(world: World) -> None:
    events = [
        {**r, "split": "test" if r["item_id"] == "i4" else "history" if r["user_id"] == "u0" else "train"}
        for r in twenty_events()
    ]
    world.give("interactions", [{**r, "split": "masked"} if r["item_id"] == "i3" else r for r in events])
    world.settings["interactions"]["columns"]["split"] = "split"
    world.settings["split"] = {"kind": "provided"}
    world.run()
    assert Counter(r["split"] for r in world.table("interactions")) == {
        "train": 9,
        "history": 3,
        "masked": 4,
        "test": 4,
    }
    assert {r["events"] for r in world.table("users")} == {3}  # of i0 to i4, without masked i3 and test i4


def test_a_second_run_gives_the_same_rows(world: World) -> None:
    world.settings["split"] = {"kind": "random", "test": 0.3, "cold_item_fraction": 0.3}
    tables = []
    for partitions in ("1", "4"):
        world.spark.conf.set("spark.sql.shuffle.partitions", partitions)
        world.run()
        tables.append([sorted(map(str, world.table(name))) for name in ("interactions", "items", "users")])
    world.spark.conf.set("spark.sql.shuffle.partitions", "2")
    assert tables[0] == tables[1]


def test_without_an_evaluation_no_test_rows_are_needed(world: World) -> None:
    world.run("split.test=0", "allow_no_test=true")
    assert {r["split"] for r in world.table("interactions")} == {"train"}


def test_a_split_that_needs_an_order_needs_its_column() -> None:
    raw = {**RAW, "interactions": {"path": "i"}, "split": {"kind": "leave_last_out"}}
    with pytest.raises(ConfigError, match="split leave_last_out needs"):
        parse(raw, PreprocessConfig, [])
    assert parse({**raw, "split": {"kind": "random"}}, PreprocessConfig, []).split.kind == "random"


def test_a_provided_split_needs_its_column() -> None:
    with pytest.raises(ValidationError, match=r"interactions\.columns\.split"):
        PreprocessConfig.model_validate({**RAW, "split": {"kind": "provided"}})
