"""The contract of every split, and what each one means."""

import random
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError
from pyspark.sql import DataFrame, SparkSession

from recspark.data import splits
from recspark.data.splits import (
    ColdItems,
    LeaveLastOut,
    Provided,
    Random,
    Split,
    Temporal,
    bin_of_nth,
    nth_smallest,
)
from recspark.errors import UserError
from recspark.tables import SPLITS

SCHEMA = "user_id string, item_id string, order_key bigint, raw_split string"
MEMBERS = get_args(get_args(Split)[0])
VARIANTS = [
    *(member() for member in MEMBERS),
    Temporal(valid=0.1, test=0.2, cold_item_fraction=0.3),
    Random(valid=0.1, cold_item_fraction=0.3),
    Temporal(valid=0.3, test=0.5, newcomer_history=2),
    LeaveLastOut(valid=True, cold_item_fraction=0.3),
]
Row = tuple[str, str, int, str]


def six_hundred_events() -> list[Row]:
    """30 users with 20 events each, on 40 items, several at the same moment; raw splits in turn."""
    draw = random.Random(7)
    return [
        (f"u{u}", f"i{i}", 10**15 + draw.randrange(200), SPLITS[n % 5])
        for u in range(30)
        for n, i in enumerate(draw.sample(range(40), 20))
    ]


def assigned(spark: SparkSession, split: Any, rows: list[Row], partitions: int = 2, seed: int = 42) -> dict[Row, str]:
    frame = split.assign(spark.createDataFrame(rows, SCHEMA).repartition(partitions, "order_key"), seed)
    found = [
        (tuple(r[:4]), r.split) for r in frame.select("user_id", "item_id", "order_key", "raw_split", "split").collect()
    ]
    assert len(found) == len(rows)
    return dict(found)


