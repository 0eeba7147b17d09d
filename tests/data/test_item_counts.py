"""Users shared by items, counted in blocks."""

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.data.item_counts import item_counts, tiles


@pytest.mark.parametrize("blocks", [1, 5])
def test_counts_are_those_of_the_dense_product_in_any_number_of_blocks(spark: SparkSession, tmp_path, blocks: int):
    draw = np.random.default_rng(0)
    had = draw.random((30, 6)) < 0.4
    had[:, 5] = False  # an item that nobody has
    pairs = spark.createDataFrame(
        [(int(u), f"i{i}") for u, i in zip(*had.nonzero(), strict=True)], "user_id int, item_id string"
    )
    catalogue = write_catalogue(spark.createDataFrame([(f"i{i}",) for i in range(6)], "item_id string"), str(tmp_path))
    usual = str(spark.conf.get("spark.sql.shuffle.partitions"))
    spark.conf.set("spark.sql.shuffle.partitions", blocks)
    try:
        found = item_counts(pairs, catalogue, str(tmp_path))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", usual)
    np.testing.assert_array_equal(found, had.T.astype(float) @ had)


def test_a_product_is_made_of_rows_that_fit_together_and_of_none_that_are_empty():
    assert list(tiles(np.array([0, 3, 3, 3, 9, 0, 2]), 7)) == [(0, 3), (3, 4), (4, 5), (5, 7)]
    assert list(tiles(np.array([0, 0]), 7)) == []
