"""The combined model as it would be if it could not read: all of its parts from who met what alone."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.catalogue import write_catalogue
from recspark.data.item_counts import item_counts
from recspark.data.matrices import Matrix, write_matrix
from recspark.data.popularity import popularity
from recspark.lake import Lake
from recspark.models.item_based import ease
from recspark.retrieval.combination import Choice, Texts
from recspark.stages.combine import TRIED, item_vectors, user_vectors
from recspark.stages.combined_world import MET, Sides, World
from recspark.stages.list_vectors import CHOICE
from recspark.stages.sequence import sequences_of_ids
from recspark.tables import COMBINED_USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment


class IdsAlone:
    """Item and user vectors of the combined model without texts, combined as is best among the choices without texts in EASE."""

    def __init__(
        self,
        spark: SparkSession,
        lake: Lake,
        config: "Deployment",
        interactions: DataFrame,
        factors: DataFrame,
        scratch: str,
    ):
        """factors: (item_id, vector) of every item, learned without texts."""
        assert config.combine is not None
        self.spark, self.seed, self.scratch, self.events = spark, config.seed, scratch, interactions
        self.choice = without_texts(lake.manifest(COMBINED_USER_VECTORS))
        self.catalogue = write_catalogue(factors.select("item_id", "vector"), scratch)
        pairs = solves.interaction_pairs(interactions, solves.LEARNED).select("user_id", "item_id")
        counts = item_counts(pairs, self.catalogue, config.embed.blocks, scratch)
        self.similar: dict[Texts, Matrix] = {"none": write_matrix(ease(counts, config.combine.ease.ridge), scratch)}
        sequences = sequences_of_ids(spark, lake, config, f"{scratch}/sequence") if self.choice.sequence else None
        met = interactions.where(F.col("split").isin(*MET))
        popular = popularity(met, self.catalogue, (self.choice.half_life_days,), scratch)
        self.sides = Sides(self.catalogue, sequences, popular)

    def items(self) -> DataFrame:
        """(item_id, vector)"""
        return item_vectors(self.world(), self.choice, self.world().listed(self.choice, self.scratch), self.spark)

    def users(self, folded: DataFrame) -> DataFrame:
        """(user_id, vector) of users folded in over the factors."""
        return user_vectors(self.world(), folded, self.choice, self.seed)

    def world(self) -> World:
        return World(self.catalogue, self.events.limit(0), self.events, self.similar, self.sides)


def without_texts(manifest: dict) -> Choice:
    """Of what combine tried, the best whose EASE reads no text among those by which users get items again as they do from the full model."""
    tried = [row for row in manifest[TRIED] if row["texts"] == "none"]
    again = {name: manifest[CHOICE][name] for name in ("again", "repeat")}
    alike = [row for row in tried if again.items() <= row.items()]
    best = max(alike or tried, key=lambda row: row["ndcg"])
    return replace(Choice(**{name: best[name] for name in Choice.__dataclass_fields__}), **again)
