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


def hold_out_split(config: "Deployment") -> Split:
    """How `combine` draws what it chooses on: as `validation_split`, but half as much where that is by chance, and the configuration does not say how much.

    With a fifth of the log gone, a model that learns from pairs of items is judged as worse than it is with all of it; with a tenth less so, and
    several draws make up for the fewer rows (docs/combine.md has the figures).
    """
    split = validation_split(config)
    if config.tune.validation is None and isinstance(split, Random):
        return split.model_copy(update={"test": split.test / 2, "valid": split.valid / 2})
    return split


def drawn_by_chance(config: "Deployment") -> bool:
    """Whether another draw of `hold_out_interactions` would hold out other rows, and not only hide other items."""
    return not hold_out_split(config).needs_order


def hold_out_interactions(interactions: DataFrame, config: "Deployment", draw: int = 0) -> DataFrame:
    """`validation_interactions` by `hold_out_split`; by chance, another in each draw from 0."""
    return relabelled(interactions, config, hold_out_split(config), config.seed + 1 + DRAWS_APART * draw)


def validation_interactions(interactions: DataFrame, config: "Deployment") -> DataFrame:
    """The interactions with valid in the place of test, and without the test rows, and history rows of users who have nothing else.

    Where no row is valid, a test is drawn from the train rows. Cold items are hidden anew in both cases, by another hash than the night's.
    """
    return relabelled(interactions, config, validation_split(config), config.seed + 1)


def relabelled(interactions: DataFrame, config: "Deployment", split: Split, seed: int) -> DataFrame:
    """See `validation_interactions`. seed: another than the night's, else the items that are hidden already would be drawn again."""
    rows = interactions.where("split <> 'test'")
    if rows.where("split = 'valid'").first() is None:
        train = rows.where("split = 'train'").drop("split")
        drawn = split.assign(train, seed)
        labelled = rows.where("split <> 'train'").unionByName(drawn.select(*rows.columns))
    else:
        hidden = float(getattr(config.preprocess.split, "cold_item_fraction", 0.0))
        valid_is_test = F.when(F.col("split") == "valid", "test").otherwise(F.col("split"))
        labelled = mask_cold_items(rows.withColumn("split", valid_is_test), hidden, seed)
    taking_part = labelled.where("split IN ('train', 'test')").select("user_id").distinct()
    history, others = labelled.where("split = 'history'"), labelled.where("split <> 'history'")
    return others.unionByName(history.join(taking_part, "user_id", "left_semi").select(*others.columns))
