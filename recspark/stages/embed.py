"""embed: vectors of all items and users, whose inner product is the score.

An item's vector is what its text says (the retriever's prior) corrected by its own data in one solve; a user's is folded in
from the history in one solve, so a user the training never saw needs nothing else.

The retriever was trained tonight, or is a version that learned from another log: then the user factors are those it was trained with,
users unknown to these are folded in over its item factors, and who met what, and what could have been met, is tonight's. So a
night needs no training.
"""

import uuid
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, field_validator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data import solves
from recspark.data.blocks import Links, from_blocks, keep, to_blocks
from recspark.data.exposure import shares_of
from recspark.data.sums import exact_mean
from recspark.lake import Lake, local_folder
from recspark.lake.registry import Version
from recspark.models.factors import FactorSettings
from recspark.models.retriever import load_head
from recspark.stages.provenance import TOKENIZED_BY, require_one_preprocess, require_same_tokens
from recspark.stages.text_vectors import text_vectors
from recspark.stages.versions import (
    CHOICE,
    EMBEDDING,
    RETRIEVER,
    RETRIEVER_VERSION,
    TONIGHT,
    Retrain,
    chosen_retriever,
    learned_tonight,
    require_factors_of,
    settled,
)
from recspark.tables import (
    INTERACTIONS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    ITEMS,
    TEXT_VECTORS,
    USER_FACTORS,
    USER_VECTORS,
    USERS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items", "users", "user_factors", "item_factors", "models/retriever")
OUTPUTS = ("text_vectors", "item_vectors", "user_vectors")


class EmbedConfig(Settings):
    """Which retriever, and sizes of the solves."""

    retriever: str = Field(
        TONIGHT,
        description="tonight: the run date's own; newest: the newest before, while `retrain` lets it serve; promoted; or a version. "
        "But for tonight's own, nothing is trained",
    )
    retrain: Retrain = Retrain()
    blocks: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="blocks a side; null: one for every million pairs and 100,000 rows, from 2 to 2,000",
    )

    @field_validator("retriever")
    @classmethod
    def _retriever_is_a_version(cls, retriever: str) -> str:
        if not CHOICE.fullmatch(retriever):
            raise ValueError("must be tonight, newest, promoted, or a version such as 2026-11-24-1a2b3c4d")
        return retriever


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, items, users, the factor tables and the retriever; write text_vectors, item_vectors and user_vectors."""
    interactions, items = lake.read(spark, INTERACTIONS), lake.read(spark, ITEMS)
    require_one_preprocess(lake, "embed")
    version = chosen_retriever(lake, settled(lake, config)[0])
    path, model_hash = lake.read_version(RETRIEVER, version)
    require_same_tokens(lake, "embed", version.manifest.get(TOKENIZED_BY, {}), f"the retriever {version.id}")
    require_factors_of(lake, "embed", version)
    about = {RETRIEVER_VERSION: version.id, EMBEDDING: uuid.uuid4().hex}
    # How its vectors are pooled, the retriever's own folder says.
    retriever = config.encoder.model_copy(update={"path": path, "pooling": None})
    texts = text_vectors(spark, lake, TEXT_VECTORS, items, retriever, model_hash, **about)
    priors = keep(item_priors(items, texts, path), lake.scratch("embed/priors"))

    corrected = correct_items(spark, lake, config, interactions, priors, version, lake.scratch("embed/items"))
    require_factors_of(lake, "embed", version)  # encoding takes hours, and another run may write that date meanwhile
    item_vectors = corrected.join(items.select("item_id", "text_hash"), "item_id").withColumn(
        "model_hash", F.lit(model_hash)
    )
    lake.write(item_vectors, ITEM_VECTORS, **about)
    vectors = lake.read(spark, ITEM_VECTORS)

    settings = load_head(local_folder(path))[2]
    histories = solves.interaction_pairs(interactions, solves.FOLDED)
    known = vectors.select("item_id", "vector", "interactions", "exposure")
    scratch = lake.scratch("embed/users")
    folded = keep(solves.fold_in(histories, known, settings, config.embed.blocks, scratch), f"{scratch}/folded")
    lake.write(all_users(lake.read(spark, USERS), folded, model_hash), USER_VECTORS, **about)
    lake.clear_scratch("embed")


def item_priors(items: DataFrame, texts: DataFrame, path: str) -> DataFrame:
    """(item_id, prior): the retriever's head on each item's text vector."""
    weight, bias, _ = load_head(local_folder(path))

    def head(pieces):  # type: ignore[no-untyped-def]
        for piece in pieces:
            vectors = np.stack(list(piece.vector)) @ weight.T + bias
            yield piece[["item_id"]].assign(prior=list(vectors.astype(np.float32)))

    joined = items.select("item_id", "text_hash").join(texts.select("text_hash", "vector"), "text_hash")
    id_type = joined.schema["item_id"].dataType.simpleString()
    # Which rows are multiplied together decides the last bits: keep it by the ids, and not by which vectors were there already.
    spread = int(items.sparkSession.conf.get("spark.sql.shuffle.partitions") or 8)
    placed = joined.select("item_id", "vector").repartition(spread, "item_id").sortWithinPartitions("item_id")
    return placed.mapInPandas(head, f"item_id {id_type}, prior array<float>")


def correct_items(
    spark: SparkSession,
    lake: Lake,
    config: "Deployment",
    interactions: DataFrame,
    priors: DataFrame,
    version: Version,
    scratch: str,
) -> DataFrame:
    """(item_id, vector, prior, interactions, exposure): one item solve with the factorization's user vectors."""
    settings = load_head(local_folder(version.path))[2]
    pairs, items = solves.interaction_pairs(interactions, solves.LEARNED), priors.select("item_id")
    factors, known = (lake.read(spark, table, version.run_date) for table in (USER_FACTORS, ITEM_FACTORS))
    if learned_tonight(lake, version):
        shares = items.join(known.select("item_id", "exposure"), "item_id", "left").na.fill(1.0, ["exposure"])
    else:
        pairs = keep(pairs, f"{scratch}/pairs")
        factors = with_new_users(pairs, factors, known, settings, config.embed.blocks, scratch)
        pairs = pairs.join(factors, "user_id", "left_semi")
        shares = shares_of(items, interactions, solves.LEARNED, config.factorize.exposure)
    links = Links(pairs, shares, config.embed.blocks, scratch)
    users = keep(to_blocks(factors, links.user_index, "user_id"), f"{scratch}/user_blocks")
    prior_blocks = keep(to_blocks(priors, links.item_index, "item_id", "prior"), f"{scratch}/prior_blocks")
    gram = solves.gram_of_blocks(users, settings.embedding_size, links.blocks)
    solved = solves.solve_side(links.items, users, gram, links.user_index.count(), settings, prior_blocks)
    rows = from_blocks(solved, links.item_index, "item_id", settings.embedding_size)
    counts = solves.row_counts_of(links.items).withColumnRenamed("id", "item_id")
    return rows.join(priors, "item_id").join(counts, "item_id").join(shares, "item_id")


