"""What the full model must beat: models that know who met what, or the texts as they are, and have learned nothing from both.

All are ranked by the same exact top-K, with the same seen filter, as the full model: those here as a pair of vectors, those of
`item_baselines` from users' histories. To add one: write its class and add it to a union, here or there.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pyspark.ml.recommendation import ALS
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.blocks import index_ids
from recspark.data.popularity import decayed, micros
from recspark.data.solves import interaction_pairs
from recspark.data.sums import exact_sum
from recspark.errors import UserError
from recspark.evaluation.item_baselines import ItemBaseline

LEARNED = ("train", "valid")  # a baseline has no choices to make on valid, so it may learn from it too
INDEX_BLOCKS = 64


@dataclass(frozen=True)
class Vectors:
    """users (user_id, vector) and items (item_id, vector array<float>): a score is their inner product.

    An item without a vector cannot be listed; a user without one gets no list.
    """

    users: DataFrame
    items: DataFrame


class Popularity(Settings):
    """Everyone gets the items with the most events in train and valid, old events counting less if so set."""

    kind: Literal["popularity"] = "popularity"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm", "cold")
    half_life_days: float | None = Field(
        None, gt=0, description="an event counts half as much as one so many days newer; left out: all count alike"
    )

    def vectors(self, interactions: DataFrame, items: DataFrame, seed: int) -> Vectors:
        """One number an item, its events, 0 if it has none; and 1 for each user.

        Raises UserError if old events shall count less and none has a time.
        """
        learned = interactions.where(F.col("split").isin(*LEARNED))
        counts = learned.groupBy("item_id").agg(exact_sum(self.weight(learned)).alias("events"))
        events = F.coalesce("events", F.lit(0)).cast("float")
        return Vectors(
            interactions.select("user_id").distinct().withColumn("vector", F.array(F.lit(1.0).cast("float"))),
            items.select("item_id").join(counts, "item_id", "left").select("item_id", F.array(events).alias("vector")),
        )

    def weight(self, events: DataFrame) -> Column:
        """What each event counts: 1, or 2^-(days before the newest / half-life)."""
        if self.half_life_days is None:
            return F.lit(1)
        newest = events.agg(F.max(micros())).first()
        if newest is None or newest[0] is None:
            raise UserError(
                "evaluate.baselines: popularity.half_life_days is set, but no event of train or valid has a time; "
                "set preprocess.interactions.columns.timestamp, or leave half_life_days out"
            )
        return decayed(self.half_life_days, newest[0])


class Als(Settings):
    """Spark's own implicit ALS (Hu, Koren and Volinsky 2008) on train and valid; an event's weight is its rating.

    The defaults did best by nDCG@10 on a held-out fifth of the training events of MovieLens-100K (protocol A), among
    regularization .01 to 1 and alpha .1 to 40; .1 and 1, or 40 as in the paper, would make it easier to beat.
    """

    kind: Literal["als"] = "als"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm")  # it knows an item by its events alone
    embedding_size: int = Field(64, ge=1, description="ALS's rank")
    iterations: int = Field(15, ge=1, description="rounds of a user and an item solve")
    regularization: float = Field(0.3, ge=0, description="ALS's regParam, scaled by the number of events of a row")
    alpha: float = Field(1.0, gt=0, description="confidence of an event is 1 + alpha times its weight")

    def vectors(self, interactions: DataFrame, items: DataFrame, seed: int) -> Vectors:
        """Factors of the users and items that have an event to learn from."""
        pairs = interaction_pairs(interactions, LEARNED)
        users, known = numbered(pairs.select("user_id"), "user"), numbered(pairs.select("item_id"), "item")
        events = (
            pairs.join(users, "user_id").join(known, "item_id").select("user", "item", F.col("weight").cast("float"))
        )
        blocks = int(interactions.sparkSession.conf.get("spark.sql.shuffle.partitions") or 10)
        model = ALS(
            rank=self.embedding_size,
            maxIter=self.iterations,
            regParam=self.regularization,
            alpha=self.alpha,
            seed=seed,
            implicitPrefs=True,
            userCol="user",
            itemCol="item",
            ratingCol="weight",
            numUserBlocks=blocks,
            numItemBlocks=blocks,
        ).fit(events)
        return Vectors(
            users.join(model.userFactors, F.col("user") == F.col("id")).select(
                "user_id", F.col("features").alias("vector")
            ),
            known.join(model.itemFactors, F.col("item") == F.col("id")).select(
                "item_id", F.col("features").alias("vector")
            ),
        )


def numbered(ids: DataFrame, name: str) -> DataFrame:
    """The distinct ids with a number each, as ALS wants them; made from the ids alone and without the driver."""
    column = ids.columns[0]
    index = index_ids(ids.select(F.col(column).alias("id")).distinct(), INDEX_BLOCKS)
    number = F.col("local") * INDEX_BLOCKS + F.col("block")
    return index.select(F.col("id").alias(column), number.cast("int").alias(name))


VectorBaseline = Popularity | Als
Baseline = Annotated[VectorBaseline | ItemBaseline, Field(discriminator="kind")]
