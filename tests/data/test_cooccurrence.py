from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.data.cooccurrence import CooccurrenceSettings, cooccurrences, write_neighbours

# One user: a, then b, then c. To b 1 and to c 1/2 from a; back .6 of that. Sums of what leaves a, b, c: 1.5, 1.6, .9; of what
# arrives there: .9, 1.6, 1.5.
BY_HAND = {
    ("a", "b"): 1 / np.sqrt(1.5 * 1.6),
    ("a", "c"): 0.5 / np.sqrt(1.5 * 1.5),
    ("b", "a"): 0.6 / np.sqrt(1.6 * 0.9),
    ("b", "c"): 1 / np.sqrt(1.6 * 1.5),
    ("c", "a"): 0.3 / 0.9,
    ("c", "b"): 0.6 / np.sqrt(0.9 * 1.6),
}


@pytest.fixture(scope="module")
def catalogue(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    items = spark.createDataFrame([(i, 1) for i in "abcd"], "item_id string, n int")
    return write_catalogue(items, str(tmp_path_factory.mktemp("catalogue")))


def found(spark: SparkSession, catalogue: Catalogue, **settings):
    events = spark.createDataFrame(
        [("u", "b", 2), ("u", "a", 1), ("u", "c", 3)], "user_id string, item_id string, order_key bigint"
    )
    return cooccurrences(events, catalogue, CooccurrenceSettings(**settings), 42)


def test_three_events_give_six_weights_worked_out_by_hand(spark: SparkSession, catalogue: Catalogue) -> None:
    weights = {("abcd"[r.item], "abcd"[r.other]): r.weight for r in found(spark, catalogue).collect()}
    assert weights == pytest.approx(BY_HAND, rel=1e-6)


def test_a_window_of_one_and_one_neighbour(spark: SparkSession, catalogue: Catalogue) -> None:
    assert {(r.item, r.other) for r in found(spark, catalogue, window=1).collect()} == {(0, 1), (1, 0), (1, 2), (2, 1)}
    best = {(r.item, r.other) for r in found(spark, catalogue, neighbours=1).collect()}
    assert best == {(0, 1), (1, 2), (2, 1)}


def test_the_mapped_matrix_has_the_rows_of_all_four_items(
    spark: SparkSession, catalogue: Catalogue, tmp_path: Path
) -> None:
    indptr, others, weights = write_neighbours(found(spark, catalogue), catalogue.items, str(tmp_path)).arrays()
    assert indptr.tolist() == [0, 2, 4, 6, 6]
    assert others.tolist() == [1, 2, 0, 2, 0, 1]
    np.testing.assert_allclose(weights, list(BY_HAND.values()), rtol=1e-6)


def test_no_event_is_an_empty_matrix(spark: SparkSession, catalogue: Catalogue, tmp_path: Path) -> None:
    indptr, others, _ = write_neighbours(found(spark, catalogue).where("false"), 4, str(tmp_path)).arrays()
    assert indptr.tolist() == [0] * 5
    assert len(others) == 0
