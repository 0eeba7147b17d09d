"""The combined model as it would be if it could not read: all of its parts from who met what alone."""

import logging
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.lake import Lake
from recspark.stages.candidates import denied_items
from recspark.stages.combine import item_vectors, readable, user_vectors
from recspark.stages.combined_choice import choose
from recspark.stages.combined_world import HeldOut, Learner, World, sides_of, validation_worlds
from recspark.stages.list_vectors import CHOICE
from recspark.stages.sequence import sequences_of_ids
from recspark.tables import COMBINED_USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

log = logging.getLogger("recspark")


class IdsAlone:
    """Item and user vectors of the combined model without texts: its parts learned without any, and combined as is then best by the same
    rules, on the same that is held out. What of a history comes again is as in the full model, for it decides what is relevant."""

    def __init__(
        self,
        spark: SparkSession,
        lake: Lake,
        config: "Deployment",
        interactions: DataFrame,
        factors: DataFrame,
        scratch: str,
    ):
        """factors: (item_id, vector, interactions, exposure) of every item, learned without texts."""
        assert config.combine is not None
        settings, self.spark, self.seed, self.scratch = config.combine, spark, config.seed, scratch
        catalogue = write_catalogue(factors.select("item_id", "vector"), scratch)
        learner = Learner(catalogue, settings.ease)
        tonight, before = None, None
        if config.sequence:
            tonight, before = sequences_of_ids(spark, lake, config, f"{scratch}/sequence")
        sides = sides_of(catalogue, tonight, interactions, scratch)
        nobody = interactions.select("user_id").limit(0)  # users come folded in
        self.world = World(catalogue, nobody, interactions, learner.learn(interactions, scratch), sides)
        again = lake.manifest(COMBINED_USER_VECTORS)[CHOICE]["again"]
        held_out = validation_worlds(
            self.world, learner, HeldOut(factors, None, before), lake, config, f"{scratch}/validation"
        )
        denied = denied_items(spark, config, factors)
        found = choose(held_out, settings, config.seed, f"{scratch}/choice", denied, (again,))
        log.info("  without text:%s", readable(found, settings.choose_at))
        self.choice = found.choice

    def items(self) -> DataFrame:
        """(item_id, vector)"""
        return item_vectors(self.world, self.choice, self.world.listed(self.choice, self.scratch), self.spark)

    def users(self, folded: DataFrame) -> DataFrame:
        """(user_id, vector) of users folded in over the factors."""
        return user_vectors(self.world, folded, self.choice, self.seed)
