import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recspark.errors import UserError
from recspark.tables import CANDIDATES, TABLES, check

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tools"))


def test_columns_come_back_in_the_contracts_order(spark: SparkSession):
    df = spark.createDataFrame([(0.5, "i", 1, "u")], "score float, item_id string, rank int, user_id string")
    assert check(df, CANDIDATES).columns == ["user_id", "rank", "item_id", "score"]


def test_every_fault_is_named_at_once(spark: SparkSession):
    df = spark.createDataFrame([(0.5, 1.5)], "score double, user_id double")
    with pytest.raises(UserError) as caught:
        check(df, CANDIDATES)
    for fault in ("user_id is double", "lacks column rank", "lacks column item_id", "score is double, not float"):
        assert fault in str(caught.value)


@pytest.mark.parametrize("id_type", ["string", "bigint", "int", "smallint", "decimal(30,0)"])
def test_ids_may_be_strings_or_integers_of_any_size(spark: SparkSession, id_type: str):
    df = spark.createDataFrame([], f"user_id {id_type}, rank int, item_id string, score float")
    assert check(df, CANDIDATES).schema["user_id"].dataType.simpleString() == id_type


def test_every_table_says_what_it_and_its_columns_mean():
    assert len(TABLES) >= 15
    assert all(t.meaning and all(c.meaning for c in t.columns) for t in TABLES.values())


def test_keys_and_folders_are_columns():
    assert all({*t.key, *t.folders, *t.constant} <= set(t.column_names) for t in TABLES.values())


def test_no_table_may_hold_rows_of_two_models():
    assert [t.name for t in TABLES.values() if "model_hash" in t.column_names and "model_hash" not in t.constant] == []
    assert sum("model_hash" in t.constant for t in TABLES.values()) >= 6


def test_the_page_of_the_tables_says_what_the_code_says():
    from make_tables_doc import document

    assert (REPOSITORY / "docs" / "tables.md").read_text(encoding="utf-8") == document()


def test_the_page_of_the_settings_says_what_the_code_says_of_each():
    from make_settings_doc import Page

    page = Page().document()
    assert (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8") == page
    assert [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")] == []
