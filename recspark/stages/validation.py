"""The night's log without its test: what choices may be made on."""

from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.splits import Provided, Random, Split, mask_cold_items

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

DRAWS_APART = 10_007  # between the seeds of two draws, so that nights of neighbouring seeds do not share them


def validation_split(config: "Deployment") -> Split:
    """How a test is drawn from the train rows of a lake without valid rows: as the night's own was; by hash where that was given."""
    split = config.preprocess.split
    return config.tune.validation or (Random(test=0.2) if isinstance(split, Provided) else split)


def drawn_by_chance(config: "Deployment") -> bool:
    """Whether another draw of `validation_interactions` would hold out other rows, and not only hide other items."""
    return not validation_split(config).needs_order


def validation_interactions(interactions: DataFrame, config: "Deployment", draw: int = 0) -> DataFrame:
    """The interactions with valid in the place of test, and without the test rows, and history rows of users who have nothing else.

    Where no row is valid, a test is drawn from the train rows, by chance another in each draw from 0. Cold items are hidden anew in both cases, by another hash than the night's.
    """
    seed = config.seed + 1 + DRAWS_APART * draw  # else the items that are hidden already would be drawn again
    rows = interactions.where("split <> 'test'")
    if rows.where("split = 'valid'").first() is None:
        train = rows.where("split = 'train'").drop("split")
        drawn = validation_split(config).assign(train, seed)
        labelled = rows.where("split <> 'train'").unionByName(drawn.select(*rows.columns))
    else:
        hidden = float(getattr(config.preprocess.split, "cold_item_fraction", 0.0))
        valid_is_test = F.when(F.col("split") == "valid", "test").otherwise(F.col("split"))
        labelled = mask_cold_items(rows.withColumn("split", valid_is_test), hidden, seed)
    taking_part = labelled.where("split IN ('train', 'test')").select("user_id").distinct()
    history, others = labelled.where("split = 'history'"), labelled.where("split <> 'history'")
    return others.unionByName(history.join(taking_part, "user_id", "left_semi").select(*others.columns))
