"""ratings: how each user would rate each item, from biases and factors pulled to what is known of user and item.

It runs where the configuration has a section `ratings`. `models.ratings` has the formulas; an item's features are its text
vector and, with `interaction_vectors`, its vector in the lists' model, for who meets what also says how it will be liked
(Koren 2008); a user's are the attributes of `user_features` and, likewise, the factors. All of it is learned from train.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from safetensors.numpy import save_file

from recspark.data import rating_solves
from recspark.data.attributes import Encoding, Kind, encoded, learn_encoding
from recspark.data.blocks import Links, Side, keep
from recspark.data.features import Features, features, unit_length
from recspark.data.priors import RidgePrior
from recspark.data.rating_solves import Fit, factor_rows, fit_ratings, predicted, rating_prior
from recspark.data.sums import exact_mean
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.ratings import RatingSettings, Scale, start_of, stretched, stretched_offset
from recspark.stages.versions import require_factors_of, retriever_behind
from recspark.tables import (
    INTERACTIONS,
    ITEM_VECTORS,
    ITEMS,
    PREDICTED_RATINGS,
    RATING_ITEM_FACTORS,
    RATING_USER_FACTORS,
    TEXT_VECTORS,
    USER_FACTORS,
    USERS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items", "users", "user_factors", "text_vectors", "item_vectors")
OUTPUTS = ("rating_user_factors", "rating_item_factors", "predicted_ratings", "models/ratings")
HELD_OUT = ("valid", "test")
BIAS_ITERATIONS = 5  # of the baseline; biases alone settle soon


class RatingsConfig(RatingSettings):
    """Explicit ratings; the defaults were chosen on a held-out fifth of the training ratings of MovieLens-100K (protocol A)."""

    iterations: int = Field(15, ge=1, description="rounds of a user and an item solve")
    scale: tuple[float, float] | None = Field(None, description="least and greatest rating; if not set, those of train")
    user_features: dict[str, Kind] = Field({}, description="attributes of users to learn from: numeric or category")
    max_categories: int = Field(100, ge=1, le=1000, description="commonest values of a category that count")
    min_category_users: int = Field(5, ge=1, description="users that a value of a category must have to count")
    interaction_vectors: bool = Field(True, description="the vectors of who met what are features too")
    item_ridge: float = Field(3.0, gt=0, description="ridge of the map from an item's features to its prior")
    user_ridge: float = Field(25.0, gt=0, description="ridge of the map from a user's features to the user's prior")
    blocks: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="blocks a side; null: one for every million pairs and 100,000 rows, from 2 to 2,000",
    )

    @field_validator("scale")
    @classmethod
    def _scale_goes_up(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not (np.isfinite(scale).all() and scale[0] < scale[1]):
            raise ValueError("must be two numbers, the lower first")
        return scale


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, items, users and vectors; write the rating factors, predicted_ratings and the model `ratings`.

    Raises UserError if train has no rating, a rating lies outside the given scale, or a user feature is nowhere to be found.
    """
    settings, scratch = config.ratings, lake.scratch("ratings")
    if settings is None:
        raise UserError("ratings: the configuration has no section ratings; docs/ratings.md tells of it")
    version = retriever_behind(lake, ITEM_VECTORS)
    require_factors_of(lake, "ratings", version)
    ratings = keep(rating_solves.last_ratings(lake.read(spark, INTERACTIONS)), f"{scratch}/ratings")
    scale = scale_of(ratings, settings)
    users, items = lake.read(spark, USERS), lake.read(spark, ITEMS)

    links = Links(shares(ratings, scale), items.select("item_id"), settings.blocks, scratch, users.select("user_id"))
    offset = start_of(settings.link, mean_share(ratings, scale))
    encoding = user_encoding(users, settings)
    factors = lake.read(spark, USER_FACTORS, version.run_date) if settings.interaction_vectors else None
    groups = user_groups(users, encoding, factors)
    of_users = known(groups, links.users, "user_id", settings.user_ridge, f"{scratch}/of-users") if groups else None
    groups = item_groups(spark, lake, settings, items)
    of_items = known(groups, links.items, "item_id", settings.item_ridge, f"{scratch}/of-items")

    priors = (of_users.prior if of_users else None, of_items.prior)
    fit = fit_ratings(links, offset, settings, settings.iterations, *priors, config.seed, scratch)
    write_factors(lake, links, fit, *priors, settings, scale)
    write_predictions(spark, lake, ratings, by_biases(links, offset, settings, scale, scratch), settings, offset, scale)
    write_model(lake, settings, scale, offset, encoding, fit, of_users, of_items)
    lake.clear_scratch("ratings")