def with_new_users(
    pairs: DataFrame,
    factors: DataFrame,
    known_items: DataFrame,
    settings: FactorSettings,
    blocks: int | None,
    scratch: str,
) -> DataFrame:
    """(user_id, vector): the factors, and of users who have none what they have met, folded in over the known items' factors.

    A user who has met no known item stays unknown.
    """
    new = pairs.join(factors, "user_id", "left_anti").join(known_items, "item_id", "left_semi")
    if new.isEmpty():
        return factors.select("user_id", "vector")
    folded = solves.fold_in(new, known_items, settings, blocks, f"{scratch}/new_users")
    return keep(factors.select("user_id", "vector").unionByName(folded), f"{scratch}/users")


def all_users(users: DataFrame, folded: DataFrame, model_hash: str) -> DataFrame:
    """Every user's vector; one without a history gets the mean of the others', which is near to popularity."""
    mean = (
        folded.select(F.posexplode("vector").alias("position", "value"))
        .groupBy("position")
        .agg(exact_mean("value").alias("value"))
    )
    values = [float(row["value"]) for row in mean.orderBy("position").collect()]
    joined = users.select("user_id", "events").join(folded, "user_id", "left")
    average = F.array(*[F.lit(v) for v in values]).cast("array<float>")
    return joined.withColumn("vector", F.coalesce("vector", average)).withColumn("model_hash", F.lit(model_hash))
