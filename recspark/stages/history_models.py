"""The baselines that go by users' histories, as models that evaluate can rank by."""

import logging
from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from recspark.data.catalogue import Catalogue
from recspark.data.matrices import write_matrix
from recspark.data.next_event import item_histories
from recspark.data.solves import FOLDED
from recspark.evaluation.baselines import Baseline
from recspark.evaluation.item_baselines import Bm25, ItemBaseline, LeftOut, Sides, Sources, sides_within
from recspark.stages.judged_models import Model
from recspark.stages.lists import FromHistory

logger = logging.getLogger("recspark")


def require_packages(baselines: Sequence[Baseline]) -> None:
    """UserError if BM25 is asked for and bm25s is not installed."""
    if any(isinstance(b, Bm25) for b in baselines):
        from recspark.retrieval.words import require_bm25s

        require_bm25s()


def history_models(
    baselines: Sequence[Baseline], sources: Sources, memory_gib: float
) -> tuple[list[Model], dict[str, str]]:
    """A model for each baseline of the kind, and why those that cannot be had are left out, by their names."""
    models: list[Model] = []
    left_out: dict[str, str] = {}
    for baseline in baselines:
        if not isinstance(baseline, ItemBaseline):
            continue
        try:
            sides = sides_within(baseline, sources, memory_gib)
        except LeftOut as reason:
            logger.warning("evaluate: the baseline %s is left out: %s", baseline.kind, reason)
            left_out[baseline.kind] = str(reason)
            continue
        known = () if "cold" in baseline.slices else ("met",)
        models.append(Model(baseline.kind, laid_out(sides, baseline.decay, sources.scratch), known, baseline.slices))
    return models, left_out


def laid_out(sides: Sides, decay: float, scratch: str) -> FromHistory:
    """The two sides where the workers find them."""
    right = write_matrix(sides.right, scratch)
    if sides.left is sides.right:
        return FromHistory(right, right, decay)
    return FromHistory(None if sides.left is None else write_matrix(sides.left, scratch), right, decay)


def histories_of(interactions: DataFrame, catalogue: Catalogue, seed: int) -> DataFrame:
    """(user_id, history) of what the fold-in learns from, too."""
    return item_histories(interactions.where(F.col("split").isin(*FOLDED)), catalogue, seed)


def word_index(texts: list[str]) -> tuple[csr_matrix, csr_matrix]:
    """How often each text has each word, and what the word brings to it by BM25, both (M, V).

    Raises UserError where bm25s is not installed.
    """
    from recspark.retrieval.words import build_index, split

    index = build_index(texts)
    return index.counts(split(texts)), index.items_MV
