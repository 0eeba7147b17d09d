"""evaluate: the full model beside the baselines and the text alone, on all, warm and cold items, with intervals and paired tests.

Every model is user vectors and item vectors, ranked by the same exact top-K with the same seen filter. `full` on all items
is judged on the candidates table itself, `reranked`, where there is a section rerank, on the table of that name.

Who is judged: users with a test item that counts, and something before it to recommend from (train, valid or history). A
test item counts if it is in the catalogue, `candidates.deny` allows it, and the user has not had it before; what is denied no model may list. On the slices warm (items with a training
interaction) and cold (without one), both the relevant items and the items ranked are those of the slice; on
cold_among_all, the relevant items are the cold ones, and all are ranked.

`leakage` counts what of the test could have been known before (`evaluation/leaks.py`); `new_users` judges those whom nobody has learned from, too, after their first events, without training.

Every two models of a slice are compared over the same users (`evaluation/comparison.py`), and every model's lists of all items are looked
at by classes of users and items (`evaluation/slices.py`).

`text_before` is what the factorization's map of the text says of tonight's items, and `id_alone` the full model as it would be if it read no
text, with `factors_alone`, its factors by themselves, where the lists are combined; these, and the baseline `frozen`, are left out where the retriever was trained on another night. `recent_popularity` is popularity by the half-life that
combine chose, where it chose one. Where ratings are predicted, their errors stand beside, with k 0 (`rating_judge`).
"""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field, field_validator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data.blocks import keep
from recspark.data.catalogue import write_catalogue
from recspark.data.labels import item_labels
from recspark.errors import UserError
from recspark.evaluation.baselines import LEARNED, Als, Baseline, Popularity, VectorBaseline, Vectors
from recspark.evaluation.item_baselines import Ease, Frozen, ItemKnn, Sources, TfIdf
from recspark.evaluation.leaks import told
from recspark.evaluation.rating_errors import METRICS as ERRORS
from recspark.lake import Lake, local_folder
from recspark.models.retriever import load_head
from recspark.stages import rating_judge
from recspark.stages.candidates import ALLOWED, denied_items, mark_denied
from recspark.stages.history_models import histories_of, history_models, require_packages, word_index
from recspark.stages.judge import Evaluation, Trial, judge_lists
from recspark.stages.judged_lists import published_lists, ranked_lists
from recspark.stages.judged_models import (
    ENCODED,
    WITHOUT_TEXT,
    Model,
    catalogue_columns,
    encoded_items,
    everyone,
    history_folding,
    kept,
    popularity_deciles,
    priors,
    tonights_items,
    truth_and_seen,
    with_likes,
)
from recspark.stages.judged_rows import comparison_rows, metric_rows, readable, write_judged
from recspark.stages.leakage import leakage_rows
from recspark.stages.list_vectors import list_vectors
from recspark.stages.lists import ListSettings, blocks_for
from recspark.stages.new_users import Night, judge_new_users
from recspark.stages.sequence import list_parts, saved
from recspark.stages.versions import borrowed_version
from recspark.tables import (
    INTERACTIONS,
    ITEM_VECTORS,
    ITEMS,
    PREDICTED_RATINGS,
    RATING_ITEM_FACTORS,
    USER_VECTORS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = (
    "interactions",
    "items",
    "base_text_vectors",
    "item_factors",
    "item_vectors",
    "user_vectors",
    "models/sequence",
    "sequence_examples",
    "sequence_examples_all",
    "combined_item_vectors",
    "combined_user_vectors",
    "candidates",
    "rating_item_factors",
    "predicted_ratings",
    "reranked",
)
OUTPUTS = ("metrics", "comparisons", "leakage")
RECENT = "recent_popularity"
logger = logging.getLogger("recspark")


class EvaluateConfig(ListSettings):
    """What is measured, and beside what."""

    ks: tuple[int, ...] = Field((10, 20), min_length=1, description="lengths of list that are judged")
    replicates: int = Field(1000, ge=100, le=10000, description="of the bootstrap")
    calibrate: str | None = Field(
        None, description="an attribute of items, such as genres: is its mix in the lists that of the histories?"
    )
    calibrate_separator: str = Field("", description="cuts a value of it into several; if not set, it stays whole")
    slices: bool = Field(True, description="also judge users by length of history and items by popularity decile")
    new_users: tuple[int, ...] = Field(
        (1, 3, 10), description="events after which users that nobody has learned from are judged; empty: not at all"
    )
    leakage: bool = Field(True, description="count what of the test could have been known before")
    baselines: tuple[Baseline, ...] = Field(
        (Popularity(), Als(), ItemKnn(), Ease(), TfIdf(), Frozen()),
        description="models that learn nothing from the texts",
    )
    memory_gib: float = Field(
        4, gt=0, description="GiB of the driver for one baseline; one that needs more is left out, and named"
    )
    id_alone: bool = Field(
        False,
        description="whether the full model is judged without any text, too; it takes a second factorization a night",
    )

    @field_validator("ks", "new_users")
    @classmethod
    def _counts_from_one(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if min(counts, default=1) < 1 or len(set(counts)) < len(counts):
            raise ValueError("must be different whole numbers from 1")
        return tuple(sorted(counts))

    @field_validator("baselines")
    @classmethod
    def _one_of_a_kind(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if len({b.kind for b in baselines}) < len(baselines):
            raise ValueError("each kind may be named once")
        return baselines


def check(config: "Deployment") -> None:
    """What can be said before anything is read: UserError if BM25 is asked for and bm25s is not installed, or lists are too short."""
    require_packages(config.evaluate.baselines)
    require_listed(config.evaluate, config.candidates.top_k, config.rerank.top_k if config.rerank else None)


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, item_factors, item_vectors, user_vectors, candidates and, if configured, reranked; write metrics, comparisons and leakage.

    Baselines may read items and base_text_vectors, too, and leakage reads items.

    Raises UserError if there is no test row, nobody to judge, or a list to judge is shorter than the largest of `ks`;
    or if BM25 is asked for and bm25s is not installed.
    """
    settings = config.evaluate
    check(config)
    lake.clear_scratch("evaluate")
    scratch = lake.scratch("evaluate")
    interactions, items = lake.read(spark, INTERACTIONS), lake.read(spark, ITEM_VECTORS)
    version = borrowed_version(lake, "evaluate")
    user_vectors, listed = lake.read(spark, USER_VECTORS), list_vectors(spark, lake, config)
    require_lengths(settings, items.count())
    published = published_lists(spark, lake, config)
    if interactions.where("split = 'test'").first() is None:
        if config.preprocess.allow_no_test:
            logger.info("no test rows, as preprocess.allow_no_test allows: there is nothing to evaluate")
            write_judged(spark, lake, [], [], [], {})
            return
        raise UserError(
            "evaluate: interactions has no row of split test; set preprocess.split so that some are held out"
        )

    learned: dict[str, Vectors] = {
        b.kind: kept(b.vectors(interactions, items, config.seed), f"{scratch}/{b.kind}")
        for b in settings.baselines
        if isinstance(b, VectorBaseline)
    }
    labels = attribute_labels(spark, lake, settings, scratch)
    trained = {} if version is not None else tonights_items(spark, lake, config, interactions, items, scratch)
    beside = {"full": listed.items, **{name: folded.column for name, folded in trained.items()}}
    if config.combine:
        beside["factors"] = items
        if listed.half_life_days is not None:
            beside[RECENT] = listed.popularity()
    if config.sequence:
        beside["sequence"], after_history = sequence_alone(spark, lake, config, interactions, items, scratch)
    if version is None and any(isinstance(b, Frozen) for b in settings.baselines):
        beside[ENCODED] = encoded_items(spark, lake, items)
    denied = denied_items(spark, config, items)
    if denied is not None and published[Trial("full", "all")].join(denied, "item_id", "left_semi").first() is not None:
        raise UserError(
            "evaluate: the table candidates holds items that candidates.deny names now; run again from candidates"
        )
    columns = catalogue_columns(items, beside, interactions, learned)
    columns = columns if denied is None else mark_denied(columns, denied)
    catalogue = write_catalogue(columns if labels is None else columns.join(labels, "item_id"), scratch)
    truth, seen = truth_and_seen(interactions, catalogue, config.seed, scratch, listed, denied)
    if labels is not None:
        truth = keep(with_likes(truth, interactions, labels), f"{scratch}/likes")

    judged = truth.select("user_id").distinct()
    before = interactions.join(judged, "user_id", "left_semi")
    solve = config.factorize if version is None else load_head(local_folder(version.path))[2]
    fold_in = history_folding(before, items, solve, config.embed.blocks, scratch)
    slices: dict[str, tuple[str, ...]] = {b.kind: b.slices for b in settings.baselines}
    sources = Sources(
        catalogue,
        interactions.where(F.col("split").isin(*LEARNED)).select("user_id", "item_id").distinct(),
        lambda: lake.read(spark, ITEMS),
        ENCODED if ENCODED in beside else None,
        word_index,
        scratch,
    )
    by_history, left_out = history_models(settings.baselines, sources, settings.memory_gib)
    models = [
        *(Model(kind, vectors.users, (f"knows_{kind}",), slices[kind]) for kind, vectors in learned.items()),
        *([Model(RECENT, everyone(judged))] if RECENT in beside else []),
        *by_history,
        *(folded.model(name, fold_in, scratch, listed.repeats) for name, folded in trained.items()),
        Model("text_after", keep(fold_in(priors(items)), f"{scratch}/after")),
        *([Model("factors", user_vectors)] if config.combine else []),
        *([Model("sequence", after_history)] if config.sequence else []),
        Model("full", listed.users, repeats=listed.repeats),
    ]
    models = models if denied is None else [replace(model, known=(*model.known, ALLOWED)) for model in models]
    trials = tuple(dict.fromkeys((*(Trial(model.name, name) for model in models for name in model.slices), *published)))
    blocks = blocks_for(judged.count(), settings)
    histories = histories_of(before, catalogue, config.seed) if by_history else None
    lists = ranked_lists(
        models, trials, published, judged, histories, seen, catalogue, blocks, settings.ks[-1], settings
    )
    train_users = interactions.where("split = 'train'").select("user_id").distinct().count()
    starts = popularity_deciles(items) if settings.slices else None
    evaluation = Evaluation(
        trials, catalogue, settings.ks, settings.replicates, train_users, starts, labels is not None
    )
    verdicts = judge_lists(lists, truth, evaluation, blocks)
    texts = {name: folded.items for name, folded in trained.items() if name not in WITHOUT_TEXT} | {
        "text_after": priors(items)
    }
    night = Night(interactions, items, texts, catalogue, solve, train_users, Popularity().kind in learned, denied)
    new_rows, new_compared = judge_new_users(night, lake, config, f"{scratch}/new_users")
    rows, errors = metric_rows(evaluation, verdicts) + new_rows, rating_errors(spark, lake, config, blocks)
    leaks = leakage_rows(interactions, items, lake.read(spark, ITEMS), config.seed) if settings.leakage else []

    write_judged(spark, lake, rows + errors, comparison_rows(evaluation, verdicts) + new_compared, leaks, left_out)
    lake.clear_scratch("evaluate")
    logger.info("%s", readable(rows, settings.ks[0]))
    if leaks:
        logger.info("%s", told(leaks))
    if errors:
        logger.info("%s", readable(errors, 0, ERRORS, "errors of predicted ratings"))


def sequence_alone(
    spark: SparkSession, lake: Lake, config: "Deployment", interactions: DataFrame, items: DataFrame, scratch: str
) -> tuple[DataFrame, DataFrame]:
    """(item_id, vector) and (user_id, vector) of the judged users under the sequence model."""
    positions = write_catalogue(items.select("item_id", "interactions"), f"{scratch}/sequence")
    judged = interactions.where("split = 'test'").select("user_id").distinct()
    histories = histories_of(interactions.join(judged, "user_id", "left_semi"), positions, config.seed)
    found = list_parts(saved(spark, lake, config), positions, histories)
    return keep(found[0], f"{scratch}/sequence-items"), keep(found[1], f"{scratch}/sequence-users")


def attribute_labels(spark: SparkSession, lake: Lake, settings: EvaluateConfig, scratch: str) -> DataFrame | None:
    """(item_id, labels) of the attribute whose mix is judged, if any is."""
    if settings.calibrate is None:
        return None
    items = lake.read(spark, ITEMS)
    found = item_labels(items, settings.calibrate, settings.calibrate_separator, "evaluate.calibrate")
    return keep(found, f"{scratch}/labels")


def rating_errors(spark: SparkSession, lake: Lake, config: "Deployment", blocks: int) -> list[tuple]:
    """Rows of the metrics table for the predicted ratings, where the configuration has any."""
    if config.ratings is None:
        return []
    predicted, items = lake.read(spark, PREDICTED_RATINGS), lake.read(spark, RATING_ITEM_FACTORS)
    return rating_judge.judge_ratings(predicted, items, config.seed, config.evaluate.replicates, blocks)


def require_lengths(settings: EvaluateConfig, items: int) -> None:
    """UserError if the catalogue has too few items for a list of the largest `ks`."""
    longest = settings.ks[-1]
    if longest > items:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but the catalogue has {items} items; set evaluate.ks lower"
        )


def require_listed(settings: EvaluateConfig, top_k: int, reranked: int | None) -> None:
    """UserError if candidates' lists, or the reranked ones, are shorter than the largest of `ks`."""
    longest = settings.ks[-1]
    if longest > top_k:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but candidates.top_k is {top_k}; raise it and run candidates again, "
            "or set evaluate.ks lower"
        )
    if reranked and longest > reranked:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but rerank.top_k is {reranked}; raise it and run rerank again"
        )
