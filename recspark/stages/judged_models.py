"""What evaluate judges: the models, their vectors in one catalogue, and what counts as right."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue
from recspark.errors import UserError
from recspark.evaluation.baselines import Vectors
from recspark.models.factors import FactorSettings
from recspark.stages.judge import SLICES
from recspark.stages.list_vectors import ListVectors
from recspark.stages.lists import seen_positions

FoldIn = Callable[[DataFrame], DataFrame]  # (item_id, vector, interactions, exposure) -> (user_id, vector)


@dataclass(frozen=True)
class Model:
    """A model's user vectors; its item vectors are the catalogue's column of its name.

    users: (user_id, vector). known: boolean columns of the items it can list. slices: what it is judged on. repeats: it lists what
    users had, too.
    """

    name: str
    users: DataFrame
    known: tuple[str, ...] = ()
    slices: tuple[str, ...] = tuple(SLICES)
    repeats: bool = False


def catalogue_columns(
    items: DataFrame,
    listed: DataFrame,
    factors: DataFrame | None,
    interactions: DataFrame,
    learned: dict[str, Vectors],
) -> DataFrame:
    """A row an item: its vector under every model (the full one's from `listed`, text_before's from `factors`, if given), what each baseline knows, its slice, and how many users have it in train."""
    train = interactions.where("split = 'train'").groupBy("item_id").agg(F.count_distinct("user_id").alias("having"))
    warm = F.col("interactions") > 0
    frame = items.select(
        "item_id",
        F.col("vector").alias("factors"),
        F.col("prior").alias("text_after"),
        warm.alias("warm"),
        (~warm).alias("cold"),
    )
    frame = frame.join(listed.select("item_id", F.col("vector").alias("full")), "item_id")
    if factors is not None:
        frame = frame.join(factors.select("item_id", F.col("prior").alias("text_before")), "item_id", "left")
    frame = frame.join(train, "item_id", "left").withColumn("having", F.coalesce("having", F.lit(0)))
    for kind, vectors in learned.items():
        first = vectors.items.select(F.size("vector").alias("size")).first()
        nothing = F.array_repeat(F.lit(0.0).cast("float"), first["size"] if first else 1)
        frame = frame.join(vectors.items.withColumnRenamed("vector", kind), "item_id", "left")
        frame = frame.withColumn(f"knows_{kind}", F.col(kind).isNotNull()).withColumn(kind, F.coalesce(kind, nothing))
    return frame


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


def truth_and_seen(
    interactions: DataFrame, catalogue: Catalogue, seed: int, scratch: str, listed: ListVectors
) -> tuple[DataFrame, DataFrame]:
    """What counts as relevant, (user_id, hash, position), each once; and what those users had before, (user_id, position).

    Where the lists may hold what a user had, that counts as relevant, too.

    Raises UserError if nothing counts.
    """
    test = interactions.where("split = 'test'").select("user_id", "item_id").distinct()
    before = interactions.join(test, "user_id", "left_semi")
    seen = keep(seen_positions(before, catalogue), f"{scratch}/seen")
    known = before.where(F.col("split").isin(*solves.FOLDED)).select("user_id").distinct()
    wanted = test.join(catalogue.positions(interactions.sparkSession), "item_id").join(known, "user_id", "left_semi")
    never = seen_positions(before, catalogue, listed.seen_splits) if listed.repeats else seen
    fresh = wanted.join(never, ["user_id", "position"], "left_anti")
    truth = keep(
        fresh.select("user_id", F.xxhash64(F.lit(seed), "user_id").alias("hash"), "position"), f"{scratch}/truth"
    )
    if truth.first() is None:
        raise UserError(
            "evaluate: no user to judge: no test interaction is with a known item that its user, known from train, valid or "
            "history, has not had before; set preprocess.split so that users have a past and a test item"
        )
    return truth, seen
