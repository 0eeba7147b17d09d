"""The bad-input table of preprocess: what goes to rejects, what is cleaned, and what stops the run with one clear error."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recspark.models.encoder import load_tokenizer
from tests.preprocess_world import World, six_items, twenty_events


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path, tiny_encoder: Path) -> World:
    return World(spark, tmp_path, tiny_encoder)


def bad_events() -> list[tuple[str, dict[str, Any]]]:
    good = {"user_id": "u0", "item_id": "i0", "timestamp": "1000000000", "rating": "1"}
    return [
        ("null_user_id", {**good, "user_id": None}),
        ("null_user_id", {**good, "user_id": ""}),
        ("null_item_id", {k: v for k, v in good.items() if k != "item_id"}),
        ("unparsable_time", {**good, "timestamp": "soon"}),
        ("negative_time", {**good, "timestamp": "-5"}),
        ("future_time", {**good, "timestamp": "2099-01-01"}),
        ("not_finite_rating", {**good, "rating": "NaN"}),
        ("not_finite_rating", {**good, "rating": "Infinity"}),
        ("unparsable_rating", {**good, "rating": "five stars"}),
        ("unknown_item", {**good, "item_id": "nobody's"}),
        ("unknown_item", {**good, "item_id": "wordless"}),
    ]


def give_bad_rows(world: World) -> None:
    world.settings["interactions"]["columns"]["rating"] = "rating"
    good = [{**r, "timestamp": str(r["timestamp"]), "rating": "1"} for r in twenty_events()]
    world.give("interactions", good + [row for _, row in bad_events()])
    world.give(
        "items",
        [
            *six_items(),
            {"item_id": "i0", "title": "twin"},
            {"item_id": "wordless", "title": " "},
            {"title": "idless"},
        ],
    )
    world.give("users", [{"user_id": "u0"}, {"user_id": "u0"}, {"user_id": None}, {"user_id": ""}])


def test_bad_rows_go_to_rejects_with_their_reason_and_the_run_goes_on(world: World) -> None:
    give_bad_rows(world)
    world.run("max_reject_fraction=0.9")
    found = world.rejects()
    expected = [(reason, {"item_id": None, **row}) for reason, row in bad_events()]
    assert sorted(
        (reason, row) for source, reason, row in found if source == "interactions" for row in [str(sorted(row.items()))]
    ) == (sorted((reason, str(sorted(row.items()))) for reason, row in expected))
    items = [(reason, row["item_id"]) for source, reason, row in found if source == "items"]
    assert items == [("duplicate_item_id", "i0"), ("no_text", "wordless"), ("null_item_id", None)]
    assert [(reason, row["user_id"]) for source, reason, row in found if source == "users"] == [
        ("duplicate_user_id", "u0"), ("null_user_id", ""), ("null_user_id", None),
    ]  # fmt: skip
    assert len(world.table("interactions")) == 20
    assert len(world.table("items")) == 6


def test_above_the_bound_counts_and_examples_are_shown_and_nothing_is_written(world: World) -> None:
    unknown = [{"user_id": f"u{n}", "item_id": f"x{n}", "timestamp": 1_000_000_000} for n in range(4)]
    world.give(
        "interactions",
        [*twenty_events(), *unknown, {"user_id": None, "item_id": "i0", "timestamp": 1_000_000_000}],
    )
    message = world.refusal()
    assert "preprocess.interactions: 5 of 25 rows (20.0%) would be rejected" in message
    assert "unknown_item: 4" in message
    assert message.count('"item_id":"x') == 3
    assert '{"user_id":null,"item_id":"i0","timestamp":1000000000}' in message
    assert "preprocess.max_reject_fraction = 0.05" in message


def test_at_the_bound_the_run_goes_on(world: World) -> None:
    world.give(
        "interactions",
        [*twenty_events()[:19], {"user_id": None, "item_id": "i0", "timestamp": 1_000_000_000}],
    )
    world.run()  # 1 of 20 is 5 %
    assert [reason for _, reason, _ in world.rejects()] == ["null_user_id"]


STRANGE = {
    "i0": "red " * 500_000,
    "i1": "the\x00 \x1b[31mred\x07 film",
    "i2": "\U0001f469\u200d\U0001f52c film \U0001f600",
    "i3": "\u202eשלום\u202c film مرحبا",
    "i4": "zero\u200bwidth \u0440\u0443\u0441 世界 e\u0301",
    "i5": "<p>red &amp; <b>blue</b></p><script>x()</script>",
}


def test_strange_text_is_normalised_and_truncated(world: World) -> None:
    world.give("items", [{"item_id": i, "title": text} for i, text in STRANGE.items()])
    world.run()
    items = {r["item_id"]: r for r in world.table("items")}
    assert len(items["i0"]["text"]) < 40_000
    # six letters and two special tokens are the eight that max_length leaves
    assert items["i0"]["token_ids"] == load_tokenizer(world.encoder.path, 8)("red red")["input_ids"]
    assert items["i1"]["text"] == "the [31mred film"
    assert items["i2"]["text"] == STRANGE["i2"]
    assert items["i3"]["text"] == "שלום film مرحبا"
    assert items["i4"]["text"] == "zerowidth \u0440\u0443\u0441 世界 \u00e9"
    assert items["i5"]["text"] == "red & blue"
    assert all(len(r["token_ids"]) <= 8 for r in items.values())


def test_missing_path(world: World) -> None:
    message = world.refusal("items.path=/nowhere/items.jsonl")
    assert message.startswith("preprocess.items: /nowhere/items.jsonl cannot be read as jsonl: [PATH_NOT_FOUND]")


def test_missing_path_of_a_source(world: World) -> None:
    message = world.refusal("sources.films={path: /nowhere, format: csv}")
    assert message.startswith("preprocess.sources.films: /nowhere cannot be read as csv: [PATH_NOT_FOUND]")


def test_missing_column(world: World) -> None:
    message = world.refusal("items.text='{titel}'")
    assert "preprocess.items: lacks column 'titel' (preprocess.items.text); did you mean 'title'?" in message
    assert "it has [item_id, title]" in message


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT ttle FROM films", "Did you mean one of the following? [`title`, `item_id`]"),
        ("SELECT * FROM movies", "name its files in preprocess.sources"),
        ("SELEC * FROM films", "Syntax error at or near 'SELEC'"),
    ],
)
def test_bad_sql(world: World, capfd: pytest.CaptureFixture[str], sql: str, expected: str) -> None:
    path = world.settings["items"].pop("path")
    message = world.refusal(f"items.sql={sql}", f"sources.films={{path: '{path}', format: jsonl}}")
    assert message.startswith("preprocess.items.sql: ")
    assert expected in message
    assert "\n" not in message
    assert "org.apache.spark" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT * FROM films a JOIN films b ON a.item_id = b.item_id",
            "has column 'item_id' (preprocess.items.columns",
        ),
        (
            "SELECT CAST(CAST(title AS INT) AS STRING) AS item_id, title FROM films",
            "[CAST_INVALID_INPUT] The value 'the film 0'",
        ),
    ],
)
def test_sql_whose_rows_cannot_be(world: World, sql: str, expected: str) -> None:
    path = world.settings["items"].pop("path")
    world.settings["items"]["sql"] = sql
    message = world.refusal(f"sources.films={{path: '{path}', format: jsonl}}")
    assert message.startswith("preprocess")
    assert expected in message
    assert "\n" not in message


def test_not_the_format_it_is_said_to_be(world: World) -> None:
    message = world.refusal("items.format=parquet")
    assert "cannot be read as parquet: " in message
    assert "is not a Parquet file" in message


def test_file_that_breaks_off(world: World) -> None:
    whole = world.folder / "whole.csv.gz"
    pd.DataFrame(twenty_events() * 50).to_csv(whole, index=False)
    (world.folder / "half.csv.gz").write_bytes(whole.read_bytes()[:-100])
    message = world.refusal(f"interactions.path={world.folder / 'half.csv.gz'}", "interactions.format=csv")
    assert "half.csv.gz" in message
    assert "EOFException" in message
    assert "\n" not in message


def test_ids_of_a_wrong_type(world: World) -> None:
    world.give("interactions", [{**r, "user_id": 1.5} for r in twenty_events()])
    assert (
        world.refusal() == "preprocess.interactions: user_id is double; ids are strings or integers; cast it in `sql`"
    )


def test_ids_of_two_types_that_would_never_meet(world: World) -> None:
    world.give("items", [{**r, "item_id": n} for n, r in enumerate(six_items())])
    message = world.refusal()
    assert "item_id is string in preprocess.interactions and bigint in preprocess.items; they must agree" in message


def test_time_of_a_wrong_type(world: World) -> None:
    world.give("interactions", [{**r, "timestamp": [1]} for r in twenty_events()])
    assert world.refusal().startswith(
        "preprocess.interactions: column 'timestamp' is array<bigint>; it should be a number"
    )


@pytest.mark.parametrize("source", ["interactions", "items"])
def test_empty_file(world: World, source: str) -> None:
    world.give(source, [])
    assert f"{source}.jsonl is empty" in world.refusal()


def test_table_with_a_header_and_no_rows(world: World) -> None:
    world.give_text("interactions", "user_id,item_id,timestamp\n", "csv")
    assert (
        world.refusal("interactions.format=csv")
        == "preprocess.interactions: the table is empty; expected at least one row"
    )


def test_k_core_that_leaves_nothing(world: World) -> None:
    message = world.refusal("min_item_interactions=5")
    assert "no interaction is left with min_user_interactions 1 and min_item_interactions 5" in message


def test_split_without_test_rows(world: World) -> None:
    message = world.refusal("split={kind: random, test: 0}")
    assert "leaves no test rows; it gave 20 train" in message
    assert "preprocess.allow_no_test" in message


def test_split_without_train_rows(world: World) -> None:
    world.settings["interactions"]["columns"]["split"] = "split"
    world.give("interactions", [{**r, "split": "test"} for r in twenty_events()])
    assert "leaves no train rows; it gave 20 test" in world.refusal("split={kind: provided}")


def test_model_that_is_not_there(world: World) -> None:
    world.encoder.path = str(world.folder / "nowhere")
    assert "is not a folder; give a transformers model directory" in world.refusal()


def test_model_that_cannot_read_so_much(world: World) -> None:
    world.encoder.max_length = 512
    assert "encoder.max_length is 512" in world.refusal()


def test_lists_longer_than_the_catalogue(world: World) -> None:
    world.top_k = 7
    assert "candidates.top_k is 7, but preprocess.items gives a catalogue of 6 items" in world.refusal()
