"""preprocess: raw logs and texts become clean, split, tokenised tables; what is left out goes to rejects with its reason.

Everything is read, judged and counted before the first table is written: input that cannot do is one UserError, and
the lake stays as it was.
"""

import datetime
import logging
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data import cleaning, raw
from recspark.data.events import Duplicates, deduplicate, k_core
from recspark.data.raw import RawInteractions, RawItems, RawUsers
from recspark.data.sources import Source, SourceName, file_errors, source_views
from recspark.data.splits import Provided, Split, Temporal
from recspark.data.text import text_preparer
from recspark.errors import UserError
from recspark.lake import Lake, Traffic
from recspark.stages.base_encoder import base_encoder
from recspark.stages.provenance import PREPROCESSED, TOKENIZED_BY, tokenized_by
from recspark.tables import INTERACTIONS, ITEMS, REJECTS, USERS

if TYPE_CHECKING:
    from recspark.models.encoder import EncoderConfig
    from recspark.pipeline import Deployment

INPUTS = ("raw/interactions", "raw/items", "raw/users")
OUTPUTS = ("interactions", "items", "users", "rejects")

Keep = Callable[[DataFrame], DataFrame]
log = logging.getLogger(__name__)


class PreprocessConfig(Settings):
    """Raw tables, cleaning and split."""

    sources: dict[SourceName, Source] = Field({}, description="files by name, for `sql`")
    interactions: RawInteractions
    items: RawItems
    users: RawUsers | None = None
    max_reject_fraction: float = Field(
        0.05, ge=0, le=1, description="of a source's rows; with more, nothing is written"
    )
    duplicates: Duplicates = Field(
        "last", description="of one user with one item: keep the last event of each split, or all"
    )
    min_user_interactions: int = Field(1, ge=1, description="k-core: users with fewer go, again and again")
    min_item_interactions: int = Field(
        1, ge=1, description="k-core: interactions of items with fewer go; the items stay"
    )
    split: Split = Temporal()
    allow_no_test: bool = Field(
        False, description="a split without test rows is no error; there is nothing to evaluate then"
    )

    @model_validator(mode="after")
    def _split_has_its_columns(self) -> "PreprocessConfig":
        columns = self.interactions.columns
        if self.split.needs_order and not (columns.timestamp or columns.order):
            raise ValueError(
                f"split {self.split.kind} needs interactions.columns.timestamp or .order; name one, or use kind random"
            )
        if isinstance(self.split, Provided) and not columns.split:
            raise ValueError("split provided needs interactions.columns.split, the raw column that holds it")
        return self


@dataclass(frozen=True)
class Judged:
    """The raw tables, each row kept or rejected with its reason, in memory."""

    items: DataFrame
    interactions: DataFrame
    users: DataFrame | None

    @property
    def by_source(self) -> dict[str, DataFrame]:
        """Items first: interactions are joined with them, best when their size is known."""
        frames = {"items": self.items, "interactions": self.interactions, "users": self.users}
        return {name: frame for name, frame in frames.items() if frame is not None}


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read the raw tables; write interactions, items, users and rejects, once all of them are sound.

    Raises UserError for whatever the user has to mend.
    """
    settings = config.preprocess
    with ExitStack() as stack, file_errors("preprocess"):

        def keep(frame: DataFrame) -> DataFrame:
            """In memory, and on disk beyond it, until the stage ends: raw data are read and judged once."""
            stack.callback(frame.persist().unpersist)
            return frame

        judged = judge(spark, lake, config, keep)
        kept = count_rejects(lake, settings, judged)
        require_items_for_lists(kept["items"], config.candidates.top_k)
        events = choose_events(cleaning.kept(judged.interactions), settings, keep)
        split = settings.split.assign(events, config.seed).drop("raw_split")
        interactions = keep(deduplicate(split, settings.duplicates))
        require_splits(interactions, settings)
        rejects = [cleaning.rejected(frame, source) for source, frame in judged.by_source.items()]

        about = {PREPROCESSED: uuid.uuid4().hex}
        tokens = {TOKENIZED_BY: tokenized_by(base_encoder(lake, config.encoder))}
        lake.write(cleaning.kept(judged.items), ITEMS, **tokens, **about)
        lake.write(interactions, INTERACTIONS, **about)
        lake.write(user_table(interactions, judged.users), USERS, **about)
        lake.write(reduce(DataFrame.unionByName, rejects), REJECTS)


def judge(spark: SparkSession, lake: Lake, config: "Deployment", keep: Keep) -> Judged:
    """Raw tables with a reason for each row that cannot stay; items with text and tokens."""
    settings, encoder = config.preprocess, base_encoder(lake, config.encoder)
    # The driver loads it first: a model that cannot be read is found before a row is.
    load_tokenizer(encoder)
    prepare = text_preparer(settings.items.text_template, settings.items.title_template, load_tokenizer, encoder)
    with source_views(spark, settings.sources):
        raw_interactions = raw.read_interactions(spark, settings.interactions, lake.run_date)
        raw_items = raw.read_items(spark, settings.items)
        raw_users = raw.read_users(spark, settings.users) if settings.users else None
    raw.require_same_ids(raw_interactions, raw_items, "item_id", "preprocess.items")
    if raw_users is not None:
        raw.require_same_ids(raw_interactions, raw_users, "user_id", "preprocess.users")

    prepared = raw_items.withColumn("prepared", prepare("text_fields", "title_fields"))
    items = keep(cleaning.judge_items(prepared.select("item_id", "prepared.*", "attributes", "row")))
    # A date whose log is told from later ones gives the same whenever it is run.
    today = lake.run_date if settings.interactions.arrived else datetime.datetime.now(datetime.UTC).date()
    latest = cleaning.latest_moment(lake.run_date, today)
    interactions = keep(
        cleaning.judge_interactions(raw_interactions, cleaning.kept(items), settings.interactions, latest, config.seed)
    )
    users = keep(cleaning.judge_users(raw_users)) if raw_users is not None else None
    return Judged(items, interactions, users)


def load_tokenizer(encoder: "EncoderConfig") -> Any:
    """The encoder's own tokenizer; torch comes with it, so it is imported where it is used."""
    from recspark.models import encoder as models

    return models.load_tokenizer(encoder.path, encoder.max_length, encoder.trust_remote_code)


