"""Splits: which events are learned from, chosen on and judged on. `tables.INTERACTIONS` says what each name means.

`assign(events, seed)` adds `split` to events with user_id, item_id, order_key and raw_split. Every draw is a hash of seed and
ids, so that a re-run, or another partitioning, gives the same split. To add one: write its class, name it in `Split`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.errors import UserError

SplitName = Literal["train", "valid", "test", "history", "masked"]
Fraction = Annotated[float, Field(ge=0, lt=1)]
COLD = "share of the items, drawn by hash, that are held out as if they were new: learned from by nobody"

HISTOGRAM_BITS = 14  # 16,384 counts a pass come to the driver


class ColdItems(Settings):
    """Some items, drawn by hash, as if nobody had met them: all their events are test, all others train."""

    needs_order: ClassVar[bool] = False
    kind: Literal["cold_items"] = "cold_items"
    fraction: float = Field(
        0.1, gt=0, lt=1, description="of the items with min_interactions, each drawn by its own hash"
    )
    min_interactions: int = Field(5, ge=1, description="an item with fewer is not drawn")

    def assign(self, events: DataFrame, seed: int) -> DataFrame:
        drawn = (
            events.groupBy("item_id")
            .count()
            .where((F.col("count") >= self.min_interactions) & (uniform(seed, "cold", "item_id") < self.fraction))
            .select("item_id", F.lit("test").alias("split"))
        )
        return events.join(drawn, "item_id", "left").withColumn("split", F.coalesce("split", F.lit("train")))


class Fractions(Settings):
    """What temporal and random share."""

    valid: Fraction = Field(0.0, description="share of the events to choose on")
    test: Fraction = Field(0.2, description="share of the events to judge on")
    cold_item_fraction: Fraction = Field(0.0, description=COLD)

    @model_validator(mode="after")
    def _leave_some(self) -> "Fractions":
        if self.valid + self.test >= 1:
            raise ValueError(f"valid + test is {self.valid + self.test:g}; something must be left to train on")
        return self


class Temporal(Fractions):
    """By one moment for all users: the latest `test` of the events, before them `valid`, the rest train.

    Events of one moment stay together, on the earlier side.
    """

    needs_order: ClassVar[bool] = True
    kind: Literal["temporal"] = "temporal"
    newcomer_history: int = Field(
        0,
        ge=0,
        description="of a user with no event before the test: so many of the first are history, folded in and never learned from",
    )

    def assign(self, events: DataFrame, seed: int) -> DataFrame:
        rows = events.count()
        last_train = nth_smallest(events, rows - round(rows * (self.test + self.valid)))
        last_valid = nth_smallest(events, rows - round(rows * self.test)) if self.valid else last_train
        key = F.col("order_key")
        split = F.when(key <= last_train, "train").when(key <= last_valid, "valid").otherwise("test")
        labelled = first_as_history(events.withColumn("split", split), self.newcomer_history, seed)
        return mask_cold_items(labelled, self.cold_item_fraction, seed)


class Random(Fractions):
    """By a uniform number for each (user, item): repeated events of a pair stay together."""

    needs_order: ClassVar[bool] = False
    kind: Literal["random"] = "random"

    def assign(self, events: DataFrame, seed: int) -> DataFrame:
        drawn = uniform(seed, "random", "user_id", "item_id")
        split = F.when(drawn < self.test, "test").when(drawn < self.test + self.valid, "valid").otherwise("train")
        return mask_cold_items(events.withColumn("split", split), self.cold_item_fraction, seed)


class LeaveLastOut(Settings):
    """Each user's last event is test, the one before it valid if asked; a user who would have no train event stays train.

    Users differ in time, so what one learns may be later than what another is judged on; temporal has no such leak.
    """

    needs_order: ClassVar[bool] = True
    kind: Literal["leave_last_out"] = "leave_last_out"
    valid: bool = Field(False, description="whether the event before the last is valid")
    cold_item_fraction: Fraction = Field(0.0, description=COLD)

    def assign(self, events: DataFrame, seed: int) -> DataFrame:
        user = Window.partitionBy("user_id")
        from_last = user.orderBy(F.desc("order_key"), F.xxhash64(F.lit(seed), *events.columns))
        ranked = events.withColumn("place", F.row_number().over(from_last)).withColumn(
            "events", F.count("*").over(user)
        )
        held_out = ["test", "valid"] if self.valid else ["test"]
        split = F.lit("train")
        for place, name in enumerate(held_out, start=1):
            split = F.when((F.col("place") == place) & (F.col("events") > len(held_out)), name).otherwise(split)
        labelled = ranked.withColumn("split", split).drop("place", "events")
        return mask_cold_items(labelled, self.cold_item_fraction, seed)


class Provided(Settings):
    """By the raw column that `preprocess.interactions.columns.split` names. To leave rows out, read by `sql` with WHERE."""

    needs_order: ClassVar[bool] = False
    kind: Literal["provided"] = "provided"
    values: dict[str | int, SplitName] = Field(
        {"train": "train", "valid": "valid", "test": "test", "history": "history", "masked": "masked"},
        description="raw value: ours; a value without an entry is an error",
    )

    def assign(self, events: DataFrame, seed: int) -> DataFrame:
        """Raises UserError with the commonest values that have no entry."""
        names = {str(theirs): ours for theirs, ours in self.values.items()}
        split = F.coalesce(*(F.when(F.col("raw_split") == theirs, ours) for theirs, ours in names.items()))
        labelled = events.withColumn("split", split)
        strange = (
            labelled.where("split IS NULL").groupBy("raw_split").count().orderBy(F.desc("count"), "raw_split").limit(5)
        )
        found = ", ".join(f"{r['raw_split']!r} in {r['count']:,} rows" for r in strange.collect())
        if found:
            raise UserError(
                f"preprocess.split: the split column holds {found}, which preprocess.split.values does not name "
                f"(it has {', '.join(names)}); add it there, or leave these rows out by `sql` with WHERE"
            )
        return labelled


Split = Annotated[Temporal | LeaveLastOut | Random | Provided | ColdItems, Field(discriminator="kind")]


def uniform(seed: int, purpose: str, *ids: str) -> Column:
    """A number in [0, 1) from a hash of seed, purpose and the id columns."""
    bits = F.xxhash64(F.lit(seed), F.lit(purpose), *ids).bitwiseAND(F.lit((1 << 53) - 1))
    return bits / F.lit(float(1 << 53))


def mask_cold_items(events: DataFrame, fraction: float, seed: int) -> DataFrame:
    """Takes the learning from items drawn by hash, so that the evaluation has cold ones: their train and valid events
    become masked, their test events stay."""
    if fraction == 0:
        return events
    hidden = F.col("split").isin("train", "valid") & (uniform(seed, "cold", "item_id") < fraction)
    return events.withColumn("split", F.when(hidden, "masked").otherwise(F.col("split")))


def first_as_history(events: DataFrame, most: int, seed: int) -> DataFrame:
    """Of users who have nothing but test events, the first `most` become history; those of one moment go by a hash.

    Such a user can be judged then as the newcomer that he is on the night after his first events.
    """
    if most == 0:
        return events
    user = Window.partitionBy("user_id")
    oldest = F.row_number().over(user.orderBy("order_key", F.xxhash64(F.lit(seed), *events.columns)))
    earlier = F.count_if(F.col("split") != "test").over(user)
    placed = events.withColumn("place", oldest).withColumn("earlier", earlier)
    first = (F.col("earlier") == 0) & (F.col("place") <= most)
    return placed.withColumn("split", F.when(first, "history").otherwise(F.col("split"))).drop("place", "earlier")


def nth_smallest(events: DataFrame, n: int) -> int:
    """The n-th smallest order_key, from 1, exactly: each pass counts the keys by their leading bits and looks into the one
    bin that holds the n-th. 64 bits take at most five passes, whatever the number of events. n < 1: below all keys."""
    ends = events.agg(F.min("order_key"), F.max("order_key")).first()
    assert ends is not None  # an aggregate without groups has one row
    low, high = int(ends[0]), int(ends[1])
    if n < 1:
        return low - 1
    while low < high:
        shift = max(0, (high - low).bit_length() - HISTOGRAM_BITS)
        inside = events.where(F.col("order_key").between(low, high))
        counts = inside.groupBy(F.shiftright("order_key", shift).alias("bin")).count().collect()
        prefix, n = bin_of_nth({r["bin"]: r["count"] for r in counts}, n)
        low, high = max(low, prefix << shift), min(high, ((prefix + 1) << shift) - 1)
    return low


def bin_of_nth(counts: dict[int, int], n: int) -> tuple[int, int]:
    """The bin that holds the n-th smallest of all, and which of that bin's it is, from 1; n is at most the sum of counts."""
    for name in sorted(counts):
        if n <= counts[name]:
            return name, n
        n -= counts[name]
    raise ValueError(f"there are not {n} more")