@dataclass(frozen=True)
class Known:
    """What is known of a side's rows beside their ratings, and the prior that is made of it."""

    features: Features
    prior: RidgePrior


def scale_of(ratings: DataFrame, settings: RatingsConfig) -> Scale:
    """The given scale, or the ends of train."""
    train = F.when(F.col("split") == "train", F.col("rating"))
    found = ratings.agg(
        F.min(train).alias("low"),
        F.max(train).alias("high"),
        F.min("rating").alias("least"),
        F.max("rating").alias("most"),
    ).first()
    if found is None or found["low"] is None:
        raise UserError(
            "ratings: no training interaction has a rating; set preprocess.interactions.columns.rating to the raw column that "
            "has them and run preprocess again, or leave out the section ratings"
        )
    if settings.scale is None:
        return Scale(found["low"], found["high"])
    scale = Scale(*settings.scale)
    if found["least"] < scale.low or found["most"] > scale.high:
        raise UserError(
            f"ratings.scale is {scale.low:g} to {scale.high:g}, but the ratings of interactions go from {found['least']:g} to "
            f"{found['most']:g}; set ratings.scale so that it holds them, or leave it out"
        )
    return scale


def shares(ratings: DataFrame, scale: Scale) -> DataFrame:
    """(user_id, item_id, weight): the training ratings as shares of the scale."""
    share = (F.col("rating") - scale.low) / scale.width if scale.width else F.lit(0.0)
    return ratings.where("split = 'train'").select("user_id", "item_id", share.alias("weight"))


def mean_share(ratings: DataFrame, scale: Scale) -> float:
    """Mean of the training ratings as a share of the scale."""
    found = shares(ratings, scale).agg(exact_mean("weight").alias("mean")).first()
    assert found is not None  # an aggregate without groups has one row
    return float(found["mean"])


def user_encoding(users: DataFrame, settings: RatingsConfig) -> Encoding | None:
    """How the attributes of users become numbers; None where none is asked for, or no value is common enough."""
    if not settings.user_features:
        return None
    most, least = settings.max_categories, settings.min_category_users
    encoding = learn_encoding(users, settings.user_features, most, least, "ratings.user_features")
    return encoding if encoding.names else None


def user_groups(users: DataFrame, encoding: Encoding | None, factors: DataFrame | None) -> list[DataFrame]:
    """Groups of a user's features, each (user_id, vector)."""
    groups = [encoded(users, encoding)] if encoding else []
    return groups if factors is None else [*groups, unit_length(factors, "user_id")]


def item_groups(spark: SparkSession, lake: Lake, settings: RatingsConfig, items: DataFrame) -> list[DataFrame]:
    """Groups of an item's features, each (item_id, vector)."""
    texts = lake.read(spark, TEXT_VECTORS).select("text_hash", "vector")
    groups = [items.select("item_id", "text_hash").join(texts, "text_hash").select("item_id", "vector")]
    if settings.interaction_vectors:
        groups.append(unit_length(lake.read(spark, ITEM_VECTORS), "item_id"))
    return groups


