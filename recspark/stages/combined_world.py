"""What combine works on: the items' factors, texts and EASE by position, and who had what, for the night and for its validation."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, vectors_of, write_catalogue
from recspark.data.item_counts import item_counts
from recspark.data.matrices import Matrix, write_matrix
from recspark.data.next_event import item_histories
from recspark.data.popularity import Popularity, half_lives_of, popularity
from recspark.errors import UserError
from recspark.lake import Lake, local_folder
from recspark.models.item_based import EaseSettings, ease, text_gram, word_weights
from recspark.models.retriever import load_head
from recspark.retrieval.combination import FACTORS, POPULARITY, SEQUENCE, Choice, Part, Texts, own_weight
from recspark.retrieval.sequences import Sequences
from recspark.stages.factorize import learn_items
from recspark.stages.sequence import HELD_OUT, MODEL, saved
from recspark.stages.text_vectors import with_texts
from recspark.stages.validation import drawn_by_chance, hold_out_interactions
from recspark.stages.versions import retriever_behind
from recspark.tables import INTERACTIONS, ITEM_VECTORS, ITEMS, TEXT_VECTORS, USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

MET = ("train", "valid")  # what counts for an item's popularity; the validation's world has no valid rows

NOBODY = (
    "combine: nobody to choose on: no user has something to recommend from and, held out, something to find; set "
    "preprocess.split so that valid rows or a test can be drawn, or leave out the section combine"
)


@dataclass(frozen=True)
class World:
    """Factors of items (catalogue, `vector`) and users (user_id, vector), the events that they and EASE learned from, EASE's S
    by the texts in it, and what else there is of users and items."""

    catalogue: Catalogue
    users: DataFrame
    events: DataFrame
    similar: dict[Texts, Matrix]
    sides: "Sides"

    def listed(self, chosen: Choice, scratch: str) -> Matrix:
        """The chosen S, with what having an item says for itself on its diagonal."""
        similar = np.array(self.similar[chosen.texts].read())
        if chosen.repeat:
            np.fill_diagonal(similar, chosen.repeat * own_weight(similar))
        return write_matrix(similar, scratch)


@dataclass(frozen=True)
class Sides:
    """The parts of the vectors beside the history; small enough to travel with a task."""

    catalogue: Catalogue
    sequences: Sequences | None
    popularity: Popularity

    def personal(self, users: pa.Table) -> dict[str, Part]:
        """Of users (vector, history): all parts but the popularity, by name, in their order in the vectors."""
        parts = {FACTORS: (vectors_of(users["vector"]), self.catalogue.array("vector"))}
        return parts if self.sequences is None else {**parts, SEQUENCE: self.sequences.part(users["history"])}

    def of_users(self, users: pa.Table, chosen: Choice) -> dict[str, Part]:
        """All parts of users (vector, history)."""
        popular = self.popularity.of(chosen.half_life_days)[:, None]
        return {**self.personal(users), POPULARITY: (np.ones((len(users), 1), np.float32), popular)}

    def of_items(self, chosen: Choice) -> list[NDArray[np.float32]]:
        """All parts of every item."""
        sequences = [] if self.sequences is None else [self.sequences.items()]
        return [self.catalogue.array("vector"), *sequences, self.popularity.of(chosen.half_life_days)[:, None]]


@dataclass(frozen=True)
class HeldOut:
    """What the validation's world has in the place of the night's, by who reads texts and who does not.

    items: (item_id, vector, interactions, exposure), the night's factors; texts: (item_id, vector), what their prior reads, if it
    does; sequences: the model that has learned nothing of what is held out.
    """

    items: DataFrame
    texts: DataFrame | None
    sequences: Sequences | None


class Learner:
    """EASE with and without the night's texts, learned from any events."""

    def __init__(self, catalogue: Catalogue, settings: EaseSettings):
        self.catalogue, self.settings = catalogue, settings
        self.texts: dict[Texts, Matrix] = {}

    def read(self, encoders: tuple[Texts, ...], texts: list[str], scratch: str) -> None:
        """Take the texts in. encoders: columns of the catalogue with text vectors; texts: by position; scratch: for their products."""
        if self.settings.text_weight:
            words_MV = word_weights(texts)
            for encoder in encoders:
                products = text_gram(np.array(self.catalogue.array(encoder)), words_MV)
                self.texts[encoder] = write_matrix(products, scratch)

    def learn(self, events: DataFrame, scratch: str) -> dict[Texts, Matrix]:
        """S by the texts in it."""
        pairs = solves.interaction_pairs(events, solves.LEARNED).select("user_id", "item_id")
        counts, settings = item_counts(pairs, self.catalogue, scratch), self.settings
        similar: dict[Texts, Matrix] = {"none": write_matrix(ease(counts, settings.ridge), scratch)}
        for encoder, products in self.texts.items():
            learned = ease(counts, settings.ridge, products.read(), settings.text_weight)
            similar[encoder] = write_matrix(learned, scratch)
        return similar


