"""What evaluate judges: the models, their vectors in one catalogue, and what counts as right."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue
from recspark.data.labels import history_labels, size_of
from recspark.errors import UserError
from recspark.evaluation.baselines import LEARNED, Vectors
from recspark.evaluation.slices import decile_starts
from recspark.lake import Lake
from recspark.models.factors import FactorSettings
from recspark.stages.candidates import ALLOWED
from recspark.stages.combined_alone import IdsAlone
from recspark.stages.factorize import learn_items
from recspark.stages.judge import SLICES
from recspark.stages.list_vectors import ListVectors
from recspark.stages.lists import NEVER_AGAIN, SEEN_SPLITS, FromHistory, Ranking, seen_positions
from recspark.tables import BASE_TEXT_VECTORS, ITEM_FACTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

ID_ALONE, FACTORS_ALONE = WITHOUT_TEXT = ("id_alone", "factors_alone")
ENCODED = "encoded"  # the catalogue's column of text vectors under the base encoder
FoldIn = Callable[[DataFrame], DataFrame]  # (item_id, vector, interactions, exposure) -> (user_id, vector)


@dataclass(frozen=True)
class Model:
    """A model's user vectors, its item vectors being the catalogue's column of its name; or what it makes of histories.

    users: (user_id, vector). known: boolean columns of the items it can list. slices: what it is judged on.
    """

    name: str
    users: DataFrame | FromHistory
    known: tuple[str, ...] = ()
    slices: tuple[str, ...] = tuple(SLICES)

    def ranking(self, top_k: int, allowed: tuple[str, ...]) -> Ranking:
        """Of users with a column of the model's name or, where it goes by histories, `history`."""
        if isinstance(self.users, FromHistory):
            return Ranking("history", self.users, top_k, (*self.known, *allowed))
        return Ranking(self.name, self.name, top_k, (*self.known, *allowed))


def allowed_only(models: list[Model], denied: DataFrame | None) -> list[Model]:
    """The same, listing nothing that is denied; the catalogue has the column of what is allowed, where anything is."""
    return models if denied is None else [replace(model, known=(*model.known, ALLOWED)) for model in models]


def catalogue_columns(
    items: DataFrame, beside: dict[str, DataFrame], interactions: DataFrame, learned: dict[str, Vectors]
) -> DataFrame:
    """A row an item: its vector under every model, those of `beside` (item_id, vector of every item) by their names among them.

    And what each baseline knows, the item's slice, its train events, how many users have it in train, and whether anybody has met it in train or valid.
    """
    user_in_train = F.when(F.col("split") == "train", F.col("user_id"))
    by_item = interactions.where(F.col("split").isin(*LEARNED)).groupBy("item_id")
    met = by_item.agg(F.count_distinct(user_in_train).alias("having"), F.lit(True).alias("met"))
    warm = F.col("interactions") > 0
    frame = items.select(
        "item_id",
        F.col("prior").alias("text_after"),
        warm.alias("warm"),
        (~warm).alias("cold"),
        F.col("interactions").alias("events"),
    )
    for name, vectors in beside.items():
        frame = frame.join(vectors.select("item_id", F.col("vector").alias(name)), "item_id", "left")
    frame = frame.join(met, "item_id", "left").na.fill({"having": 0, "met": False})
    for kind, baseline in learned.items():
        first = baseline.items.select(F.size("vector").alias("size")).first()
        nothing = F.array_repeat(F.lit(0.0).cast("float"), first["size"] if first else 1)
        frame = frame.join(baseline.items.withColumnRenamed("vector", kind), "item_id", "left")
        frame = frame.withColumn(f"knows_{kind}", F.col(kind).isNotNull()).withColumn(kind, F.coalesce(kind, nothing))
    return frame


def everyone(users: DataFrame) -> DataFrame:
    """(user_id, vector) of one 1, by which all get the same."""
    return users.select("user_id", F.array(F.lit(1.0).cast("float")).alias("vector"))


def train_users(interactions: DataFrame) -> DataFrame:
    """(item_id, having): how many users have the item in train."""
    train = interactions.where("split = 'train'")
    return train.groupBy("item_id").agg(F.count_distinct("user_id").alias("having"))


def popularity_deciles(items: DataFrame) -> tuple[int, ...]:
    """The fewest train events of each decile but the last; only how many items have how many events reaches the driver."""
    counts = items.groupBy("interactions").count().collect()
    return decile_starts([r["interactions"] for r in counts], [r["count"] for r in counts])


def with_likes(truth: DataFrame, interactions: DataFrame, labels: DataFrame) -> DataFrame:
    """The truth with the mean labels (`data/labels.py`) of each user's history; all 0 where no item of it has any."""
    judged = truth.select("user_id").distinct()
    folded = interactions.where(F.col("split").isin(*solves.FOLDED)).select("user_id", "item_id").distinct()
    likes = history_labels(folded.join(judged, "user_id", "left_semi"), labels)
    nothing = F.array_repeat(F.lit(0.0), size_of(labels))
    return truth.join(likes, "user_id", "left").withColumn("likes", F.coalesce("likes", nothing))


