"""The catalogue's arrays against the frame they were made of."""

from decimal import Decimal

import numpy as np
import pytest

from recspark.data import catalogue as catalogues
from recspark.data.catalogue import rows_of, vector_column, write_catalogue
from recspark.errors import UserError

COLUMNS = "item_id {}, vector array<float>, count bigint, warm boolean"


@pytest.mark.parametrize(
    ("kind", "ids"),
    [("int", [10, -3, 9]), ("string", ["é", "10", "9"]), ("decimal(30,0)", [Decimal(10**25), Decimal(-1), Decimal(3)])],
)
def test_columns_lie_in_the_order_of_the_ids(spark, tmp_path, kind, ids):
    rows = [(item, [float(i), 0.5], i, i == 1) for i, item in enumerate(ids)]
    catalogue = write_catalogue(spark.createDataFrame(rows, COLUMNS.format(kind)), str(tmp_path))
    order = sorted(range(3), key=lambda i: ids[i])
    assert catalogue.items == 3
    assert catalogue.ids().to_pylist() == [ids[i] for i in order]
    assert catalogue.array("vector").tolist() == [[i, 0.5] for i in order]
    assert catalogue.array("count").tolist() == order
    assert catalogue.array("warm").tolist() == [i == 1 for i in order]
    assert {r.item_id: r.position for r in catalogue.positions(spark).collect()} == {
        ids[i]: p for p, i in enumerate(order)
    }
    assert isinstance(catalogue.array("vector"), np.memmap)
    assert catalogue.array("vector").dtype == np.float32


def test_long_vectors_come_in_as_few_rows_as_are_bounded(spark, tmp_path, monkeypatch):
    """A million items of a hundred numbers, or ten thousand as long as the catalogue: neither is in memory at once."""
    monkeypatch.setattr(catalogues, "BATCH_BYTES", 1000)
    frame = spark.range(50).selectExpr(
        "id AS item_id", "transform(sequence(1, 100), n -> cast(id * n AS float)) AS vector"
    )
    catalogue = write_catalogue(frame, str(tmp_path))
    np.testing.assert_array_equal(catalogue.array("vector"), np.outer(np.arange(50), np.arange(1, 101)))
    assert rows_of(1000, 400) == 2
    assert rows_of(1000, 5000) == 1
    assert rows_of(10**12, 1) == catalogues.BATCH_ROWS


def test_a_column_of_lists_has_the_arrays_rows():
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert vector_column(rows).to_pylist() == rows.tolist()
    assert vector_column(rows[:0]).to_pylist() == []


def test_many_partitions_keep_the_order(spark, tmp_path):
    frame = spark.range(1000).selectExpr(
        "(id * 7919) % 1000 as item_id", "array(cast((id * 7919) % 1000 as float)) as vector"
    )
    catalogue = write_catalogue(frame.repartition(5), str(tmp_path))
    np.testing.assert_array_equal(catalogue.array("vector")[:, 0], np.arange(1000))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "the catalogue is empty"),
        ([(1, [1.0]), (2, [1.0, 2.0])], "vectors of lengths"),
        ([(1, [1.0]), (2, [float("inf")])], "NaN or an infinite number"),
    ],
)
def test_vectors_that_cannot_be_ranked_are_the_users_error(spark, tmp_path, rows, said):
    with pytest.raises(UserError, match=said):
        write_catalogue(spark.createDataFrame(rows, "item_id bigint, vector array<float>").coalesce(1), str(tmp_path))
