"""evaluate: the full model beside the baselines and the text alone, on all, warm and cold items, with intervals and paired tests.

Every model is user vectors and item vectors, ranked by the same exact top-K with the same seen filter: what combine lets come again, all may list. `full` on all items
is judged on the candidates table itself, `reranked`, where there is a section rerank, on the table of that name.

Who is judged: users with a test item that counts, and something before it to recommend from (train, valid or history). A
test item counts if it is in the catalogue, `candidates.deny` allows it, and the user has not had it before; what is denied no model may list. On the slices warm (items with a training
interaction) and cold (without one), both the relevant items and the items ranked are those of the slice; on
cold_among_all, the relevant items are the cold ones, and all are ranked.

`leakage` counts what of the test could have been known before (`evaluation/leaks.py`); `new_users` judges those whom nobody has learned from, too, after their first events, without training.

Every two models of a slice are compared over the same users (`evaluation/comparison.py`), and every model's lists of all items are looked
at by classes of users and items (`evaluation/slices.py`).

Which models are judged is `line_up`'s. Where ratings are predicted, their errors stand beside, with k 0 (`rating_judge`).
"""

import logging
from typing import TYPE_CHECKING

from pydantic import Field, field_validator
from pyspark.sql import DataFrame, SparkSession

from recspark.errors import UserError
from recspark.evaluation.baselines import Als, Baseline, Popularity
from recspark.evaluation.item_baselines import Ease, Frozen, ItemKnn, TfIdf
from recspark.evaluation.leaks import told
from recspark.evaluation.rating_errors import METRICS as ERRORS
from recspark.lake import Lake
from recspark.stages import rating_judge
from recspark.stages.candidates import TOP_K
from recspark.stages.history_models import require_packages
from recspark.stages.judge import Evaluation, Trial, judge_lists
from recspark.stages.judged_lists import published_lists, ranked_lists
from recspark.stages.judged_models import popularity_deciles
from recspark.stages.judged_rows import comparison_rows, metric_rows, readable, write_judged
from recspark.stages.leakage import leakage_rows
from recspark.stages.line_up import line_up, read_night
from recspark.stages.lists import ListSettings, blocks_for
from recspark.stages.new_users import judge_new_users
from recspark.tables import CANDIDATES, ITEMS, PREDICTED_RATINGS, RATING_ITEM_FACTORS, RERANKED, Table

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
    pair_limit: int = Field(
        10**10,
        ge=1,
        description="pairs of items that users had both, each counted for each user: with more, ease and item_knn are left out, and named",
    )
    id_alone: bool = Field(
        False,
        description="whether the full model is judged without any text, too; it takes a second factorization a night, "
        "and where there are sections combine and sequence a second choice and a second training by ranks",
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
    night = read_night(spark, lake, config, scratch)
    require_lengths(settings, night.items.count())
    published = published_lists(spark, lake, config)
    if night.interactions.where("split = 'test'").first() is None:
        if config.preprocess.allow_no_test:
            logger.info("no test rows, as preprocess.allow_no_test allows: there is nothing to evaluate")
            write_judged(spark, lake, [], [], [], {})
            return
        raise UserError(
            "evaluate: interactions has no row of split test; set preprocess.split so that some are held out"
        )
    require_allowed(published, night.denied)
    require_made_long(lake, settings, CANDIDATES, "candidates")
    if config.rerank:
        require_made_long(lake, settings, RERANKED, "rerank")

    known = line_up(night)
    own = (Trial(model.name, name) for model in known.models for name in model.slices)
    trials = tuple(dict.fromkeys((*own, *published)))
    blocks, longest, catalogue = blocks_for(known.judged.count(), settings), settings.ks[-1], known.catalogue
    lists = ranked_lists(
        known.models,
        trials,
        published,
        known.judged,
        known.histories,
        known.seen,
        catalogue,
        blocks,
        longest,
        settings,
    )
    deciles = popularity_deciles(night.items) if settings.slices else None
    labelled = settings.calibrate is not None
    evaluation = Evaluation(trials, catalogue, settings.ks, settings.replicates, night.train_users, deciles, labelled)
    verdicts = judge_lists(lists, known.truth, evaluation, blocks)
    new_rows, new_compared = judge_new_users(night, known, f"{scratch}/new_users")
    rows, errors = metric_rows(evaluation, verdicts) + new_rows, rating_errors(spark, lake, config, blocks)
    compared = comparison_rows(evaluation, verdicts) + new_compared
    leaks = []
    if settings.leakage:
        leaks = leakage_rows(night.interactions, night.items, lake.read(spark, ITEMS), config.seed)

    write_judged(spark, lake, rows + errors, compared, leaks, known.left_out)
    lake.clear_scratch("evaluate")
    logger.info("%s", readable(rows, settings.ks[0]))
    if leaks:
        logger.info("%s", told(leaks))
    if errors:
        logger.info("%s", readable(errors, 0, ERRORS, "errors of predicted ratings"))


def rating_errors(spark: SparkSession, lake: Lake, config: "Deployment", blocks: int) -> list[tuple]:
    """Rows of the metrics table for the predicted ratings, where the configuration has any."""
    if config.ratings is None:
        return []
    predicted, items = lake.read(spark, PREDICTED_RATINGS), lake.read(spark, RATING_ITEM_FACTORS)
    return rating_judge.judge_ratings(predicted, items, config.seed, config.evaluate.replicates, blocks)


def require_allowed(published: dict[Trial, DataFrame], denied: DataFrame | None) -> None:
    """UserError if the candidates hold an item that is denied by now."""
    lists = published[Trial("full", "all")]
    if denied is not None and lists.join(denied, "item_id", "left_semi").first() is not None:
        raise UserError(
            "evaluate: the table candidates holds items that candidates.deny names now; run again from candidates"
        )


def require_lengths(settings: EvaluateConfig, items: int) -> None:
    """UserError if the catalogue has too few items for a list of the largest `ks`."""
    longest = settings.ks[-1]
    if longest > items:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but the catalogue has {items} items; set evaluate.ks lower"
        )


def require_made_long(lake: Lake, settings: EvaluateConfig, lists: Table, stage: str) -> None:
    """UserError if a table's lists were made, by other settings, shorter than the largest of `ks`. stage: which makes them."""
    longest = settings.ks[-1]
    made = lake.manifest(lists).get(TOP_K) or longest
    if longest > made:
        raise UserError(
            f"evaluate.ks asks for lists of {longest}, but those of the table {lists.name} of run date {lake.run_date} were made {made} long; "
            f"run again from {stage}, or set evaluate.ks lower"
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
