"""evaluate: the full model beside the baselines and the text alone, on all, warm and cold items, with intervals.

Every model is user vectors and item vectors, ranked by the same exact top-K with the same seen filter. `full` on all items
is judged on the candidates table itself, `reranked`, where there is a section rerank, on the table of that name.

Who is judged: users with a test item that counts, and something before it to recommend from (train, valid or history). A
test item counts if it is in the catalogue and the user has not had it before. On the slices warm (items with a training
interaction) and cold (without one), both the relevant items and the items ranked are those of the slice.

`text_before` is what the factorization's map of the text says of tonight's items, so it is left out where the retriever was trained
on another night. Where ratings are predicted, their errors stand beside, with k 0 (`rating_judge`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, field_validator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.errors import UserError
from recspark.evaluation.baselines import Als, Baseline, Popularity, Vectors
from recspark.evaluation.metrics import coverage
from recspark.lake import Lake, local_folder
from recspark.models.factors import FactorSettings
from recspark.models.retriever import load_head
from recspark.session import task_threads
from recspark.stages import rating_judge
from recspark.stages.judge import SLICES, Evaluation, Trial, Verdict, columns, judge_lists
from recspark.stages.lists import ListSettings, Ranking, blocks_for, recommend_trials, seen_positions
from recspark.stages.versions import RETRIEVER_VERSION, borrowed_version, keep_metrics, vectors_version
from recspark.tables import (
    CANDIDATES,
    INTERACTIONS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    METRICS,
    PREDICTED_RATINGS,
    RATING_ITEM_FACTORS,
    RERANKED,
    USER_VECTORS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = (
    "interactions",
    "item_factors",
    "item_vectors",
    "user_vectors",
    "candidates",
    "rating_item_factors",
    "predicted_ratings",
    "reranked",
)
OUTPUTS = ("metrics",)
# Judged on a table of lists.
PUBLISHED = {Trial("full", "all"): CANDIDATES, Trial("reranked", "all"): RERANKED}
SHOWN = ("ndcg", "recall", "map")  # in the table that is logged

FoldIn = Callable[[DataFrame], DataFrame]  # (item_id, vector, interactions, exposure) -> (user_id, vector)

logger = logging.getLogger("recspark")


class EvaluateConfig(ListSettings):
    """What is measured, and beside what."""

    ks: tuple[int, ...] = Field((10, 20), min_length=1, description="lengths of list that are judged")
    replicates: int = Field(1000, ge=100, le=10000, description="of the bootstrap")
    baselines: tuple[Baseline, ...] = Field((Popularity(), Als()), description="models that know no text")

    @field_validator("ks")
    @classmethod
    def _ks_are_lengths(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if min(ks) < 1 or len(set(ks)) < len(ks):
            raise ValueError("must be different whole numbers from 1")
        return tuple(sorted(ks))

    @field_validator("baselines")
    @classmethod
    def _one_of_a_kind(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if len({b.kind for b in baselines}) < len(baselines):
            raise ValueError("each kind may be named once")
        return baselines


@dataclass(frozen=True)
class Model:
    """A model's user vectors; its item vectors are the catalogue's column of its name.

    users: (user_id, vector). known: boolean columns of the items it can list. slices: what it is judged on.
    """

    name: str
    users: DataFrame
    known: tuple[str, ...] = ()
    slices: tuple[str, ...] = tuple(SLICES)


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, item_factors, item_vectors, user_vectors, candidates and, if configured, reranked; write metrics.

    Raises UserError if there is no test row, nobody to judge, or a list to judge is shorter than the largest of `ks`.
    """
    settings = config.evaluate
    lake.clear_scratch("evaluate")
    scratch = lake.scratch("evaluate")
    interactions, items = lake.read(spark, INTERACTIONS), lake.read(spark, ITEM_VECTORS)
    version = borrowed_version(lake, "evaluate")
    factors = lake.read(spark, ITEM_FACTORS) if version is None else None
    user_vectors = lake.read(spark, USER_VECTORS)
    require_lengths(settings, config.candidates.top_k, items.count())
    published = published_lists(spark, lake, config)
    if interactions.where("split = 'test'").first() is None:
        if config.preprocess.allow_no_test:
            logger.info("no test rows, as preprocess.allow_no_test allows: there is nothing to evaluate")
            write_metrics(spark, lake, [])
            return
        raise UserError(
            "evaluate: interactions has no row of split test; set preprocess.split so that some are held out"
        )

    learned: dict[str, Vectors] = {
        b.kind: kept(b.vectors(interactions, items, config.seed), f"{scratch}/{b.kind}") for b in settings.baselines
    }
    catalogue = write_catalogue(catalogue_columns(items, factors, interactions, learned), scratch)
    truth, seen = truth_and_seen(interactions, catalogue, config.seed, scratch)

    judged = truth.select("user_id").distinct()
    solve = config.factorize if version is None else load_head(local_folder(version.path))[2]
    fold_in = history_folding(interactions.join(judged, "user_id", "left_semi"), solve, config.embed.blocks, scratch)
    models = [
        *(Model(b.kind, learned[b.kind].users, (f"knows_{b.kind}",), b.slices) for b in settings.baselines),
        *([Model("text_before", keep(fold_in(priors(factors)), f"{scratch}/before"))] if factors is not None else []),
        Model("text_after", keep(fold_in(priors(items)), f"{scratch}/after")),
        Model("full", user_vectors),
    ]
    trials = tuple(dict.fromkeys((*(Trial(model.name, name) for model in models for name in model.slices), *published)))
    blocks = blocks_for(judged.count(), settings)
    lists = ranked_lists(models, trials, published, judged, seen, catalogue, blocks, settings)
    train_users = interactions.where("split = 'train'").select("user_id").distinct().count()
    evaluation = Evaluation(trials, catalogue, settings.ks, settings.replicates, train_users)
    rows = metric_rows(evaluation, judge_lists(lists, truth, evaluation, blocks))
    errors = rating_errors(spark, lake, config, blocks)

    write_metrics(spark, lake, rows + errors)
    lake.clear_scratch("evaluate")
    logger.info("%s", readable(rows, settings.ks[0]))
    if errors:
        logger.info("%s", rating_judge.readable(errors))


