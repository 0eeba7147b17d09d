"""Ratings from a small made-up lake: what is written, of whom, and what it says of those who never rated."""

import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from recspark.errors import UserError
from recspark.evaluation import rating_errors
from recspark.lake import Lake
from recspark.pipeline import Deployment
from recspark.stages import judged_rows, rating_judge, ratings
from recspark.stages.ratings import RatingsConfig
from recspark.tables import (
    INTERACTIONS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    ITEMS,
    PREDICTED_RATINGS,
    RATING_ITEM_FACTORS,
    RATING_USER_FACTORS,
    TEXT_VECTORS,
    USER_FACTORS,
    USERS,
)
from tests.vector_world import table_frame

SETTINGS = {"embedding_size": 2, "iterations": 1, "blocks": 2, "min_category_users": 1}
FEATURES = {"age": "numeric", "job": "category"}


def write_lake(spark, path, events: list[tuple], users: int, items: int) -> Lake:
    """events: (user, item, rating, split). Item n's text vector is [cos n, sin n]; users are 20 + n years old, writers or kings."""
    (path / "model").mkdir()
    (path / "model" / "any").write_text("model")
    lake = Lake(str(path / "lake"), datetime.date(2026, 11, 24))
    vectors = {i: [float(np.cos(i)), float(np.sin(i))] for i in range(items)}
    people = [(u, 1, {"age": str(20 + u), "job": ("writer", "king")[u % 2]}) for u in range(users)]
    frames = {
        INTERACTIONS: [(u, i, n, None, r, 1.0, None, split) for n, (u, i, r, split) in enumerate(events)],
        ITEMS: [(i, "", "", f"text-{i}", [1], {}) for i in vectors],
        TEXT_VECTORS: [(f"text-{i}", "model", v) for i, v in vectors.items()],
        ITEM_VECTORS: [(i, v, v, 1, 1.0, f"text-{i}", "model") for i, v in vectors.items()],
        ITEM_FACTORS: [(i, 1, 1.0, v, v) for i, v in vectors.items()],
        USERS: people,
        USER_FACTORS: [(u, 1, [1.0, float(u)]) for u in range(users)],
    }
    for table, rows in frames.items():
        lake.write(table_frame(spark, table, rows), table)
    for table in (USER_FACTORS, ITEM_FACTORS):  # what the retriever was trained with
        lake.read(spark, table)
    lake.write_model("retriever", path / "model")
    return lake


def run(spark, lake: Lake, **settings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratings, "BIAS_ITERATIONS", 1)
        ratings.run(spark, lake, SimpleNamespace(seed=42, ratings=RatingsConfig(**{**SETTINGS, **settings})))


def read(spark, lake: Lake, table) -> pd.DataFrame:
    return lake.read(spark, table).toPandas().sort_values(list(table.key)).reset_index(drop=True)


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """8 users, 6 items; user 7 and item 5 have no rating in train, and each has one in test."""
    draw = np.random.default_rng(0)
    events = [(u, i, float(draw.integers(1, 6)), "train") for u in range(7) for i in range(5) if draw.random() < 0.7]
    events += [(0, 0, 1.0, "train"), (1, 0, 5.0, "train")]  # the last of each pair, and both ends of the scale
    events += [
        (7, 0, 4.0, "test"),
        (0, 5, 2.0, "test"),
        (1, 1, 9.0, "test"),
        (2, 2, 3.0, "valid"),
        (3, 3, None, "test"),
    ]
    lake = write_lake(spark, tmp_path_factory.mktemp("world"), events, 8, 6)
    run(spark, lake, user_features=FEATURES)
    last = {(u, i): r for u, i, r, split in events if split == "train"}
    return lake, last, read(spark, lake, RATING_USER_FACTORS), read(spark, lake, RATING_ITEM_FACTORS)


def test_an_items_row_is_the_ridge_of_its_ratings_in_the_ratings_own_units(world):
    """In the first iteration nothing is pulled; λ of factors is 4 on a scale 1 wide, 16 on ratings of 1 to 5, of biases 5."""
    _, last, users, items = world
    mean = np.mean(list(last.values()))
    for item in range(5):
        mine = [u for u, i in last if i == item]
        features = np.hstack([np.stack(list(users.vector[mine])), np.ones((len(mine), 1))])
        right = np.array([last[u, item] for u in mine]) - users.bias[mine].to_numpy() - mean
        solved = np.linalg.solve(features.T @ features + np.diag([16, 16, 5]), features.T @ right)
        np.testing.assert_allclose([*items.vector[item], items.bias[item]], solved, atol=1e-4)
        assert items.ratings[item] == len(mine)


