"""Raw files come in under our names, with their values as they were."""

from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from recspark.data.raw import InteractionColumns, RawInteractions, RawItems, read_interactions, read_items
from recspark.errors import UserError
from tests.data.conftest import Write


def test_csv_ids_come_as_they_are_written(spark: SparkSession, write: Write) -> None:
    path = write("a.csv", "user_id,item_id,order\n007,1.0,1\n")
    frame = read_interactions(
        spark, RawInteractions(path=path, format="csv", columns=InteractionColumns(order="order"))
    )
    assert frame.collect() == [("007", "1.0", "1")]


def test_json_ids_keep_their_type_also_beyond_64_bits(spark: SparkSession, write: Write) -> None:
    path = write("a.jsonl", f'{{"user_id": {2**70}, "item_id": 5}}\n{{"user_id": 1, "item_id": 6}}\n')
    frame = read_interactions(spark, RawInteractions(path=path, format="jsonl"))
    assert frame.dtypes == [("user_id", "decimal(22,0)"), ("item_id", "bigint")]
    assert {r.user_id for r in frame.collect()} == {Decimal(2**70), Decimal(1)}


def test_parquet_integers_stay_integers(spark: SparkSession, tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [1], "item_id": ["x"]}).astype({"user_id": "int32"}).to_parquet(tmp_path / "a.parquet")
    frame = read_interactions(spark, RawInteractions(path=str(tmp_path / "a.parquet")))
    assert frame.dtypes == [("user_id", "int"), ("item_id", "string")]


def test_columns_are_renamed_whatever_stands_in_their_names(spark: SparkSession, write: Write) -> None:
    path = write("a.csv", "user_id:token,the `item`,a.b\nu,i,3\n")
    columns = InteractionColumns(user_id="user_id:token", item_id="the `item`", rating="a.b")
    frame = read_interactions(spark, RawInteractions(path=path, format="csv", columns=columns))
    assert [r.asDict() for r in frame.collect()] == [{"user_id": "u", "item_id": "i", "rating": "3"}]


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
