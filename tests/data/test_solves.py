import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recspark.data import solves
from recspark.data.blocks import Links, from_blocks, keep, to_blocks
from recspark.models.factors import FactorSettings, Rows, row_penalty
from recspark.models.row_solves import solve_rows
from tests.data.checkerboard import K, checkerboard, vector_table

SETTINGS = FactorSettings(embedding_size=K, unobserved_weight=0.2, regularization=0.1, frequency_exponent=1.0)


def dense_solve(
    pairs: pd.DataFrame, rows: list, row: str, column: str, vectors: pd.DataFrame, exposure: list[float]
) -> np.ndarray:
    """The same half-step on one machine, from a dense matrix."""
    matrix = (
        pairs.pivot(index=row, columns=column, values="weight")
        .reindex(index=rows, columns=vectors.id)
        .fillna(0)
        .to_numpy()
    )
    source = np.stack(list(vectors.vector)).astype(np.float32)
    indices = [np.flatnonzero(r) for r in matrix]
    indptr = np.cumsum([0, *map(len, indices)]).astype(np.int64)
    weights = np.concatenate([r[i] for r, i in zip(matrix, indices, strict=True)]).astype(np.float32)
    dense = Rows(indptr, np.concatenate(indices), weights, source, np.ones(len(rows), np.float32))
    penalty = row_penalty(dense.counts, np.float64(sum(exposure)), SETTINGS)
    gram = (source.T * np.array(exposure)) @ source.astype(float)
    return solve_rows(dense, gram, penalty, None, SETTINGS.unobserved_weight)


def test_a_pair_s_weights_are_added_up_and_one_of_no_weight_is_none(spark: SparkSession):
    rows = [("u", "i", 0.5, "train"), ("u", "i", 0.25, "train"), ("u", "j", 0.0, "train"), ("u", "k", 1.0, "test")]
    events = spark.createDataFrame(rows, "user_id string, item_id string, weight double, split string")
    assert solves.interaction_pairs(events, solves.LEARNED).collect() == [("u", "i", 0.75)]


@pytest.mark.parametrize("blocks", [1, 3])
def test_fold_in_equals_the_dense_solve_over_the_items_that_somebody_met(spark: SparkSession, tmp_path, blocks: int):
    pairs, items = checkerboard(), vector_table(list(range(5)), 0)
    known = items.rename(columns={"id": "item_id"}).assign(interactions=[3, 3, 3, 3, 0], exposure=[1, 1, 0.5, 0.25, 1])
    found = solves.fold_in(
        spark.createDataFrame(pairs),
        spark.createDataFrame(known),
        SETTINGS,
        blocks,
        str(tmp_path),
    )
    users = [f"u{u}" for u in range(6)]
    vectors = {r.user_id: r.vector for r in found.collect()}
    np.testing.assert_allclose(
        [vectors[u] for u in users],
        dense_solve(pairs, users, "user_id", "item_id", items[:4], [1, 1, 0.5, 0.25]),
        atol=1e-5,
    )


def test_item_solve_weighs_the_unobserved_by_exposure_and_keeps_the_unmet_out_of_the_gram(
    spark: SparkSession, tmp_path
):
    pairs, users, priors = (
        checkerboard(),
        vector_table([f"u{u}" for u in range(6)], 1),
        vector_table(list(range(5)), 2),
    )
    exposure = np.array([1, 0.5, 0.25, 0.75, 1])
    items = spark.createDataFrame(pd.DataFrame({"item_id": range(5), "exposure": exposure}))
    links = Links(spark.createDataFrame(pairs), items, 3, str(tmp_path))
    user_blocks = to_blocks(spark.createDataFrame(users), links.user_index, "id")
    known = to_blocks(spark.createDataFrame(priors), links.item_index, "id")
    gram = solves.gram_of_blocks(user_blocks, K, 3)
    solved = keep(solves.solve_side(links.items, user_blocks, gram, 6, SETTINGS, known), str(tmp_path / "solved"))
    rows = {r.item_id: r.vector for r in from_blocks(solved, links.item_index, "item_id", K).collect()}
    np.testing.assert_allclose(rows[4], priors.vector[4], atol=1e-6)
    source = np.stack(list(users.vector)).astype(float)
    for item in range(4):
        mine = pairs[pairs.item_id == item].set_index("user_id").weight.reindex(users.id).fillna(0).to_numpy()
        lam = 0.1 * ((mine > 0).sum() + 0.2 * 6 * exposure[item])
        left = 0.2 * exposure[item] * source.T @ source + (source.T * mine) @ source + lam * np.eye(K)
        expected = np.linalg.solve(left, mine @ source + lam * np.array(priors.vector[item]))
        np.testing.assert_allclose(rows[item], expected, atol=1e-5)
    met = np.array([rows[i] for i in range(4)])
    np.testing.assert_allclose(solves.gram_of(solved, K, 3), (met.T * exposure[:4]) @ met, atol=1e-5)
    assert solves.exposed(links.items) == 2.5


def starts(spark: SparkSession, tmp_path, blocks: int) -> dict[int, list[float]]:
    items = spark.range(5).withColumnRenamed("id", "item_id")
    links = Links(spark.createDataFrame(checkerboard()), items, blocks, str(tmp_path / str(blocks)))
    start = keep(solves.random_start(links.items, 7, K), str(tmp_path / f"start-{blocks}"))
    return {r.item_id: r.vector for r in from_blocks(start, links.item_index, "item_id", K).collect()}


def test_the_start_of_an_item_is_keyed_by_its_id_and_zero_where_nobody_met_it(spark: SparkSession, tmp_path):
    found = starts(spark, tmp_path, 1)
    assert found == starts(spark, tmp_path, 3)
    assert found[4] == [0.0] * K
    assert len({tuple(found[i]) for i in range(4)}) == 4


def test_rows_are_counted_by_id(spark: SparkSession, tmp_path):
    items = spark.range(5).withColumnRenamed("id", "item_id")
    links = Links(spark.createDataFrame(checkerboard()), items, 2, str(tmp_path))
    assert {r.id: r.interactions for r in solves.row_counts_of(links.items).collect()} == {0: 3, 1: 3, 2: 3, 3: 3, 4: 0}


def test_events_of_one_pair_add_their_weights(spark: SparkSession):
    rows = [
        ("u", "a", 1.0, "train"),
        ("u", "a", 2.5, "train"),
        ("u", "b", 1.0, "test"),
        ("u", "c", 1.0, "valid"),
    ]
    events = spark.createDataFrame(rows, "user_id string, item_id string, weight double, split string")
    assert sorted(solves.interaction_pairs(events, ("train", "valid")).collect()) == [
        ("u", "a", 3.5),
        ("u", "c", 1.0),
    ]
