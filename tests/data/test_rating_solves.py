import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recspark.data import rating_solves
from recspark.data.blocks import Links, from_blocks
from recspark.data.features import features, unit_length
from recspark.models.factors import Rows, ridge
from recspark.models.ratings import RatingSettings, Scale, confidence, solve_ratings

USERS, ITEMS = [f"u{n}" for n in range(7)], list(range(5))  # nobody rates the last item, the last user rates nothing


def shares() -> np.ndarray:
    draw = np.random.default_rng(0)
    matrix = np.where(draw.random((7, 5)) < 0.6, draw.integers(0, 5, (7, 5)) / 4, np.nan)
    matrix[:, 4] = matrix[6] = np.nan
    return matrix


def group(spark: SparkSession, name: str, ids: list, vectors: np.ndarray):
    return spark.createDataFrame(pd.DataFrame({name: ids, "vector": [list(map(float, v)) for v in vectors]}))


def rows_of(matrix: np.ndarray, source: np.ndarray) -> Rows:
    there = ~np.isnan(matrix)
    indptr = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int64)
    weights, ones = matrix[there].astype(np.float32), np.ones(len(matrix), np.float32)
    return Rows(indptr, np.nonzero(there)[1], weights, source.astype(np.float32), ones)


def mapped(features_RH: np.ndarray, solved: np.ndarray, counts: np.ndarray, penalty: float) -> np.ndarray:
    """The ridge of `RidgePrior` on one machine."""
    weights = confidence(counts)
    wide = np.hstack([features_RH, np.ones((len(features_RH), 1))])
    left = (wide * weights[:, None]).T @ wide
    return wide @ ridge(left, (wide * weights[:, None]).T @ solved, penalty * weights[counts > 0].mean())


def test_the_fit_over_blocks_equals_the_kernel_on_one_machine(spark: SparkSession, tmp_path):
    matrix, draw = shares(), np.random.default_rng(1)
    settings = RatingSettings(embedding_size=2, link="sigmoid", regularization=0.5, bias_regularization=0.2)
    of_users, of_items = (draw.normal(size=(n, 3)) for n in (7, 5))
    pairs = [(USERS[u], i, float(matrix[u, i])) for u in range(7) for i in range(5) if not np.isnan(matrix[u, i])]
    links = Links(
        spark.createDataFrame(pairs, "user_id string, item_id bigint, weight double"),
        spark.createDataFrame([(i,) for i in ITEMS], "item_id bigint"),
        2,
        str(tmp_path),
        spark.createDataFrame([(u,) for u in USERS], "user_id string"),
    )
    priors = []
    for side, name, ids, given in (
        (links.users, "user_id", USERS, of_users),
        (links.items, "item_id", ITEMS, of_items),
    ):
        made = features([group(spark, name, ids, given)], side, name, str(tmp_path / name))
        priors.append(rating_solves.rating_prior(made.blocks, side, 3, 2.0, str(tmp_path / name)))
    start = from_blocks(rating_solves.random_start(links.items, 9, 2), links.item_index, "item_id", 3)
    items = np.array([r.vector for r in start.orderBy("item_id").collect()], np.float32)
    fit = rating_solves.fit_ratings(links, 0.4, settings, 2, *priors, 9, str(tmp_path / "fit"))

    users, pulled = None, [None, None]
    scaled = [(g - g.mean(0)) / np.sqrt(((g - g.mean(0)) ** 2).sum(1).mean()) for g in (of_users, of_items)]
    for _ in range(2):
        users = solve_ratings(rows_of(matrix, items), 0.4, settings, pulled[0], users)
        items = solve_ratings(rows_of(matrix.T, users), 0.4, settings, pulled[1], items)
        counts = [(~np.isnan(m)).sum(1) for m in (matrix, matrix.T)]
        pulled = [
            mapped(f, v, n, 2.0).astype(np.float32) for f, v, n in zip(scaled, (users, items), counts, strict=True)
        ]
    table = rating_solves.factor_rows(links.users, fit.users, priors[0], fit.user_map, settings, Scale(0, 1), "user_id")
    found = {row.user_id: row for row in table.collect()}
    unit = 4.0
    for n, user in enumerate(USERS):
        vector = pulled[0][n] if n == 6 else users[n]
        np.testing.assert_allclose(found[user].vector, vector[:2] * np.sqrt(unit), atol=2e-4)
        np.testing.assert_allclose(found[user].bias, vector[2] * unit, atol=2e-4)
        np.testing.assert_allclose(found[user].prior_bias, pulled[0][n][2] * unit, atol=2e-4)
    solved = from_blocks(fit.items, links.item_index, "item_id", 3).orderBy("item_id").collect()
    np.testing.assert_allclose([r.vector for r in solved[:4]], items[:4], atol=2e-4)