def night_world(spark: SparkSession, lake: Lake, config: "Deployment") -> tuple[World, Learner, HeldOut]:
    """The night's own vectors and events, EASE learned from them; who learned it; and what is needed to hold something out."""
    assert config.combine is not None
    scratch = lake.scratch("combine/night")
    vectors, items = lake.read(spark, ITEM_VECTORS), lake.read(spark, ITEMS)
    columns, encoders = with_texts(spark, lake, vectors.select("item_id", "vector", "text_hash"), "combine")
    catalogue = write_catalogue(columns, scratch)
    learner = Learner(catalogue, config.combine.ease)
    learner.read(encoders, catalogue.in_order(items, "text", ""), scratch)
    events, users = lake.read(spark, INTERACTIONS), lake.read(spark, USER_VECTORS)
    sequences, before = (saved(spark, lake, config, name) if config.sequence else None for name in (MODEL, HELD_OUT))
    night = World(
        catalogue, users, events, learner.learn(events, scratch), sides_of(catalogue, sequences, events, scratch)
    )
    texts = lake.read(spark, TEXT_VECTORS).select("text_hash", "vector")
    read = items.join(texts, "text_hash").select("item_id", "vector")
    return night, learner, HeldOut(vectors.select("item_id", "vector", "interactions", "exposure"), read, before)


def sides_of(catalogue: Catalogue, sequences: Sequences | None, events: DataFrame, scratch: str) -> Sides:
    """With the popularity of the events, by every half-life that is tried."""
    met = events.where(F.col("split").isin(*MET))
    return Sides(catalogue, sequences, popularity(met, catalogue, half_lives_of(met), scratch))


def validation_worlds(
    night: World, learner: Learner, before: HeldOut, lake: Lake, config: "Deployment", scratch: str
) -> list[tuple[World, DataFrame]]:
    """The night without what is held out, and (user_id, item_id) of what is.

    Valid rows are what nothing has learned from: the night's own world is the one without them. Where there are none, some train
    rows are drawn (`hold_out_interactions`), and the factors and EASE learn once more from the others; where that is by chance, again
    until there are `combine.choose_users` users to ask, at most `combine.hold_outs` times. The sequence model has learned without the
    first draw alone, and is in the first world alone.

    Raises UserError if that leaves nothing to learn from, or to choose on.
    """
    assert config.combine is not None
    valid = night.events.where("split = 'valid'")
    if valid.first() is None:
        return drawn_worlds(night, learner, before, config, scratch)
    events = night.events.where("split NOT IN ('valid', 'test')")
    histories = solves.interaction_pairs(events, solves.FOLDED)
    settings = load_head(local_folder(retriever_behind(lake, ITEM_VECTORS).path))[2]
    users = solves.fold_in(histories, before.items, settings, config.embed.blocks, f"{scratch}/fold_in")
    sides = before_of(night.sides, night.catalogue, before, events, scratch)
    world = replace(night, events=events, users=keep(users, f"{scratch}/user_vectors"), sides=sides)
    return [(world, valid.select("user_id", "item_id").distinct())]


def drawn_worlds(
    night: World, learner: Learner, before: HeldOut, config: "Deployment", scratch: str
) -> list[tuple[World, DataFrame]]:
    """Of `validation_worlds`, where train rows are held out."""
    assert config.combine is not None
    worlds, asked = [], 0
    for draw in range(config.combine.hold_outs if drawn_by_chance(config) else 1):
        if asked >= config.combine.choose_users:
            break
        known = before if draw == 0 else replace(before, sequences=None)
        made = drawn_world(night, learner, known, config, draw, f"{scratch}/{draw}")
        if made is not None:
            worlds.append(made)
            asked += made[1].select("user_id").distinct().count()
        elif draw == 0:
            raise UserError(NOBODY)
    return worlds


def drawn_world(
    night: World, learner: Learner, before: HeldOut, config: "Deployment", draw: int, scratch: str
) -> tuple[World, DataFrame] | None:
    """One of `drawn_worlds`; None if the draw leaves nothing to learn from, or to choose on."""
    drawn = keep(hold_out_interactions(night.events, config, draw), f"{scratch}/interactions")
    if {"train", "test"} - {row["split"] for row in drawn.select("split").distinct().collect()}:
        return None
    events = drawn.where("split <> 'test'")
    catalogue, users = learned_again(before, config, events, scratch)
    sides = before_of(night.sides, catalogue, before, events, scratch)
    world = World(catalogue, users, events, learner.learn(events, scratch), sides)
    return world, drawn.where("split = 'test'").select("user_id", "item_id").distinct()


def before_of(night: Sides, catalogue: Catalogue, before: HeldOut, events: DataFrame, scratch: str) -> Sides:
    """The night's sides as they would be by these events alone."""
    met = events.where(F.col("split").isin(*MET))
    return Sides(catalogue, before.sequences, popularity(met, catalogue, night.popularity.half_lives, scratch))


def learned_again(
    before: HeldOut, config: "Deployment", events: DataFrame, scratch: str
) -> tuple[Catalogue, DataFrame]:
    """Factors of all items and of the users who have something to fold in, learned from these events, by tonight's texts if they read any."""
    items = before.items.select("item_id")
    learned = learn_items(items, events, config.factorize, config.seed, scratch, before.texts)
    solved = keep(learned, f"{scratch}/item_vectors")
    histories = solves.interaction_pairs(events, solves.FOLDED)
    users = solves.fold_in(histories, solved, config.factorize, config.embed.blocks, f"{scratch}/users")
    return write_catalogue(solved.select("item_id", "vector"), scratch), keep(users, f"{scratch}/user_vectors")


def with_histories(users: DataFrame, events: DataFrame, catalogue: Catalogue, seed: int) -> DataFrame:
    """The users with `history`, positions of what each had, the newest first; empty where there is nothing."""
    folded = events.where(F.col("split").isin(*solves.FOLDED))
    histories = item_histories(folded.join(users.select("user_id"), "user_id", "left_semi"), catalogue, seed)
    nothing = F.array().cast("array<int>")
    return users.join(histories, "user_id", "left").withColumn("history", F.coalesce("history", nothing))