def count_rejects(lake: Lake, settings: PreprocessConfig, judged: Judged) -> dict[str, int]:
    """Say and record how many rows each source has; the number kept of each, or UserError for an empty one or for too many rejects."""
    tallies = [cleaning.tally(frame, source) for source, frame in judged.by_source.items()]
    for count in tallies:
        table = getattr(settings, count.source)
        lake.traffic.append(Traffic("read", f"raw/{count.source}", count.rows, table.path or "sql"))
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in count.rejects.items())
        log.info(
            "%s: %s rows, %s rejected%s",
            count.source,
            f"{count.rows:,}",
            f"{count.rejected:,}",
            f" ({reasons})" if reasons else "",
        )
    cleaning.require_few_rejects(judged.by_source, tallies, settings.max_reject_fraction)
    # Not of users: who they are, the interactions tell.
    cleaning.require_some_left([count for count in tallies if count.source != "users"])
    return {count.source: count.rows - count.rejected for count in tallies}


def require_items_for_lists(items: int, top_k: int) -> None:
    """UserError if lists cannot be so long: `candidates` would find out, but only after the training."""
    if top_k > items:
        raise UserError(
            f"candidates.top_k is {top_k}, but preprocess.items gives a catalogue of {items} items; "
            f"set candidates.top_k to {items} or less"
        )


def choose_events(clean: DataFrame, settings: PreprocessConfig, keep: Keep) -> DataFrame:
    """Those in the k-core. But for duplicates: all, a user's events with an item count as one there, and copies of one event are one event:
    a split that goes by a user's last would put one copy here and one there.

    Raises UserError if nothing is left.
    """
    least = (settings.min_user_interactions, settings.min_item_interactions)
    if settings.duplicates == "all":
        return keep(k_core(clean, *least))
    # By the ids, as `deduplicate` wants its rows: they go over the network once.
    events = keep(clean.repartition("user_id", "item_id").distinct())
    if max(least) <= 1:
        return events
    core = keep(k_core(events.select("user_id", "item_id").distinct(), *least))
    return keep(events.join(core, ["user_id", "item_id"], "left_semi"))


def require_splits(interactions: DataFrame, settings: PreprocessConfig) -> None:
    """UserError if there is nothing to learn from, or nothing to judge on."""
    rows = {r["split"]: int(r["count"]) for r in interactions.groupBy("split").count().collect()}
    log.info("split %s: %s", settings.split.kind, ", ".join(f"{name} {n:,}" for name, n in sorted(rows.items())))
    found = ", ".join(f"{n:,} {name}" for name, n in sorted(rows.items()))
    if "train" not in rows:
        raise UserError(f"preprocess.split ({settings.split}) leaves no train rows; it gave {found}; hold out less")
    if "test" not in rows and not settings.allow_no_test:
        raise UserError(
            f"preprocess.split ({settings.split}) leaves no test rows; it gave {found}; hold out more, or set "
            "preprocess.allow_no_test to run without an evaluation"
        )


def user_table(interactions: DataFrame, judged: DataFrame | None) -> DataFrame:
    """Everyone with an interaction or in the raw users, with the number of events that are folded in or learned from."""
    counted = F.col("split").isin("train", "valid", "history")
    met = interactions.groupBy("user_id").agg(F.count_if(counted).alias("events"))
    if judged is None:
        return met.withColumn("attributes", F.lit(None).cast("map<string,string>"))
    known = cleaning.kept(judged).select("user_id", "attributes")
    everyone = met.join(known, "user_id", "full")
    return everyone.withColumn("events", F.coalesce("events", F.lit(0).cast("bigint")))
