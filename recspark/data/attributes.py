"""Attributes of users as numbers: what a ridge can read. A numeric one is standardised, a category is one-hot."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recspark.data.sums import exact_mean
from recspark.data.values import number
from recspark.errors import UserError
from recspark.models.factors import Floats

Kind = Literal["numeric", "category"]


@dataclass(frozen=True)
class Encoding:
    """numbers: name to (mean, deviation); categories: name to the values that have a place of their own."""

    numbers: Mapping[str, tuple[float, float]]
    categories: Mapping[str, Sequence[str]]

    @property
    def names(self) -> list[str]:
        """What each place stands for: `age`, `occupation=writer`."""
        return [*self.numbers, *(f"{name}={value}" for name, values in self.categories.items() for value in values)]

    def encode(self, table: pd.DataFrame) -> Floats:
        """(rows, places) of a table with a column an attribute. Missing numbers count as the mean; other values have no place."""
        columns = [
            np.nan_to_num((table[name].to_numpy(np.float64) - mean) / deviation)
            for name, (mean, deviation) in self.numbers.items()
        ]
        columns += [
            (table[name] == value).to_numpy(np.float64) for name, values in self.categories.items() for value in values
        ]
        return np.stack(columns, axis=1).astype(np.float32)


def encoded(users: DataFrame, encoding: Encoding) -> DataFrame:
    """(user_id, vector) of (user_id, attributes)."""

    def run(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for piece in pieces:
            yield piece[["user_id"]].assign(vector=list(encoding.encode(piece)))

    columns = [*(numeric(n).alias(n) for n in encoding.numbers), *(text(n).alias(n) for n in encoding.categories)]
    id_type = users.schema["user_id"].dataType.simpleString()
    return users.select("user_id", *columns).mapInPandas(run, f"user_id {id_type}, vector array<float>")


def learn_encoding(users: DataFrame, kinds: Mapping[str, Kind], most: int, least: int, where: str) -> Encoding:
    """From (user_id, attributes): of a category the `most` commonest values that at least `least` users have, by count.

    where: the setting that names the attributes. Raises UserError for an attribute that no user has, or a numeric one that
    nobody has as a number.
    """
    require_attributes(users, list(kinds), where)
    numbers = {name: moments(users, name, where) for name, kind in kinds.items() if kind == "numeric"}
    categories = {name: values(users, name, most, least) for name, kind in kinds.items() if kind == "category"}
    return Encoding(numbers, categories)


def require_attributes(users: DataFrame, names: Sequence[str], where: str) -> None:
    """UserError unless every attribute is there for someone."""
    found = users.select(F.explode(F.map_keys("attributes")).alias("name")).distinct().orderBy("name").collect()
    known = [row["name"] for row in found]
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(
            f"{where} names {', '.join(missing)}, which no user has; users have {known or 'no attributes'}: name it in "
            f"preprocess.users.attributes and run preprocess again, or leave it out of {where}"
        )


def numeric(name: str) -> Column:
    """The attribute as a finite double, null where it is none."""
    value = number(F.col("attributes").getItem(name), T.StringType(), name)
    return F.when(~F.isnan(value) & (F.abs(value) < float("inf")), value)


def text(name: str) -> Column:
    return F.col("attributes").getItem(name)


def moments(users: DataFrame, name: str, where: str) -> tuple[float, float]:
    """Mean and deviation (1 for a constant) over the users who have the number."""
    values = users.select(numeric(name).alias("value")).where("value IS NOT NULL")
    largest = values.agg(F.max(F.abs("value")).alias("largest")).first()
    if largest is None or largest["largest"] is None:
        raise UserError(
            f"{where}.{name} is numeric, but no user has a number there; set it to category, or leave it out"
        )
    unit = largest["largest"] or 1.0  # within [-1, 1] the exact sums cannot overflow
    share = F.col("value") / unit
    found = values.agg(exact_mean(share).alias("mean"), exact_mean(share**2).alias("square")).first()
    assert found is not None  # an aggregate without groups has one row
    variance = max(found["square"] - found["mean"] ** 2, 0.0)
    return found["mean"] * unit, unit * float(np.sqrt(variance)) if variance > 1e-11 else 1.0


def values(users: DataFrame, name: str, most: int, least: int) -> tuple[str, ...]:
    """The commonest values, in the order of their counts, then of the values."""
    counted = users.groupBy(text(name).alias("value")).count().where("value IS NOT NULL").where(F.col("count") >= least)
    return tuple(row["value"] for row in counted.orderBy(F.desc("count"), "value").limit(most).collect())
