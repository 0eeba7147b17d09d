"""Raw inputs: how a deployment describes them, and reading them under our column names with their values untouched."""

import datetime
import difflib
from typing import Any

from pydantic import Field, field_validator, model_validator
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.arrivals import Arrived, arrived_by, folders_by
from recspark.data.sources import RawTable, open_raw
from recspark.data.text import LONGEST_TEXT, Template, parse_template
from recspark.data.values import BLANK, TimeUnit, at, plain_text
from recspark.errors import UserError
from recspark.tables import is_id_type


class InteractionColumns(Settings):
    """Raw column names of interactions; what is left out is not there."""

    user_id: str = Field("user_id", description="a string, an integer, or a decimal without fraction")
    item_id: str = Field("item_id", description="likewise, of the type that the items have")
    timestamp: str | None = Field(
        None, description="a number (see time_unit), an ISO 8601 string, a date or a timestamp"
    )
    order: str | None = Field(None, description="instead of timestamp: whole numbers that sort a user's events")
    rating: str | None = Field(
        None, description="a number; the stage ratings and objective mse learn from it, the lists do not"
    )
    weight: str | None = Field(
        None,
        description="how much an event counts, 1 where there is none; those of a pair add up, as far as preprocess.duplicates keeps them; 0 says nothing "
        "to the factorization and EASE; the objectives by pair weigh their targets by it; histories, the sequence model and rerankers take all events alike",
    )
    event_type: str | None = Field(None, description="kept in the table for SQL; no stage looks at it")
    split: str | None = Field(None, description="for split: {kind: provided}")

    @model_validator(mode="after")
    def _one_order(self) -> "InteractionColumns":
        if self.timestamp and self.order:
            raise ValueError("give one of timestamp and order")
        return self


class RawInteractions(RawTable):
    """Who met what, and when."""

    columns: InteractionColumns = InteractionColumns()
    arrived: Arrived | None = Field(
        None, description="a night reads only what had arrived by its run date; without, all that is there"
    )
    time_unit: TimeUnit = Field(
        "auto",
        description="of numeric timestamps; auto tells each by its magnitude, and rejects numbers below 100,000,000, such as 20260131",
    )


class ItemColumns(Settings):
    """Raw column names of items."""

    item_id: str = Field("item_id", description="a string, an integer, or a decimal without fraction")


class RawItems(RawTable):
    """The catalogue with its text."""

    columns: ItemColumns = ItemColumns()
    text: str = Field(description='what the encoder reads, such as "{title} ({year}). {genres}"')
    title: str | None = Field(None, description="a short name in the same way; by default the first column of text")
    attributes: dict[str, str] = Field({}, description="our name: raw column; kept for people and reports")

    @field_validator("text", "title")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        if value is not None:
            parse_template(value)
        return value

    @property
    def text_template(self) -> Template:
        return parse_template(self.text)

    @property
    def title_template(self) -> Template:
        if self.title is None:
            return Template(("", ""), self.text_template.fields[:1])
        return parse_template(self.title)


class UserColumns(Settings):
    """Raw column names of users."""

    user_id: str = Field("user_id", description="of the type that the interactions have")


class RawUsers(RawTable):
    """People and what is known of them."""

    columns: UserColumns = UserColumns()
    attributes: dict[str, str] = Field({}, description="our name: raw column")


# ---- reading


def read_interactions(spark: SparkSession, table: RawInteractions, run_date: datetime.date) -> DataFrame:
    """One column for each that settings name, under our name, of the raw type; what had arrived by the run date.

    Raises UserError for a missing path or column, for ids that are neither strings nor integers, for arrivals that are no dates, and where
    nothing had arrived.
    """
    arrived = table.arrived
    folders = folders_by(spark, table, arrived, run_date) if arrived else None
    frame = open_raw(spark, "preprocess.interactions", table, folders)
    names = column_names(table.columns)
    wanted = {f"columns.{ours}": [raw] for ours, raw in names.items()}
    wanted |= {"arrived.column": [arrived.column]} if arrived else {}
    require_columns(frame, "preprocess.interactions", wanted)
    if arrived:
        frame = arrived_by(frame, arrived, run_date)
    chosen = frame.select(*(at(raw).alias(ours) for ours, raw in names.items()))
    return require_ids(chosen, "preprocess.interactions")


