"""The models that evaluate judges tonight, in their order: their item vectors in one catalogue, and what counts as right.

`text_before` is what the factorization's map of the text says of tonight's items, and `id_alone` the full model as it would be if it read no
text, with `factors_alone`, its factors by themselves, where the lists are combined; these, and the baseline `frozen`, are left out where the retriever was trained on another night. `recent_popularity` is popularity by the half-life that
combine chose, where it chose one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.data.labels import item_labels
from recspark.evaluation.baselines import LEARNED, VectorBaseline, Vectors
from recspark.evaluation.item_baselines import Frozen, Sources
from recspark.lake import Lake, local_folder
from recspark.lake.registry import Version
from recspark.models.factors import FactorSettings
from recspark.models.retriever import load_head
from recspark.stages.candidates import denied_items, mark_denied
from recspark.stages.history_models import histories_of, history_models, word_index
from recspark.stages.judged_models import (
    ENCODED,
    WITHOUT_TEXT,
    Folded,
    Model,
    allowed_only,
    catalogue_columns,
    encoded_items,
    everyone,
    history_folding,
    kept,
    priors,
    tonights_items,
    truth_and_seen,
    with_likes,
)
from recspark.stages.list_vectors import ListVectors, list_vectors
from recspark.stages.sequence import list_parts, saved
from recspark.stages.versions import borrowed_version
from recspark.tables import INTERACTIONS, ITEM_VECTORS, ITEMS, USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

RECENT = "recent_popularity"


@dataclass(frozen=True)
class Night:
    """What evaluate reads.

    items, users: of embed; listed: what the lists were made of. borrowed: the retriever's version, where it was trained on another
    night. scratch: a folder for what is made of them.
    """

    spark: SparkSession
    lake: Lake
    config: "Deployment"
    interactions: DataFrame
    items: DataFrame
    users: DataFrame
    listed: ListVectors
    borrowed: Version | None
    scratch: str

    @cached_property
    def denied(self) -> DataFrame | None:
        """(item_id) of what no list may hold; UserError if it cannot be read."""
        return denied_items(self.spark, self.config, self.items)

    @cached_property
    def train_users(self) -> int:
        """How many users have something in train."""
        return self.interactions.where("split = 'train'").select("user_id").distinct().count()


def read_night(spark: SparkSession, lake: Lake, config: "Deployment", scratch: str) -> Night:
    """Raises UserError if a table is missing, or was made from others than are there now."""
    interactions, items = lake.read(spark, INTERACTIONS), lake.read(spark, ITEM_VECTORS)
    borrowed = borrowed_version(lake, "evaluate")
    users, listed = lake.read(spark, USER_VECTORS), list_vectors(spark, lake, config)
    return Night(spark, lake, config, interactions, items, users, listed, borrowed, scratch)


@dataclass(frozen=True)
class LineUp:
    """Models, and what they are judged by.

    catalogue: of `catalogue_columns`. truth, seen: of `truth_and_seen`. histories: (user_id, history), where a model goes by it. texts: the
    items (item_id, vector, interactions, exposure) by the names of the models that are text alone. solve: how users are folded in.
    left_out: baselines that could not be had, and why.
    """

    models: list[Model]
    catalogue: Catalogue
    truth: DataFrame
    seen: DataFrame
    histories: DataFrame | None
    texts: dict[str, DataFrame]
    solve: FactorSettings
    left_out: dict[str, str]

    @property
    def judged(self) -> DataFrame:
        """(user_id) of the users who are judged."""
        return self.truth.select("user_id").distinct()


def line_up(night: Night) -> LineUp:
    """Raises UserError if nothing counts as right, or what a baseline needs is not in the lake."""
    config, interactions, scratch, denied = night.config, night.interactions, night.scratch, night.denied
    settings, listed = config.evaluate, night.listed
    learned: dict[str, Vectors] = {
        b.kind: kept(b.vectors(interactions, night.items, config.seed), f"{scratch}/{b.kind}")
        for b in settings.baselines
        if isinstance(b, VectorBaseline)
    }
    tonights = night.spark, night.lake, config, interactions, night.items, scratch
    trained = tonights_items(*tonights) if night.borrowed is None else {}
    sequence = sequence_alone(night) if config.sequence else None
    beside, labels = vectors_beside(night, trained, sequence), attribute_labels(night)
    catalogue = lay_out(night, beside, learned, labels)
    truth, seen = truth_and_seen(interactions, catalogue, config.seed, scratch, listed, denied)
    if labels is not None:
        truth = keep(with_likes(truth, interactions, labels), f"{scratch}/likes")

    judged = truth.select("user_id").distinct()
    before = interactions.join(judged, "user_id", "left_semi")
    solve = config.factorize if night.borrowed is None else load_head(local_folder(night.borrowed.path))[2]
    fold_in = history_folding(before, night.items, solve, config.embed.blocks, scratch)
    by_history, left_out = history_models(settings.baselines, sources(night, beside, catalogue), settings.memory_gib)
    slices: dict[str, tuple[str, ...]] = {b.kind: b.slices for b in settings.baselines}
    models = [
        *(Model(kind, vectors.users, (f"knows_{kind}",), slices[kind]) for kind, vectors in learned.items()),
        *([Model(RECENT, everyone(judged))] if RECENT in beside else []),
        *by_history,
        *(folded.model(name, fold_in, scratch) for name, folded in trained.items()),
        Model("text_after", keep(fold_in(priors(night.items)), f"{scratch}/after")),
        *([Model("factors", night.users)] if config.combine else []),
        *([Model("sequence", sequence.users)] if sequence else []),
        Model("full", listed.users),
    ]
    histories = histories_of(before, catalogue, config.seed) if by_history else None
    texts = {name: folded.items for name, folded in trained.items() if name not in WITHOUT_TEXT}
    texts["text_after"] = priors(night.items)
    return LineUp(allowed_only(models, denied), catalogue, truth, seen, histories, texts, solve, left_out)


def vectors_beside(night: Night, trained: dict[str, Folded], sequence: Vectors | None) -> dict[str, DataFrame]:
    """(item_id, vector) of every item by the names of the models that are no baselines, and under the base encoder, if that is wanted."""
    beside = {"full": night.listed.items, **{name: folded.column for name, folded in trained.items()}}
    if night.config.combine:
        beside["factors"] = night.items
        if night.listed.half_life_days is not None:
            beside[RECENT] = night.listed.popularity()
    if sequence:
        beside["sequence"] = sequence.items
    if night.borrowed is None and any(isinstance(b, Frozen) for b in night.config.evaluate.baselines):
        beside[ENCODED] = encoded_items(night.spark, night.lake, night.items)
    return beside


def lay_out(
    night: Night, beside: dict[str, DataFrame], learned: dict[str, Vectors], labels: DataFrame | None
) -> Catalogue:
    """A row an item, with what every model says of it."""
    columns = catalogue_columns(night.items, beside, night.interactions, learned)
    columns = columns if night.denied is None else mark_denied(columns, night.denied)
    return write_catalogue(columns if labels is None else columns.join(labels, "item_id"), night.scratch)


def sources(night: Night, beside: dict[str, DataFrame], catalogue: Catalogue) -> Sources:
    """What the baselines that go by histories are made from."""
    pairs = night.interactions.where(F.col("split").isin(*LEARNED)).select("user_id", "item_id").distinct()
    encoded = ENCODED if ENCODED in beside else None
    limit = night.config.evaluate.pair_limit
    return Sources(
        catalogue, pairs, lambda: night.lake.read(night.spark, ITEMS), encoded, word_index, night.scratch, limit
    )


def sequence_alone(night: Night) -> Vectors:
    """Of the judged users under the sequence model."""
    scratch, seed = night.scratch, night.config.seed
    positions = write_catalogue(night.items.select("item_id", "interactions"), f"{scratch}/sequence")
    judged = night.interactions.where("split = 'test'").select("user_id").distinct()
    histories = histories_of(night.interactions.join(judged, "user_id", "left_semi"), positions, seed)
    items, users = list_parts(saved(night.spark, night.lake, night.config), positions, histories)
    return kept(Vectors(users, items), f"{scratch}/sequence")


def attribute_labels(night: Night) -> DataFrame | None:
    """(item_id, labels) of the attribute whose mix is judged, if any is."""
    settings = night.config.evaluate
    if settings.calibrate is None:
        return None
    items = night.lake.read(night.spark, ITEMS)
    found = item_labels(items, settings.calibrate, settings.calibrate_separator, "evaluate.calibrate")
    return keep(found, f"{night.scratch}/labels")
