"""The lists that evaluate judges: those that stand in tables, and all models' over the users who are judged."""

from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data.catalogue import Catalogue
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.session import task_threads
from recspark.stages.judge import SLICES, Trial
from recspark.stages.judged_models import Model
from recspark.stages.lists import ListSettings, recommend_trials
from recspark.stages.provenance import require_made_from
from recspark.tables import (
    CANDIDATES,
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    INTERACTIONS,
    ITEM_VECTORS,
    RERANKED,
    USER_VECTORS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

# Judged on a table of lists.
PUBLISHED = {Trial("full", "all"): CANDIDATES, Trial("reranked", "all"): RERANKED}


def published_lists(spark: SparkSession, lake: Lake, config: "Deployment") -> dict[Trial, DataFrame]:
    """The lists that are judged as they stand in a table.

    Raises UserError if they were made from others than are there now, or under another section combine.
    """
    vectors = (COMBINED_ITEM_VECTORS, COMBINED_USER_VECTORS) if config.combine else (ITEM_VECTORS, USER_VECTORS)
    require_made_from(lake, CANDIDATES, (INTERACTIONS, *vectors), "candidates")
    inputs = lake.manifest(CANDIDATES).get("inputs", {})
    if inputs and any(table.name not in inputs for table in vectors):
        raise UserError(
            f"candidates of run date {lake.run_date} were made with{'out' if config.combine else ''} the section combine; run again from candidates"
        )
    if config.rerank:
        require_made_from(lake, RERANKED, (CANDIDATES,), "rerank")
    return {
        trial: lake.read(spark, table) for trial, table in PUBLISHED.items() if table is CANDIDATES or config.rerank
    }


def ranked_lists(
    models: list[Model],
    trials: tuple[Trial, ...],
    published: dict[Trial, DataFrame],
    judged: DataFrame,
    histories: DataFrame | None,
    seen: DataFrame,
    catalogue: Catalogue,
    blocks: int,
    longest: int,
    settings: ListSettings,
) -> DataFrame:
    """(trial, user_id, rank, position): the first `longest` items of every trial for the users who are judged.

    histories: (user_id, history), where a model goes by it.
    """
    spark = judged.sparkSession
    users = judged if histories is None else judged.join(histories, "user_id", "left")
    for model in models:
        if isinstance(model.users, DataFrame):
            users = users.join(model.users.select("user_id", F.col("vector").alias(model.name)), "user_id", "left")
    named = {model.name: model for model in models}
    rankings = {
        number: named[trial.model].ranking(longest, SLICES[trial.slice])
        for number, trial in enumerate(trials)
        if trial not in published
    }
    ranked = recommend_trials(users, seen, catalogue, rankings, blocks, settings, task_threads(spark))
    for trial, lists in published.items():
        mine = lists.where(F.col("rank") <= longest).join(judged, "user_id", "left_semi")
        listed = mine.join(catalogue.positions(spark), "item_id")
        ranked = ranked.unionByName(
            listed.select(F.lit(trials.index(trial)).alias("trial"), "user_id", "rank", "position")
        )
    return ranked