def read_items(spark: SparkSession, table: RawItems) -> DataFrame:
    """item_id (raw type), text_fields and title_fields array<string>, attributes map<string,string>, row (JSON).

    Raises UserError as `read_interactions` does.
    """
    where = "preprocess.items"
    frame = open_raw(spark, where, table)
    text, title = table.text_template.fields, table.title_template.fields
    wanted = {"columns.item_id": [table.columns.item_id], "text": list(text), "title": list(title)}
    require_columns(frame, where, {**wanted, "attributes": list(table.attributes.values())})

    chosen = frame.select(
        at(table.columns.item_id).alias("item_id"),
        texts(frame, text, where).alias("text_fields"),
        texts(frame, title, where).alias("title_fields"),
        attribute_map(frame, table.attributes, where).alias("attributes"),
        as_json([table.columns.item_id, *text, *title, *table.attributes.values()]).alias("row"),
    )
    return require_ids(chosen, where)


def read_texts(spark: SparkSession, table: RawTable, template: Template, where: str) -> DataFrame:
    """text_fields array<string>: what the template is filled with.

    Raises UserError as `read_interactions` does.
    """
    frame = open_raw(spark, where, table)
    require_columns(frame, where, {"text": list(template.fields)})
    return frame.select(texts(frame, template.fields, where).alias("text_fields"))


def read_users(spark: SparkSession, table: RawUsers) -> DataFrame:
    """user_id (raw type), attributes map<string,string>, row (JSON).

    Raises UserError as `read_interactions` does.
    """
    where = "preprocess.users"
    frame = open_raw(spark, where, table)
    attributes = list(table.attributes.values())
    require_columns(frame, where, {"columns.user_id": [table.columns.user_id], "attributes": attributes})
    chosen = frame.select(
        at(table.columns.user_id).alias("user_id"),
        attribute_map(frame, table.attributes, where).alias("attributes"),
        as_json([table.columns.user_id, *attributes]).alias("row"),
    )
    return require_ids(chosen, where)


# ---- columns


def column_names(columns: Settings) -> dict[str, str]:
    """our name -> raw name of the columns that are there."""
    return {ours: raw for ours, raw in columns if raw is not None}


def as_json(names: list[str]) -> Column:
    """The named raw columns as one JSON object, nulls included."""
    return F.to_json(F.struct(*(at(n) for n in dict.fromkeys(names))), {"ignoreNullFields": "false"})


def as_text(frame: DataFrame, name: str, where: str) -> Column:
    """A raw column as text."""
    return plain_text(at(name), frame.schema[name].dataType, f"{where}: column {name!r}")


def texts(frame: DataFrame, names: tuple[str, ...], where: str) -> Column:
    """array<string> of raw columns as text, each cut to LONGEST_TEXT."""
    return F.array(*(F.substring(as_text(frame, name, where), 1, LONGEST_TEXT) for name in names))


def attribute_map(frame: DataFrame, attributes: dict[str, str], where: str) -> Column:
    """map<string,string> of the attributes that have a value."""
    pairs = [part for ours, raw in attributes.items() for part in (F.lit(ours), as_text(frame, raw, where))]
    mapping = F.create_map(*pairs).cast("map<string,string>")
    return F.map_filter(mapping, lambda _, value: ~value.rlike(BLANK))


def require_columns(frame: DataFrame, where: str, wanted: dict[str, list[str]]) -> None:
    """UserError naming every column that a setting wants and the frame lacks, with the nearest that it has, or has more than once."""
    faults = []
    for setting, names in wanted.items():
        for name in names:
            if name not in frame.columns:
                near = difflib.get_close_matches(name, frame.columns, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                faults.append(f"lacks column {name!r} ({where}.{setting}){hint}")
            elif frame.columns.count(name) > 1:
                faults.append(
                    f"has column {name!r} ({where}.{setting}) more than once; give each a name of its own in `sql`"
                )
    if faults:
        raise UserError(f"{where}: " + "; ".join(dict.fromkeys(faults)) + f"; it has {shorten(frame.columns)}")


def require_ids(frame: DataFrame, where: str) -> DataFrame:
    """The frame; UserError if an id column is neither string nor integer."""
    for name in ("user_id", "item_id"):
        if name in frame.columns and not is_id_type(frame.schema[name].dataType):
            found = frame.schema[name].dataType.simpleString()
            raise UserError(f"{where}: {name} is {found}; ids are strings or integers; cast it in `sql`")
    return frame


def require_same_ids(interactions: DataFrame, other: DataFrame, name: str, where: str) -> None:
    """UserError if two tables hold one id in two types, for they would never meet."""
    ours, theirs = (
        interactions.schema[name].dataType.simpleString(),
        other.schema[name].dataType.simpleString(),
    )
    if ours != theirs:
        raise UserError(
            f"{name} is {ours} in preprocess.interactions and {theirs} in {where}; they must agree: "
            f"read one of the two by `sql`, with CAST({name} AS STRING) for example"
        )


def shorten(names: list[Any], most: int = 20) -> str:
    """A list for an error message."""
    return f"[{', '.join(map(str, names[:most]))}{', …' if len(names) > most else ''}]"