def rating_errors(spark: SparkSession, lake: Lake, config: "Deployment", blocks: int) -> list[tuple]:
    """Rows of the metrics table for the predicted ratings, where the configuration has any."""
    if config.ratings is None:
        return []
    predicted, items = lake.read(spark, PREDICTED_RATINGS), lake.read(spark, RATING_ITEM_FACTORS)
    return rating_judge.judge_ratings(predicted, items, config.seed, config.evaluate.replicates, blocks)


def write_metrics(spark: SparkSession, lake: Lake, rows: list[tuple]) -> None:
    """The table, and, for the registry, the same rows beside the version of the retriever that they judge."""
    version = vectors_version(lake, "evaluate")
    frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in METRICS.columns))
    lake.write(frame, METRICS, **{RETRIEVER_VERSION: version})
    if version is not None:
        keep_metrics(lake, version, [dict(zip(METRICS.column_names, row, strict=True)) for row in rows])


def published_lists(spark: SparkSession, lake: Lake, config: "Deployment") -> dict[Trial, DataFrame]:
    """The lists that are judged as they stand in a table.

    Raises UserError if the reranked ones are shorter than the largest of `ks`.
    """
    reranks, longest = config.rerank, config.evaluate.ks[-1]
    if reranks and reranks.top_k and reranks.top_k < longest:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but rerank.top_k is {reranks.top_k}; raise it and run rerank again"
        )
    return {trial: lake.read(spark, table) for trial, table in PUBLISHED.items() if table is CANDIDATES or reranks}


def priors(items: DataFrame) -> DataFrame:
    """What the text alone says of each item, in place of its vector."""
    return items.select("item_id", F.col("prior").alias("vector"), "interactions", "exposure")


def history_folding(interactions: DataFrame, settings: FactorSettings, blocks: int, scratch: str) -> FoldIn:
    """Folds the users of these interactions in over any item vectors, as embed does over its own."""
    pairs = keep(solves.interaction_pairs(interactions, solves.FOLDED), f"{scratch}/pairs")

    def fold_in(item_vectors: DataFrame) -> DataFrame:
        return solves.fold_in(pairs, item_vectors, settings, blocks, f"{scratch}/fold_in")

    return fold_in


def kept(vectors: Vectors, path: str) -> Vectors:
    """The same, computed once."""
    return Vectors(keep(vectors.users, f"{path}-users"), keep(vectors.items, f"{path}-items"))


def catalogue_columns(
    items: DataFrame, factors: DataFrame | None, interactions: DataFrame, learned: dict[str, Vectors]
) -> DataFrame:
    """A row an item: its vector under every model (text_before's from `factors`, if given), what each baseline knows, its slice, and how many users have it in train."""
    train = interactions.where("split = 'train'").groupBy("item_id").agg(F.count_distinct("user_id").alias("having"))
    warm = F.col("interactions") > 0
    frame = items.select(
        "item_id",
        F.col("vector").alias("full"),
        F.col("prior").alias("text_after"),
        warm.alias("warm"),
        (~warm).alias("cold"),
    )
    if factors is not None:
        frame = frame.join(factors.select("item_id", F.col("prior").alias("text_before")), "item_id", "left")
    frame = frame.join(train, "item_id", "left").withColumn("having", F.coalesce("having", F.lit(0)))
    for kind, vectors in learned.items():
        first = vectors.items.select(F.size("vector").alias("size")).first()
        nothing = F.array_repeat(F.lit(0.0).cast("float"), first["size"] if first else 1)
        frame = frame.join(vectors.items.withColumnRenamed("vector", kind), "item_id", "left")
        frame = frame.withColumn(f"knows_{kind}", F.col(kind).isNotNull()).withColumn(kind, F.coalesce(kind, nothing))
    return frame


