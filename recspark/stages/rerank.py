"""rerank: what was retrieved is looked at once more, list by list, by a model that knows more than two vectors.

It learns from each user's last train event: the items' vectors are solved once more without those events, the user is folded
in from what came before, lists are retrieved, and what was taken is the target. How much it counts beside the retriever is
chosen on validation, where its weight may come out as 0. It runs where the configuration has a section `rerank`.
"""

import logging
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data.cooccurrence import CooccurrenceSettings
from recspark.data.splits import uniform
from recspark.data.sums import exact_sum
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages.candidates import TOP_K
from recspark.stages.feature_reranker import FeatureReranker
from recspark.stages.lists import ListSettings, id_type
from recspark.stages.pair_reranker import CrossEncoderReranker
from recspark.stages.rerank_night import Night
from recspark.stages.reranking import Scorer, World, arrays_of, over_questions, questions_of
from recspark.stages.versions import RETRIEVER_VERSION
from recspark.tables import CANDIDATES, RERANKED

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = (
    "interactions",
    "items",
    "user_factors",
    "item_factors",
    "models/retriever",
    "text_vectors",
    "item_vectors",
    "user_vectors",
    "candidates",
)
OUTPUTS = ("reranker_examples", "reranker_log", "reranked", "models/reranker")
WEIGHTS = tuple(n / 10 for n in range(11))  # of the reranker in the blend; 0 is the retriever alone
TRIED = "number int, gained double, users bigint"

log = logging.getLogger("recspark")


Reranker = Annotated[FeatureReranker | CrossEncoderReranker, Field(discriminator="kind")]


class RerankConfig(ListSettings):
    """Which model reranks, and what it is chosen on."""

    model: Reranker = FeatureReranker()
    top_k: int | None = Field(None, ge=1, description="items a list keeps; all, if not set")
    history: int = Field(10, ge=1, description="events of a user that are looked at, the newest")
    cooccurrence: CooccurrenceSettings = CooccurrenceSettings()
    choose_at: int = Field(10, ge=1, description="k of the nDCG@k by which the weight is chosen")
    held_out: float = Field(
        0.2, gt=0, lt=1, description="share of the users, by hash, to choose on where no event is of split valid"
    )