@pytest.fixture(params=VARIANTS, ids=str, scope="module")
def variant(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def found(spark: SparkSession, variant: Any) -> dict[Row, str]:
    return assigned(spark, variant, six_hundred_events(), partitions=1)


def test_the_contract_runs_over_all_members() -> None:
    assert {type(v) for v in VARIANTS} == set(MEMBERS)
    assert len(MEMBERS) == 5


def test_every_row_has_exactly_one_split(found: dict[Row, str]) -> None:
    assert set(found) == set(six_hundred_events())
    assert set(found.values()) <= set(SPLITS)
    assert {"train", "test"} <= set(found.values())


def test_another_partitioning_gives_the_same_split(spark: SparkSession, variant: Any, found: dict[Row, str]) -> None:
    assert assigned(spark, variant, six_hundred_events()[::-1], partitions=3) == found


@pytest.mark.parametrize("kind", ["random", "cold_items"])
def test_another_seed_gives_another_split(spark: SparkSession, kind: str) -> None:
    split = TypeAdapter(Split).validate_python({"kind": kind})
    rows = six_hundred_events()
    assert assigned(spark, split, rows, seed=1) != assigned(spark, split, rows, seed=2)


@pytest.mark.parametrize("cold", [0.0, 0.3])
def test_temporal_never_trains_on_what_is_later_than_a_test_event(spark: SparkSession, cold: float) -> None:
    found = assigned(spark, Temporal(valid=0.1, test=0.2, cold_item_fraction=cold), six_hundred_events())
    moments = {name: [row[2] for row, split in found.items() if split == name] for name in ("train", "valid", "test")}
    assert max(moments["train"]) < min(moments["valid"])
    assert max(moments["valid"]) < min(moments["test"])


def test_temporal_takes_the_exact_share_where_moments_are_distinct(spark: SparkSession) -> None:
    rows = [("u", f"i{n}", n * n, "") for n in range(1, 11)]
    found = assigned(spark, Temporal(valid=0.1, test=0.2), rows)
    assert [found[r] for r in rows] == ["train"] * 7 + ["valid"] + ["test"] * 2


def test_temporal_keeps_one_moment_together_on_the_earlier_side(spark: SparkSession) -> None:
    rows = [(f"u{n}", "i", moment, "") for n, moment in enumerate([1, 2, 2, 2, 3])]
    found = assigned(spark, Temporal(test=0.4), rows)
    assert [found[r] for r in rows] == ["train"] * 4 + ["test"]


def test_a_newcomers_first_events_are_history_and_nobody_elses(spark: SparkSession) -> None:
    old = [("old", f"i{n}", n, "") for n in range(6)]
    new = [("new", f"i{n}", 3 + n, "") for n in range(1, 4)] + [("brief", "i1", 6, "")]
    found = assigned(spark, Temporal(test=0.6, newcomer_history=2), old + new)
    assert [found[r] for r in old] == ["train"] * 4 + ["test"] * 2
    assert [found[r] for r in new] == ["history", "history", "test", "history"]


def frame_of(spark: SparkSession, keys: list[int]) -> DataFrame:
    return spark.createDataFrame([(k,) for k in keys], "order_key bigint").coalesce(1)


def test_quantile_is_exact_over_the_whole_range_of_64_bits(spark: SparkSession) -> None:
    keys = [-(2**63), -5, -5, 0, 3, 10**15, 10**15 + 1, 2**63 - 1]
    assert nth_smallest(frame_of(spark, keys), 7) == 10**15 + 1


def test_quantile_agrees_with_sorting(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "HISTOGRAM_BITS", 4)  # 16 bins: many passes
    draw = random.Random(3)
    keys = [draw.randrange(10**6) for _ in range(500)]
    assert nth_smallest(frame_of(spark, keys), 123) == sorted(keys)[122]


def test_the_nth_is_found_in_its_bin() -> None:
    assert [bin_of_nth({5: 2, -1: 3}, n) for n in (1, 3, 4, 5)] == [(-1, 1), (-1, 3), (5, 1), (5, 2)]


def test_leave_last_out_takes_one_or_two_and_spares_the_thin(spark: SparkSession) -> None:
    rows = [(u, f"i{n}", n, "") for u, events in (("a", 1), ("b", 2), ("c", 3)) for n in range(events)]
    with_test = assigned(spark, LeaveLastOut(), rows)
    assert [with_test[r] for r in rows] == ["train", "train", "test", "train", "train", "test"]
    with_both = assigned(spark, LeaveLastOut(valid=True), rows)
    assert [with_both[r] for r in rows] == ["train", "train", "train", "train", "valid", "test"]


def test_random_keeps_the_events_of_a_pair_together_and_draws_its_share(spark: SparkSession) -> None:
    rows = [(f"u{u}", f"i{i}", moment, "") for u in range(50) for i in range(20) for moment in (1, 2)]
    found = assigned(spark, Random(test=0.25), rows)
    pairs = {(u, i): {found[(u, i, 1, "")], found[(u, i, 2, "")]} for u, i, _, _ in rows}
    assert all(len(names) == 1 for names in pairs.values())
    assert (
        0.21 < sum(names == {"test"} for names in pairs.values()) / 1000 < 0.29
    )  # three standard errors of 1,000 draws


def test_cold_items_have_nothing_to_learn_from(spark: SparkSession) -> None:
    found = assigned(spark, ColdItems(fraction=0.3, min_interactions=5), six_hundred_events())
    by_item: dict[str, set[str]] = {}
    for (_, item, _, _), split in found.items():
        by_item.setdefault(item, set()).add(split)
    assert all(len(names) == 1 for names in by_item.values())
    assert 4 <= sum(names == {"test"} for names in by_item.values()) <= 20


def test_cold_items_spare_the_thin(spark: SparkSession) -> None:
    rows = [("u", f"i{n}", n, "") for n in range(30)] + [(f"v{n}", "often", n, "") for n in range(5)]
    found = assigned(spark, ColdItems(fraction=0.999999, min_interactions=5), rows)
    assert {item for (_, item, _, _), split in found.items() if split == "test"} == {"often"}


def test_masking_takes_train_and_valid_and_leaves_test(spark: SparkSession) -> None:
    rows = six_hundred_events()
    plain = assigned(spark, Temporal(valid=0.1, test=0.2), rows)
    masked = assigned(spark, Temporal(valid=0.1, test=0.2, cold_item_fraction=0.3), rows)
    cold = {row[1] for row, split in masked.items() if split == "masked"}
    assert 4 <= len(cold) <= 20
    for row in rows:
        assert masked[row] == ("masked" if row[1] in cold and plain[row] != "test" else plain[row])


def test_provided_maps_values_and_refuses_the_unknown(spark: SparkSession) -> None:
    rows = [("u", "a", 1, "0"), ("u", "b", 2, "1")]
    found = assigned(spark, Provided(values={0: "train", "1": "test"}), rows)
    assert [found[r] for r in rows] == ["train", "test"]
    with pytest.raises(UserError, match="holds 'dev' in 1 rows"):
        assigned(spark, Provided(), [("u", "a", 1, "train"), ("u", "b", 2, "dev")])


def test_fractions_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValidationError, match="something must be left"):
        Temporal(valid=0.5, test=0.5)