def require_lengths(settings: EvaluateConfig, top_k: int, items: int) -> None:
    """UserError if a list of the largest `ks` cannot be had."""
    longest = settings.ks[-1]
    if longest > items:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but the catalogue has {items} items; set evaluate.ks lower"
        )
    if longest > top_k:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but candidates.top_k is {top_k}; raise it and run candidates again, "
            "or set evaluate.ks lower"
        )


def truth_and_seen(
    interactions: DataFrame, catalogue: Catalogue, seed: int, scratch: str
) -> tuple[DataFrame, DataFrame]:
    """What counts as relevant, (user_id, hash, position), each once; and what those users had before, (user_id, position).

    Raises UserError if nothing counts.
    """
    test = interactions.where("split = 'test'").select("user_id", "item_id").distinct()
    before = interactions.join(test, "user_id", "left_semi")
    seen = keep(seen_positions(before, catalogue), f"{scratch}/seen")
    known = before.where(F.col("split").isin(*solves.FOLDED)).select("user_id").distinct()
    wanted = test.join(catalogue.positions(interactions.sparkSession), "item_id").join(known, "user_id", "left_semi")
    fresh = wanted.join(seen, ["user_id", "position"], "left_anti")
    truth = keep(
        fresh.select("user_id", F.xxhash64(F.lit(seed), "user_id").alias("hash"), "position"), f"{scratch}/truth"
    )
    if truth.first() is None:
        raise UserError(
            "evaluate: no user to judge: no test interaction is with a known item that its user, known from train, valid or "
            "history, has not had before; set preprocess.split so that users have a past and a test item"
        )
    return truth, seen


def ranked_lists(
    models: list[Model],
    trials: tuple[Trial, ...],
    published: dict[Trial, DataFrame],
    judged: DataFrame,
    seen: DataFrame,
    catalogue: Catalogue,
    blocks: int,
    settings: EvaluateConfig,
) -> DataFrame:
    """(trial, user_id, rank, position): the first max(ks) items of every trial for the users who are judged."""
    spark, longest, users = judged.sparkSession, settings.ks[-1], judged
    for model in models:
        users = users.join(model.users.select("user_id", F.col("vector").alias(model.name)), "user_id", "left")
    known = {model.name: model.known for model in models}
    rankings = {
        number: Ranking(trial.model, trial.model, longest, (*known[trial.model], *SLICES[trial.slice]))
        for number, trial in enumerate(trials)
        if trial not in published
    }
    ranked = recommend_trials(users, seen, catalogue, rankings, blocks, settings, task_threads(spark))
    for trial, lists in published.items():
        listed = lists.where(F.col("rank") <= longest).join(catalogue.positions(spark), "item_id")
        ranked = ranked.unionByName(
            listed.select(F.lit(trials.index(trial)).alias("trial"), "user_id", "rank", "position")
        )
    return ranked


def metric_rows(evaluation: Evaluation, verdicts: list[Verdict | None]) -> list[tuple]:
    """Rows of the metrics table, those of slices in which nobody can be judged left out."""
    rows: list[tuple] = []
    for trial, verdict in zip(evaluation.trials, verdicts, strict=True):
        if verdict is None:
            continue
        found, users = verdict.estimate, verdict.estimate.users
        for (metric, k), *numbers in zip(columns(evaluation.ks), found.value, found.low, found.high, strict=True):
            rows.append((trial.model, trial.slice, metric, k, *map(float, numbers), users))
        allowed = evaluation.slice_size(trial.slice)
        for k, shown in zip(evaluation.ks, verdict.shown, strict=True):
            rows.append((trial.model, trial.slice, "coverage", k, coverage(shown, allowed), None, None, users))
    return rows


def readable(rows: list[tuple], k: int) -> str:
    """The main metrics at k as a table for people."""
    cells = {(model, name, metric): row for model, name, metric, at, *row in rows if at == k}
    lines = [f"{'model':<12} {'slice':<5} {'users':>8}" + "".join(f"  {f'{metric}@{k}':<24}" for metric in SHOWN)]
    for model, name in dict.fromkeys((row[0], row[1]) for row in rows):
        shown = [cells[model, name, metric] for metric in SHOWN]
        numbers = "".join(f"  {value:.4f} [{low:.4f}, {high:.4f}]" for value, low, high, _ in shown)
        lines.append(f"{model:<12} {name:<5} {shown[0][3]:>8}{numbers}")
    return "\n".join(["metrics with 95 % intervals:", *lines])