def test_who_or_what_nobody_rated_is_its_prior_which_the_model_gives_again(world):
    lake, _, users, items = world
    assert (users.ratings[7], items.ratings[5]) == (0, 0)
    folder = lake.read_model("ratings")[0]
    maps, about = load_file(f"{folder}/ratings.safetensors"), json.loads(Path(folder, "ratings.json").read_text())
    text = np.array([np.cos(5), np.sin(5)])
    item = np.concatenate([text, text]) @ maps["item_weight"] + maps["item_bias"]
    met = np.array([1, 7]) / np.sqrt(50)
    age, deviation = about["user_attributes"]["numbers"]["age"]
    places = about["user_attributes"]["categories"]["job"]
    user = np.array([(27 - age) / deviation, *(value == "king" for value in places), *met])
    user = user @ maps["user_weight"] + maps["user_bias"]
    np.testing.assert_allclose([*items.vector[5], items.bias[5]], item, atol=1e-4)
    np.testing.assert_allclose([*users.vector[7], users.bias[7]], user, atol=1e-4)
    np.testing.assert_allclose(items.prior[5], items.vector[5])
    assert np.abs(user).max() > 1e-3


def test_held_out_ratings_are_predicted_from_the_tables_within_the_scale(spark, world):
    lake, last, users, items = world
    found = read(spark, lake, PREDICTED_RATINGS)
    pairs = list(zip(found.user_id, found.item_id, found.split, found.rating, strict=True))
    assert pairs == [(0, 5, "test", 2.0), (1, 1, "test", 9.0), (2, 2, "valid", 3.0), (7, 0, "test", 4.0)]
    mean = np.mean(list(last.values()))
    for row in found.itertuples():
        x = mean + users.bias[row.user_id] + items.bias[row.item_id]
        x += np.dot(users.vector[row.user_id], items.vector[row.item_id])
        assert row.prediction == pytest.approx(np.clip(x, 1, 5), abs=1e-5)
        assert row.by_mean == pytest.approx(mean)
        assert 1 <= row.by_biases <= 5


def test_errors_are_judged_by_slice_beside_biases_and_mean(spark, world):
    lake = world[0]
    predicted, items = lake.read(spark, PREDICTED_RATINGS), lake.read(spark, RATING_ITEM_FACTORS)
    rows = rating_judge.judge_ratings(predicted, items, 42, 100, 2)
    found = {row[:4]: row[4:] for row in rows}
    table = read(spark, lake, PREDICTED_RATINGS)
    table = table[table.split == "test"]
    for name, mine in {"all": table, "cold": table[table.item_id == 5], "warm": table[table.item_id != 5]}.items():
        for model, column in rating_judge.MODELS.items():
            error = (mine[column] - mine.rating).to_numpy()
            value, low, high, users = found[model, name, "rmse", 0]
            assert value == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-6)
            assert found[model, name, "mae", 0][0] == pytest.approx(np.abs(error).mean(), abs=1e-6)
            assert low <= value <= high
            assert users == mine.user_id.nunique()
    assert len(found) == 18
    assert "ratings        cold" in judged_rows.readable(rows, 0, rating_errors.METRICS)


def test_equal_ratings_of_one_user_and_one_item_are_predicted_as_they_are(spark, tmp_path):
    lake = write_lake(spark, tmp_path, [(0, 0, 3.0, "train"), (0, 0, 4.0, "test")], 1, 1)
    run(spark, lake)
    assert read(spark, lake, PREDICTED_RATINGS)[["prediction", "by_biases", "by_mean"]].to_numpy().tolist() == [
        [3.0] * 3
    ]


@pytest.mark.parametrize(
    ("rating", "settings", "said"),
    [
        (None, {}, "no training interaction has a rating; set preprocess.interactions.columns.rating"),
        (3.0, {"scale": (0, 2)}, "ratings.scale is 0 to 2, but the ratings of interactions go from 3 to 3"),
        (3.0, {"user_features": {"height": "numeric"}}, "ratings.user_features names height, which no user has"),
    ],
)
def test_ratings_that_cannot_be_learned_from_are_the_users_error_and_nothing_is_written(
    spark, tmp_path, rating, settings, said
):
    lake = write_lake(spark, tmp_path, [(0, 0, rating, "train")], 1, 1)
    with pytest.raises(UserError, match=said):
        run(spark, lake, **settings)
    assert not lake.has(RATING_USER_FACTORS)


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        {"scale": (5, 1)},
        {"scale": (1, float("inf"))},
        {"user_features": {"age": "words"}},
        {"link": "tanh"},
    ):
        with pytest.raises(ValueError, match="RatingsConfig"):
            RatingsConfig(**wrong)
    assert RatingsConfig(scale=(0.5, 5)).scale == (0.5, 5)


def test_a_configuration_that_gives_ratings_nothing_to_learn_from_is_refused_before_anything_runs():
    raw = {"lake": "l", "encoder": {"path": "e"}, "ratings": {"user_features": {"age": "numeric"}}}
    source = {
        "interactions": {"path": "p", "columns": {"rating": "r"}},
        "items": {"path": "i", "text": "{t}"},
        "split": {"kind": "random"},
    }
    with pytest.raises(ValueError, match=r"ratings needs preprocess\.interactions\.columns\.rating"):
        Deployment(**raw, preprocess={**source, "interactions": {"path": "p"}})
    with pytest.raises(ValueError, match=r"names age, which preprocess\.users\.attributes does not; it has \['sex'\]"):
        Deployment(**raw, preprocess={**source, "users": {"path": "u", "attributes": {"sex": "g"}}})
    assert Deployment(**raw, preprocess={**source, "users": {"path": "u", "attributes": {"age": "a"}}}).ratings
