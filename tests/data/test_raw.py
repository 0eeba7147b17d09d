"""Raw files come in under our names, with their values as they were."""

import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from recspark.data.arrivals import Arrived
from recspark.data.raw import InteractionColumns, RawInteractions, RawItems, read_interactions, read_items
from recspark.errors import UserError
from tests.data.conftest import Write

NIGHT = datetime.date(2026, 11, 28)


def test_csv_ids_come_as_they_are_written(spark: SparkSession, write: Write) -> None:
    path = write("a.csv", "user_id,item_id,order\n007,1.0,1\n")
    frame = read_interactions(
        spark, RawInteractions(path=path, format="csv", columns=InteractionColumns(order="order")), NIGHT
    )
    assert frame.collect() == [("007", "1.0", "1")]


def test_json_ids_keep_their_type_also_beyond_64_bits(spark: SparkSession, write: Write) -> None:
    path = write("a.jsonl", f'{{"user_id": {2**70}, "item_id": 5}}\n{{"user_id": 1, "item_id": 6}}\n')
    frame = read_interactions(spark, RawInteractions(path=path, format="jsonl"), NIGHT)
    assert frame.dtypes == [("user_id", "decimal(22,0)"), ("item_id", "bigint")]
    assert {r.user_id for r in frame.collect()} == {Decimal(2**70), Decimal(1)}


def test_parquet_integers_stay_integers(spark: SparkSession, tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [1], "item_id": ["x"]}).astype({"user_id": "int32"}).to_parquet(tmp_path / "a.parquet")
    frame = read_interactions(spark, RawInteractions(path=str(tmp_path / "a.parquet")), NIGHT)
    assert frame.dtypes == [("user_id", "int"), ("item_id", "string")]


def test_columns_are_renamed_whatever_stands_in_their_names(spark: SparkSession, write: Write) -> None:
    path = write("a.csv", "user_id:token,the `item`,a.b\nu,i,3\n")
    columns = InteractionColumns(user_id="user_id:token", item_id="the `item`", rating="a.b")
    frame = read_interactions(spark, RawInteractions(path=path, format="csv", columns=columns), NIGHT)
    assert [r.asDict() for r in frame.collect()] == [{"user_id": "u", "item_id": "i", "rating": "3"}]


@pytest.fixture
def by_day(tmp_path: Path) -> str:
    """A row a day in a sub-folder a day, each of an event of long ago."""
    for day in (26, 27, 28, 29):
        folder = tmp_path / "log" / f"ds=2026-11-{day}"
        folder.mkdir(parents=True)
        pd.DataFrame({"user_id": [f"u{day}"], "item_id": ["i"], "ts": [1]}).to_parquet(folder / "part.parquet")
    return str(tmp_path / "log")


@pytest.mark.parametrize(("days", "expected"), [(None, [26, 27, 28]), (2, [27, 28]), (1, [28])])
def test_a_night_reads_what_had_arrived_by_its_date(
    spark: SparkSession, by_day: str, days: int | None, expected: list[int]
) -> None:
    table = RawInteractions(path=by_day, arrived=Arrived(column="ds", days=days))
    frame = read_interactions(spark, table, NIGHT)
    assert sorted(r.user_id for r in frame.collect()) == [f"u{day}" for day in expected]
    assert frame.columns == ["user_id", "item_id"]


def test_a_night_whose_own_day_has_not_arrived_is_told(spark: SparkSession, by_day: str, caplog) -> None:
    table = RawInteractions(path=by_day, arrived=Arrived(column="ds", days=3))
    read_interactions(spark, table, NIGHT)
    assert not caplog.records
    read_interactions(spark, table, datetime.date(2026, 12, 1))
    assert "nothing is there that arrived on 2026-12-01, only by 2026-11-29" in caplog.text


def test_sub_folders_of_other_days_are_not_opened(spark: SparkSession, by_day: str) -> None:
    (Path(by_day) / "ds=2026-11-29" / "part.parquet").write_bytes(b"half a file")
    table = RawInteractions(path=by_day, arrived=Arrived(column="ds"))
    assert read_interactions(spark, table, NIGHT).count() == 3


def test_types_are_those_of_the_days_that_are_read(spark: SparkSession, tmp_path: Path) -> None:
    """So that a date that is run again gives what it gave, whatever came later, and a column that is new is there."""
    for day, user, more in (
        (26, '"old"', ""),
        (27, "7", ', "rating": 5'),
        (28, "8", ', "rating": 4'),
        (29, '"u9"', ""),
    ):
        folder = tmp_path / "log" / f"ds=2026-11-{day}"
        folder.mkdir(parents=True)
        (folder / "part.json").write_text(f'{{"user_id": {user}, "item_id": "i"{more}}}\n')
    columns = InteractionColumns(rating="rating")
    arrived = Arrived(column="ds", days=2)
    table = RawInteractions(path=str(tmp_path / "log"), format="jsonl", columns=columns, arrived=arrived)
    frame = read_interactions(spark, table, NIGHT)
    assert frame.dtypes == [("user_id", "bigint"), ("item_id", "string"), ("rating", "bigint")]
    assert sorted(r.user_id for r in frame.collect()) == [7, 8]


def test_a_night_before_all_and_a_column_without_dates_are_said(spark: SparkSession, by_day: str, write: Write) -> None:
    table = RawInteractions(path=by_day, arrived=Arrived(column="ds"))
    with pytest.raises(
        UserError, match=r"'ds' has no row that arrived by 2026-11-01; there are from 2026-11-26 to 2026-11-29"
    ):
        read_interactions(spark, table, datetime.date(2026, 11, 1))
    path = write("a.csv", "user_id,item_id,day\nu,i,2026-11-28\nv,i,20261128\n")
    table = RawInteractions(path=path, format="csv", arrived=Arrived(column="day"))
    with pytest.raises(UserError, match=r"column 'day' holds '20261128', which is no date; dates such as 2026-11-28"):
        read_interactions(spark, table, NIGHT)
    with pytest.raises(UserError, match=r"lacks column 'dy' \(preprocess.interactions.arrived.column\); did you mean"):
        read_interactions(spark, table.model_copy(update={"arrived": Arrived(column="dy")}), NIGHT)


def test_items_bring_text_fields_attributes_and_the_row(spark: SparkSession, write: Write) -> None:
    path = write("i.jsonl", '{"item_id": "a", "name": "Red", "tags": ["x", "y"], "year": null}\n')
    table = RawItems(path=path, format="jsonl", text="{name}: {tags}", attributes={"tag": "tags", "when": "year"})
    (row,) = read_items(spark, table).collect()
    assert (row.text_fields, row.title_fields, row.attributes) == (["Red", "x, y"], ["Red"], {"tag": "x, y"})
    assert row.row == '{"item_id":"a","name":"Red","tags":["x","y"],"year":null}'


def test_every_missing_column_is_named_with_the_nearest(spark: SparkSession, write: Write) -> None:
    table = RawItems(path=write("i.csv", "id,title\n1,Red\n"), format="csv", text="{titel} {colour}")
    with pytest.raises(UserError) as caught:
        read_items(spark, table)
    message = str(caught.value)
    assert "lacks column 'item_id' (preprocess.items.columns.item_id)" in message
    assert "lacks column 'titel' (preprocess.items.text); did you mean 'title'?" in message
    assert "lacks column 'colour' (preprocess.items.text);" in message
    assert message.endswith("it has [id, title]")


def test_a_bad_template_is_a_settings_error() -> None:
    with pytest.raises(ValidationError, match="unpaired"):
        RawItems(path="a", text="{title")