def known(groups: list[DataFrame], side: Side, id_column: str, ridge: float, scratch: str) -> Known:
    """The features of a side, and their prior."""
    made = features(groups, side, id_column, scratch)
    return Known(made, rating_prior(made.blocks, side, made.size, ridge, scratch))


def by_biases(
    links: Links, offset: float, settings: RatingsConfig, scale: Scale, scratch: str
) -> tuple[DataFrame, DataFrame]:
    """(users, items) of the baseline that has biases alone and knows no features."""
    alone = settings.model_copy(update={"embedding_size": 0})
    fit = fit_ratings(links, offset, alone, BIAS_ITERATIONS, None, None, 0, f"{scratch}/biases")
    sides = ((links.users, fit.users, "user_id"), (links.items, fit.items, "item_id"))
    users, items = (factor_rows(side, blocks, None, None, alone, scale, name) for side, blocks, name in sides)
    return users, items


def write_factors(
    lake: Lake,
    links: Links,
    fit: Fit,
    user_prior: RidgePrior | None,
    item_prior: RidgePrior,
    settings: RatingsConfig,
    scale: Scale,
) -> None:
    """The tables of users and items."""
    users = factor_rows(links.users, fit.users, user_prior, fit.user_map, settings, scale, "user_id")
    items = factor_rows(links.items, fit.items, item_prior, fit.item_map, settings, scale, "item_id")
    lake.write(users, RATING_USER_FACTORS)
    lake.write(items, RATING_ITEM_FACTORS)


def write_predictions(
    spark: SparkSession,
    lake: Lake,
    ratings: DataFrame,
    biases: tuple[DataFrame, DataFrame],
    settings: RatingsConfig,
    offset: float,
    scale: Scale,
) -> None:
    """The held-out ratings beside what the model, biases alone and the mean say."""
    held_out, start = ratings.where(F.col("split").isin(*HELD_OUT)), stretched_offset(offset, settings.link, scale)
    users, items = (lake.read(spark, table) for table in (RATING_USER_FACTORS, RATING_ITEM_FACTORS))
    rows = predicted(held_out, *biases, start, settings, scale).withColumnRenamed("prediction", "by_biases")
    rows = predicted(rows, users, items, start, settings, scale)
    mean = scale.low + scale.width * mean_share(ratings, scale)
    lake.write(rows.withColumn("by_mean", F.lit(mean)), PREDICTED_RATINGS)


def write_model(
    lake: Lake,
    settings: RatingsConfig,
    scale: Scale,
    offset: float,
    encoding: Encoding | None,
    fit: Fit,
    of_users: Known | None,
    of_items: Known,
) -> None:
    """The model `ratings`: the offset, the scale, and the maps from features as they come to [p, b] of what has no rating."""
    tensors = {}
    for name, side, feature_map in (("user", of_users, fit.user_map), ("item", of_items, fit.item_map)):
        if side is not None and feature_map is not None:
            weight, bias = raw_map(side, feature_map)
            tensors[f"{name}_weight"] = stretched(weight, settings.link, scale)
            tensors[f"{name}_bias"] = stretched(bias[None], settings.link, scale)[0]
    about = {
        "settings": settings.model_dump(),
        "scale": [scale.low, scale.high],
        "offset": stretched_offset(offset, settings.link, scale),
        "user_attributes": encoding and {"numbers": encoding.numbers, "categories": encoding.categories},
    }
    with TemporaryDirectory() as folder:
        save_file({n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items()}, f"{folder}/ratings.safetensors")
        (Path(folder) / "ratings.json").write_text(json.dumps(about, indent=2))
        lake.write_model("ratings", folder)


def raw_map(side: Known, feature_map: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(H, k + 1) and (k + 1,): the map with centring and scaling folded in."""
    weight = side.features.scale[:, None] * feature_map[:-1]
    centre = side.features.centre * side.features.scale + side.prior.centre
    return weight, feature_map[-1] - centre @ feature_map[:-1]
