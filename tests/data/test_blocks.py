import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recspark.data.blocks import (
    Links,
    blocks_for,
    from_blocks,
    map_blocks,
    map_rows,
    sum_matrices,
    to_blocks,
    unpack,
)
from recspark.models.factors import Rows
from tests.data.checkerboard import K, checkerboard, vector_table


def test_each_row_sees_the_vectors_of_its_columns(spark: SparkSession, tmp_path):
    pairs, items = checkerboard(), vector_table(list(range(5)), 0)
    links = Links(spark.createDataFrame(pairs), spark.range(5).withColumnRenamed("id", "item_id"), 3, str(tmp_path))

    def total(block: int, rows: Rows, _: bytes | None) -> pd.DataFrame:
        sums = [rows.vectors(r)[0].sum(0).tolist() for r in range(len(rows))]
        return pd.DataFrame({"block": block, "local": range(len(rows)), "total": sums})

    blocks = to_blocks(spark.createDataFrame(items), links.item_index, "id")
    found = map_rows(links.users, blocks, total, "block int, local int, total array<double>", K).join(
        links.user_index, ["block", "local"]
    )
    source = np.stack(list(items.vector))
    for row in found.collect():
        expected = source[pairs.item_id[pairs.user_id == row.id]].sum(0)
        np.testing.assert_allclose(row.total, expected, atol=1e-5)


def test_a_missing_vector_is_an_error_that_names_the_id(spark: SparkSession, tmp_path):
    links = Links(
        spark.createDataFrame(checkerboard()),
        spark.range(5).withColumnRenamed("id", "item_id"),
        2,
        str(tmp_path),
    )
    with pytest.raises(Exception, match="item_id 4 has no vector"):
        to_blocks(
            spark.createDataFrame(vector_table([0, 1, 2, 3], 0).rename(columns={"id": "item_id"})),
            links.item_index,
            "item_id",
        ).collect()


@pytest.mark.parametrize("fan_in", [2, 16])
def test_a_tree_of_sums_is_the_sum(spark: SparkSession, fan_in: int):
    numbers = np.random.default_rng(0).normal(size=(11, 4))
    frame = spark.createDataFrame(
        [(b, bytearray(row.tobytes())) for b, row in enumerate(numbers)], "block int, matrix binary"
    )
    np.testing.assert_allclose(sum_matrices(frame, "matrix", 30, fan_in), numbers.sum(0))
    assert sum_matrices(frame.limit(0), "matrix", 30, fan_in).size == 0


def test_blocks_and_rows_are_each_others_inverse(spark: SparkSession, tmp_path):
    items = vector_table([7, 1, 300, 12], 3)
    links = Links(
        spark.createDataFrame([("u", 7, 1.0)], "user_id string, item_id long, weight double"),
        spark.createDataFrame(items[["id"]].rename(columns={"id": "item_id"})),
        3,
        str(tmp_path),
    )
    blocks = to_blocks(spark.createDataFrame(items), links.item_index, "id")
    back = {r.item_id: r.vector for r in from_blocks(blocks, links.item_index, "item_id", K).collect()}
    assert back == dict(zip(items.id, items.vector, strict=True))
    doubled = map_blocks(blocks, lambda row: (2 * unpack(row.matrix, K)).tobytes())
    twice = {r.item_id: r.vector for r in from_blocks(doubled, links.item_index, "item_id", K).collect()}
    np.testing.assert_allclose(twice[300], 2 * np.array(back[300]))


def test_blocks_are_by_the_data_alone():
    found = [blocks_for(*size) for size in ((0, 0), (2_000_000, 5), (2_000_001, 5), (5, 10**7), (10**10, 10**7))]
    assert found == [2, 2, 3, 100, 2000]