def priors(items: DataFrame) -> DataFrame:
    """What the text alone says of each item, in place of its vector."""
    return items.select("item_id", F.col("prior").alias("vector"), "interactions", "exposure")


def history_folding(
    interactions: DataFrame, items: DataFrame, settings: FactorSettings, blocks: int | None, scratch: str
) -> FoldIn:
    """Folds the users of these interactions in over any vectors of the items, as embed does over its own."""
    pairs = solves.interaction_pairs(interactions, solves.FOLDED)
    return solves.Folding(pairs, items, settings, blocks, f"{scratch}/fold_in").users


def kept(vectors: Vectors, path: str) -> Vectors:
    """The same, computed once."""
    return Vectors(keep(vectors.users, f"{path}-users"), keep(vectors.items, f"{path}-items"))


def truth_and_seen(
    interactions: DataFrame,
    catalogue: Catalogue,
    seed: int,
    scratch: str,
    listed: ListVectors,
    denied: DataFrame | None = None,
) -> tuple[DataFrame, DataFrame]:
    """What counts as relevant, (user_id, hash, history, taste, position), each once; and what no list of theirs may hold, (user_id, position).

    Judged is who had something that says anything of him, which an event of weight 0 does not. Where the lists may hold anything that a user had, all that he had counts as relevant, too. denied: (item_id) of what no list may hold, and
    so does not count. history: how many events the user is folded in
    from; taste: the mean number of train users of their items. Raises UserError if nothing counts.
    """
    test = interactions.where("split = 'test'").select("user_id", "item_id").distinct()
    test = test if denied is None else test.join(denied, "item_id", "left_anti")
    before = interactions.join(test, "user_id", "left_semi")
    positions = catalogue.positions(interactions.sparkSession)
    seen = keep(listed.seen(before).join(positions, "item_id").select("user_id", "position"), f"{scratch}/seen")
    had = (
        before.where(F.col("split").isin(*solves.FOLDED) & (F.col("weight") > 0))
        .groupBy("user_id", "item_id")
        .agg(F.count("*").alias("events"))
    )
    # Whole numbers are added up, and divided once: the same to the last bit in whatever order.
    known = (
        had.join(train_users(interactions), "item_id", "left")
        .groupBy("user_id")
        .agg(F.sum("events").alias("history"), (F.coalesce(F.sum("having"), F.lit(0)) / F.count("*")).alias("taste"))
    )
    wanted = test.join(positions, "item_id").join(known, "user_id")
    irrelevant = seen_positions(before, catalogue, NEVER_AGAIN if listed.repeats else SEEN_SPLITS)
    fresh = wanted.join(irrelevant, ["user_id", "position"], "left_anti")
    truth = keep(
        fresh.select("user_id", F.xxhash64(F.lit(seed), "user_id").alias("hash"), "history", "taste", "position"),
        f"{scratch}/truth",
    )
    if truth.first() is None:
        raise UserError(
            "evaluate: no user to judge: no test interaction is with a known item that its user, known from train, valid or "
            "history, has not had before, and that candidates.deny allows; set preprocess.split so that users have a past and a test item"
        )
    return truth, seen


@dataclass(frozen=True)
class Folded:
    """Item vectors (item_id, vector, interactions, exposure) that users are folded in over; and, where the lists are made of others, these
    (item_id, vector), and what makes their users' vectors of the folded ones."""

    items: DataFrame
    listed: DataFrame | None = None
    users: Callable[[DataFrame], DataFrame] | None = None

    @property
    def column(self) -> DataFrame:
        """What the catalogue has of it."""
        return self.items if self.listed is None else self.listed

    def model(self, name: str, fold_in: FoldIn, scratch: str) -> Model:
        """What reads no text can list only what somebody has met."""
        folded = fold_in(self.items)
        users = keep(self.users(folded) if self.users else folded, f"{scratch}/{name}-users")
        if name not in WITHOUT_TEXT:
            return Model(name, users)
        return Model(name, users, ("warm",), ("all", "warm"))


def tonights_items(
    spark: SparkSession, lake: Lake, config: "Deployment", interactions: DataFrame, items: DataFrame, scratch: str
) -> dict[str, Folded]:
    """What only a night that trained has, by the models' names: text_before and, if asked for, id_alone; beside that, where it is combined, its factors."""
    found = {"text_before": Folded(priors(lake.read(spark, ITEM_FACTORS)))}
    if config.evaluate.id_alone:
        folder = f"{scratch}/id_alone"
        learned = learn_items(items.select("item_id"), interactions, config.factorize, config.seed, folder)
        factors = keep(learned, f"{folder}/vectors")
        combined = IdsAlone(spark, lake, config, interactions, factors, folder) if config.combine else None
        found[ID_ALONE] = Folded(factors, combined.items(), combined.users) if combined else Folded(factors)
        if combined:
            found[FACTORS_ALONE] = Folded(factors)
    return found


def encoded_items(spark: SparkSession, lake: Lake, items: DataFrame) -> DataFrame:
    """(item_id, vector) of the texts under the base encoder."""
    base = lake.read(spark, BASE_TEXT_VECTORS).select("text_hash", "vector")
    return items.select("item_id", "text_hash").join(base, "text_hash")