def test_the_last_rating_of_a_pair_in_each_split_counts(spark: SparkSession):
    rows = [
        ("u", 1, 10, 2.0, "train"),
        ("u", 1, 20, 4.0, "train"),
        ("u", 1, 30, None, "train"),
        ("u", 1, 5, 3.0, "test"),
    ]
    events = spark.createDataFrame(
        rows, "user_id string, item_id bigint, order_key bigint, rating double, split string"
    )
    assert sorted(tuple(r) for r in rating_solves.last_ratings(events).collect()) == [
        ("u", 1, "test", 3.0),
        ("u", 1, "train", 4.0),
    ]


@pytest.mark.parametrize("link", ["identity", "sigmoid"])
def test_a_prediction_is_the_sum_of_its_parts_and_within_the_scale(spark: SparkSession, link):
    """3.5 + 0.2 + (-0.2) + (1 · 2 + 2 · -0.5); then one above the scale; then a user that is not known."""
    users = spark.createDataFrame(
        [(1, 0.2, [1.0, 2.0]), (2, 1.2, [2.0, 0.5])], "user_id bigint, bias double, vector array<float>"
    )
    items = spark.createDataFrame(
        [(7, -0.2, [2.0, -0.5]), (8, 0.2, [0.0, 0.0])], "item_id bigint, bias double, vector array<float>"
    )
    pairs = spark.createDataFrame([(1, 7), (2, 7), (3, 8)], "user_id bigint, item_id bigint")
    settings = RatingSettings(embedding_size=2, link=link)
    found = rating_solves.predicted(pairs, users, items, 3.5, settings, Scale(1, 5))
    sums = np.array([4.5, 8.25, 3.7])
    expected = sums.clip(1, 5) if link == "identity" else 1 + 4 / (1 + np.exp(-sums))
    np.testing.assert_allclose([r.prediction for r in found.orderBy("user_id").collect()], expected, rtol=1e-6)


def test_groups_of_features_weigh_the_same_and_a_row_without_one_is_at_its_mean(spark: SparkSession, tmp_path):
    """Lengths 1 and 3 around the mean have mean square 1 after; the third user has no second group."""
    index = spark.createDataFrame([("a",), ("b",), ("c",)], "user_id string")
    pairs = spark.createDataFrame([("a", 1, 1.0)], "user_id string, item_id bigint, weight double")
    links = Links(pairs, spark.createDataFrame([(1,)], "item_id bigint"), 2, str(tmp_path), index)
    one = group(spark, "user_id", ["a", "b", "c"], np.array([[0.0], [3.0], [6.0]]))
    other = unit_length(
        group(spark, "user_id", ["a", "b", "c"], np.array([[0.0, 9.0], [5.0, 0.0], [0.0, 0.0]])), "user_id"
    )
    made = features([one, other], links.users, "user_id", str(tmp_path / "f"))
    found = {r.user_id: r.vector for r in from_blocks(made.blocks, links.user_index, "user_id", made.size).collect()}
    a, b = 3 / np.sqrt(6), 1 / np.sqrt(2)
    np.testing.assert_allclose([found[u] for u in "abc"], [[-a, -b, b], [0, b, -b], [a, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(made.centre, [3, 0.5, 0.5])