def check(config: "Deployment") -> None:
    """What can be said before anything is read: UserError if candidates' lists are too short for what is asked."""
    if config.rerank is not None:
        require_depth(config.rerank, config.candidates.top_k)


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, factor tables, vectors and candidates; write reranked and the model `reranker`.

    A cross-encoder also reads items, and writes reranker_examples and reranker_log.

    Raises UserError if there is nobody to learn from or to choose on, or tables are of different models.
    """
    settings = config.rerank
    if settings is None:
        raise UserError("rerank: the configuration has no section rerank; write one: rerank: {model: {kind: features}}")
    check(config)
    lake.clear_scratch("rerank")
    night = Night(spark, lake, config, settings)

    lessons, before = night.lessons()
    now = night.world_now()
    chosen_on, world = night.validation(now)
    if chosen_on is None:
        share = uniform(config.seed, "rerank", "user_id") < settings.held_out
        chosen_on, world, lessons = lessons.where(share), before, lessons.where(~share)
    model = settings.model.learn(night, lessons, before)
    scorer = model.scorer()
    tried = try_weights(chosen_on, world, scorer, settings)
    weight = max(tried, key=lambda w: (tried[w], -w))
    log.info("%s", readable(tried, weight, settings.choose_at))
    with TemporaryDirectory() as folder:
        model.save(folder)
        lake.write_model("reranker", folder, weight=weight, tried=tried, retriever=night.model_hash)
    lake.write(
        reranked(night.questions(now), now, scorer, weight, settings),
        RERANKED,
        weight=weight,
        **{RETRIEVER_VERSION: night.version.id, TOP_K: settings.top_k or lake.manifest(CANDIDATES).get(TOP_K)},
    )
    for name in ("rerank", "reranker"):  # of this stage, and of its training
        lake.clear_scratch(name)


def require_depth(settings: RerankConfig, top_k: int) -> None:
    """UserError if the lists are too short for what is asked."""
    for name, wanted in (("model.depth", settings.model.depth), ("top_k", settings.top_k or 1)):
        if wanted > top_k:
            raise UserError(
                f"rerank.{name} is {wanted}, but candidates.top_k is {top_k}; raise it and run candidates again, or set rerank.{name} lower"
            )


def try_weights(rows: DataFrame, world: World, scorer: Scorer, settings: RerankConfig) -> dict[float, float]:
    """nDCG@k of the rows' targets by weight; a target that was not retrieved counts 0.

    Raises UserError if there is no row.
    """

    def gains(rows: pa.Table) -> pa.Table:
        from recspark.retrieval.reorder import gain, reorder

        questions = questions_of(rows, world, settings.model.depth)
        totals, targets = np.zeros(len(WEIGHTS)), rows["target"].to_pylist()
        for question, scores, target in zip(questions, scorer(questions), targets, strict=True):
            for number, weight in enumerate(WEIGHTS):
                order, _ = reorder(question.scores_K, scores, question.positions_K, weight)
                place = np.flatnonzero(question.positions_K[order] == target)
                totals[number] += gain(int(place[0]) if len(place) else None, settings.choose_at)
        numbers = np.arange(len(WEIGHTS), dtype=np.int32)
        return pa.table({"number": numbers, "gained": totals, "users": np.full(len(WEIGHTS), len(targets))})

    tried = over_questions(rows, gains, TRIED).groupBy("number")
    parts = tried.agg(exact_sum("gained").alias("gained"), F.sum("users").alias("users")).collect()
    if not parts:
        raise UserError(
            "rerank: nobody to choose the weight on: no user has a train event and a valid one after it, or, without a split "
            "valid, two train events; leave out the section rerank, or set preprocess.split otherwise"
        )
    return {
        WEIGHTS[part["number"]]: part["gained"] / part["users"] for part in sorted(parts, key=lambda p: p["number"])
    }


def readable(tried: dict[float, float], weight: float, k: int) -> str:
    """The weights tried, for people."""
    shown = ", ".join(f"{w:g}: {found:.4f}" for w, found in tried.items())
    return f"  nDCG@{k} on validation by the reranker's weight: {shown}; {weight:g} is taken"


def reranked(rows: DataFrame, world: World, scorer: Scorer, weight: float, settings: RerankConfig) -> DataFrame:
    """The table: (user_id, rank, item_id, score, retriever_score, reranker_score)."""

    def reorder_lists(rows: pa.Table) -> pa.Table:
        from recspark.retrieval.reorder import reorder

        questions = questions_of(rows, world, settings.model.depth)
        positions, retriever = arrays_of(rows["positions"]), arrays_of(rows["scores"])
        parts = []
        for place, own in enumerate(scorer(questions)):
            order, blended = reorder(retriever[place], own, positions[place], weight)
            order, blended = order[: settings.top_k], blended[: settings.top_k]
            padded = np.append(own, np.full(len(retriever[place]) - len(own), np.nan)).astype(np.float32)
            parts.append(
                (np.full(len(order), place), positions[place][order], blended, retriever[place][order], padded[order])
            )
        user, position, blended, score, own = (np.concatenate(column) for column in zip(*parts, strict=True))
        ranks = np.concatenate([np.arange(1, len(part[0]) + 1, dtype=np.int32) for part in parts])
        return pa.table(
            {
                "user_id": rows["user_id"].take(pa.array(user)),
                "rank": ranks,
                "item_id": world.catalogue.ids().take(pa.array(position)),
                "score": blended,
                "retriever_score": score,
                "reranker_score": pa.array(own, from_pandas=True),
            }
        )

    item_type = world.catalogue.positions(rows.sparkSession).schema["item_id"].dataType.simpleString()
    schema = f"user_id {id_type(rows)}, rank int, item_id {item_type}, score float, retriever_score float, reranker_score float"
    return over_questions(rows, reorder_lists, schema)
