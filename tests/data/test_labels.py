import pytest
from pyspark.sql import SparkSession

from recspark.data import labels
from recspark.data.labels import history_labels, item_labels
from recspark.errors import UserError

FILMS = [
    (1, {"genres": "Action Sci-Fi"}),
    (2, {"genres": " Action  Action "}),
    (3, {"genres": "Sci-Fi Drama Action"}),
    (4, {"year": "1999"}),
    (5, None),
]
TYPES = "item_id bigint, attributes map<string,string>"


def test_an_item_is_shared_evenly_by_its_values_the_commonest_first(spark: SparkSession):
    """Action is on three films, Sci-Fi on two, Drama on one."""
    found = item_labels(spark.createDataFrame(FILMS, TYPES), "genres", " ", "here")
    third = pytest.approx([1 / 3] * 3)
    assert {r[0]: list(r[1]) for r in found.collect()} == {
        1: [0.5, 0.5, 0],
        2: [1, 0, 0],
        3: third,
        4: [0, 0, 0],
        5: [0, 0, 0],
    }


def test_without_a_separator_values_stay_whole_and_rare_ones_share_a_place(spark: SparkSession, monkeypatch):
    films = [*FILMS, (6, {"genres": "Action Sci-Fi"})]
    monkeypatch.setattr(labels, "MOST", 1)
    found = {r[0]: list(r[1]) for r in item_labels(spark.createDataFrame(films, TYPES), "genres", "", "here").collect()}
    assert found == {1: [1, 0], 2: [0, 1], 3: [0, 1], 4: [0, 0], 5: [0, 0], 6: [1, 0]}


def test_a_history_is_the_mean_of_its_items_that_have_a_value(spark: SparkSession):
    pairs = spark.createDataFrame([(7, 1), (7, 2), (7, 4), (8, 5), (9, 3)], "user_id bigint, item_id bigint")
    made = [(1, [0.5, 0.5, 0.0]), (2, [1.0, 0.0, 0.0]), (3, [0.25, 0.25, 0.5]), (4, [0.0] * 3), (5, [0.0] * 3)]
    found = history_labels(pairs, spark.createDataFrame(made, "item_id bigint, labels array<float>"))
    assert {r.user_id: list(r.likes) for r in found.collect()} == {7: [0.75, 0.25, 0], 9: [0.25, 0.25, 0.5]}


def test_an_attribute_that_no_item_has_is_the_users_error(spark: SparkSession):
    with pytest.raises(UserError, match=r"here is colour, which no item has; items have \['genres', 'year'\]"):
        item_labels(spark.createDataFrame(FILMS, TYPES), "colour", "", "here")
