"""What combine works on: the items' factors, texts and EASE by position, and who had what, for the night and for its validation."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.data.item_counts import item_counts
from recspark.data.matrices import Matrix, write_matrix
from recspark.data.next_event import item_histories
from recspark.errors import UserError
from recspark.lake import Lake, local_folder
from recspark.models.item_based import EaseSettings, ease, text_gram, word_weights
from recspark.models.retriever import load_head
from recspark.retrieval.combination import Choice, Texts, own_weight
from recspark.stages.factorize import learn_items
from recspark.stages.validation import validation_interactions
from recspark.stages.versions import borrowed_version, retriever_behind
from recspark.tables import BASE_TEXT_VECTORS, INTERACTIONS, ITEM_VECTORS, ITEMS, TEXT_VECTORS, USER_VECTORS, Table

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

NOBODY = (
    "combine: nobody to choose on: no user has something to recommend from and, held out, something to find; set "
    "preprocess.split so that valid rows or a test can be drawn, or leave out the section combine"
)


@dataclass(frozen=True)
class World:
    """Factors of items (catalogue, `vector`) and users (user_id, vector), the events that they and EASE learned from, and EASE's S
    by the texts in it."""

    catalogue: Catalogue
    users: DataFrame
    events: DataFrame
    similar: dict[Texts, Matrix]

    def listed(self, chosen: Choice, scratch: str) -> Matrix:
        """The chosen S, with what having an item says for itself on its diagonal."""
        similar = np.array(self.similar[chosen.texts].read())
        if chosen.repeat:
            np.fill_diagonal(similar, chosen.repeat * own_weight(similar))
        return write_matrix(similar, scratch)


class Learner:
    """EASE with and without the night's texts, learned from any events."""

    def __init__(
        self,
        catalogue: Catalogue,
        encoders: tuple[Texts, ...],
        texts: list[str],
        settings: EaseSettings,
        blocks: int,
        scratch: str,
    ):
        """catalogue: with a column of text vectors for each of `encoders`, by its name; texts: by position; scratch: for their products."""
        self.catalogue, self.settings, self.blocks = catalogue, settings, blocks
        words_MV = word_weights(texts)
        self.texts = {
            encoder: write_matrix(text_gram(np.array(catalogue.array(encoder)), words_MV), scratch)
            for encoder in (encoders if settings.text_weight else ())
        }

    def learn(self, events: DataFrame, scratch: str) -> dict[Texts, Matrix]:
        """S by the texts in it."""
        pairs = solves.interaction_pairs(events, solves.LEARNED).select("user_id", "item_id")
        counts, settings = item_counts(pairs, self.catalogue, self.blocks, scratch), self.settings
        similar: dict[Texts, Matrix] = {"none": write_matrix(ease(counts, settings.ridge), scratch)}
        for encoder, products in self.texts.items():
            learned = ease(counts, settings.ridge, products.read(), settings.text_weight)
            similar[encoder] = write_matrix(learned, scratch)
        return similar


def night_world(spark: SparkSession, lake: Lake, config: "Deployment") -> tuple[World, Learner]:
    """The night's own vectors and events, EASE learned from them, and who learned it."""
    assert config.combine is not None
    scratch = lake.scratch("combine/night")
    items = lake.read(spark, ITEM_VECTORS)
    tables: dict[Texts, Table] = {"fine_tuned": TEXT_VECTORS}
    if borrowed_version(lake, "combine") is None:  # else nobody has read tonight's texts by the base encoder
        tables["base"] = BASE_TEXT_VECTORS
    columns = items.select("item_id", "vector", "text_hash")
    for encoder, table in tables.items():
        vectors = lake.read(spark, table).select("text_hash", F.col("vector").alias(encoder))
        columns = columns.join(vectors, "text_hash")
    catalogue = write_catalogue(columns.drop("text_hash"), scratch)
    texts = catalogue.in_order(lake.read(spark, ITEMS), "text", "")
    learner = Learner(catalogue, tuple(tables), texts, config.combine.ease, config.embed.blocks, scratch)
    events, users = lake.read(spark, INTERACTIONS), lake.read(spark, USER_VECTORS)
    return World(catalogue, users, events, learner.learn(events, scratch)), learner


def validation_world(
    night: World, learner: Learner, spark: SparkSession, lake: Lake, config: "Deployment"
) -> tuple[World, DataFrame]:
    """The night without what is held out, and (user_id, item_id) of what is.

    Valid rows are what nothing has learned from: the night's own world is the one without them. Where there are none, some train
    rows are drawn as the night's test was, and the factors and EASE learn once more from the others.

    Raises UserError if that leaves nothing to learn from, or to choose on.
    """
    valid = night.events.where("split = 'valid'")
    scratch = lake.scratch("combine/validation")
    if valid.first() is not None:
        events = night.events.where("split NOT IN ('valid', 'test')")
        histories = solves.interaction_pairs(events, solves.FOLDED)
        items = lake.read(spark, ITEM_VECTORS).select("item_id", "vector", "interactions", "exposure")
        settings = load_head(local_folder(retriever_behind(lake, ITEM_VECTORS).path))[2]
        users = solves.fold_in(histories, items, settings, config.embed.blocks, f"{scratch}/fold_in")
        before = replace(night, events=events, users=keep(users, f"{scratch}/user_vectors"))
        return before, valid.select("user_id", "item_id").distinct()
    drawn = keep(validation_interactions(night.events, config), f"{scratch}/interactions")
    if {"train", "test"} - {row["split"] for row in drawn.select("split").distinct().collect()}:
        raise UserError(NOBODY)
    events = drawn.where("split <> 'test'")
    catalogue, users = learned_again(spark, lake, config, events, scratch)
    world = World(catalogue, users, events, learner.learn(events, scratch))
    return world, drawn.where("split = 'test'").select("user_id", "item_id").distinct()


def learned_again(
    spark: SparkSession, lake: Lake, config: "Deployment", events: DataFrame, scratch: str
) -> tuple[Catalogue, DataFrame]:
    """Factors of all items and of the users who have something to fold in, learned from these events with tonight's texts."""
    items, texts = lake.read(spark, ITEMS), lake.read(spark, TEXT_VECTORS)
    vectors = items.join(texts.select("text_hash", "vector"), "text_hash").select("item_id", "vector")
    learned = learn_items(items.select("item_id"), events, config.factorize, config.seed, scratch, vectors)
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
