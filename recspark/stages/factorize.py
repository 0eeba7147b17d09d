"""factorize: a vector for every user and item from who met what, with a prior for every item from its text.

Implicit ALS over all pairs in closed form (`models.factors` and `models.row_solves` have the formulas). From the second iteration on, each item is
pulled to a ridge map of its text vector under the base encoder; an item that nobody has met is that prior.
"""

import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from safetensors.numpy import save_file

from recspark.data import solves
from recspark.data.blocks import Links, Side, from_blocks, keep
from recspark.data.exposure import shares_of
from recspark.data.priors import RidgePrior, text_prior
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.factors import FactorSettings
from recspark.stages.base_encoder import base_encoder
from recspark.stages.provenance import (
    FACTORIZATION,
    TOKENIZED_BY,
    require_one_preprocess,
    require_same_tokens,
    tokenized_by,
)
from recspark.stages.text_vectors import text_vectors
from recspark.tables import BASE_TEXT_VECTORS, INTERACTIONS, ITEM_FACTORS, ITEMS, USER_FACTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items")
OUTPUTS = ("base_text_vectors", "user_factors", "item_factors", "models/factors")


class FactorizeConfig(FactorSettings):
    """Implicit ALS; the defaults are those measured on MovieLens-100K."""

    iterations: int = Field(8, ge=1, description="rounds of a user and an item solve")
    prior_ridge: float = Field(5.0, gt=0, description="ridge of the map from text vectors to item vectors")
    exposure: bool = Field(
        True,
        description="users gone before an item appeared do not count as having passed it over; for lists of today, not for a random split",
    )
    blocks: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="blocks a side; null: one for every million pairs and 100,000 rows, from 2 to 2,000",
    )


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions and items; write base_text_vectors, user_factors, item_factors and the model `factors`."""
    settings, encoder = config.factorize, base_encoder(lake, config.encoder)
    tokens = tokenized_by(encoder)
    items = lake.read(spark, ITEMS)
    require_one_preprocess(lake, "factorize")
    require_same_tokens(lake, "factorize", tokens, "the configuration")
    scratch = lake.scratch("factorize")
    interactions = lake.read(spark, INTERACTIONS)
    pairs = solves.interaction_pairs(interactions, solves.LEARNED)
    base = text_vectors(spark, lake, BASE_TEXT_VECTORS, items, encoder, tokens["encoder"])

    shares = shares_of(items.select("item_id"), interactions, solves.LEARNED, settings.exposure)
    links = Links(pairs, shares, settings.blocks, scratch)
    if not links.users.rows:
        raise UserError(
            "factorize: no training interaction joins an item; look at the rejects table and preprocess.split"
        )
    vectors = items.join(base.select("text_hash", "vector"), "text_hash").select("item_id", "vector")
    prior = text_prior(vectors, links, settings, settings.prior_ridge, scratch)
    user_blocks, item_blocks = iterate(links, prior, settings, config.seed, scratch)
    write_outputs(lake, settings, links, prior, user_blocks, item_blocks)
    lake.clear_scratch("factorize")


def iterate(
    links: Links, prior: RidgePrior | None, settings: FactorizeConfig, seed: int, scratch: str
) -> tuple[DataFrame, DataFrame]:
    """(user blocks, item blocks) after the iterations and one more user solve. Without a prior no item is pulled anywhere."""
    size, met = settings.embedding_size, solves.exposed(links.items)
    item_blocks = keep(solves.random_start(links.items, seed, size), f"{scratch}/items-0")
    for iteration in range(1, settings.iterations + 1):
        gram = solves.gram_of(item_blocks, size, links.blocks)
        user_blocks = keep(
            solves.solve_side(links.users, item_blocks, gram, met, settings), f"{scratch}/users-{iteration}"
        )
        gram = solves.gram_of(user_blocks, size, links.blocks)
        priors = prior.blocks(prior.fit(item_blocks)) if prior is not None and iteration > 1 else None
        solved = solves.solve_side(links.items, user_blocks, gram, links.users.rows, settings, priors)
        item_blocks = keep(solved, f"{scratch}/items-{iteration}")
    gram = solves.gram_of(item_blocks, size, links.blocks)
    return keep(solves.solve_side(links.users, item_blocks, gram, met, settings), f"{scratch}/users-last"), item_blocks


def learn_items(
    items: DataFrame,
    interactions: DataFrame,
    settings: FactorizeConfig,
    seed: int,
    scratch: str,
    texts: DataFrame | None = None,
) -> DataFrame:
    """(item_id, vector, interactions, exposure) of the items (item_id), and nothing else of a factorization.

    texts: (item_id, vector), what the prior reads. Without, who met what says all, and an item that nobody has met is zero.
    """
    shares = shares_of(items, interactions, solves.LEARNED, settings.exposure)
    links = Links(solves.interaction_pairs(interactions, solves.LEARNED), shares, settings.blocks, scratch)
    prior = None if texts is None else text_prior(texts, links, settings, settings.prior_ridge, scratch)
    _, item_blocks = iterate(links, prior, settings, seed, scratch)
    vectors = from_blocks(item_blocks, links.item_index, "item_id", settings.embedding_size)
    about = links.item_index.select(F.col("id").alias("item_id"), "exposure")
    return vectors.join(counted(links.items, "item_id"), "item_id").join(about, "item_id")


def write_outputs(
    lake: Lake,
    settings: FactorizeConfig,
    links: Links,
    prior: RidgePrior,
    user_blocks: DataFrame,
    item_blocks: DataFrame,
) -> None:
    """The factor tables, and the model `factors`: what fine-tuning and embedding need to go on from here."""
    size, text_map = settings.embedding_size, prior.fit(item_blocks)
    prior_rows = from_blocks(prior.blocks(text_map), links.item_index, "item_id", size).withColumnRenamed(
        "vector", "prior"
    )
    users = from_blocks(user_blocks, links.user_index, "user_id", size).join(counted(links.users, "user_id"), "user_id")
    items = from_blocks(item_blocks, links.item_index, "item_id", size).join(counted(links.items, "item_id"), "item_id")
    shares = links.item_index.select(F.col("id").alias("item_id"), "exposure")
    items = items.join(prior_rows, "item_id").join(shares, "item_id")
    # Without interactions the last solve used the map before this one.
    items = items.withColumn("vector", F.when(F.col("interactions") > 0, F.col("vector")).otherwise(F.col("prior")))
    one_run = {FACTORIZATION: uuid.uuid4().hex}
    lake.write(users, USER_FACTORS, **one_run)
    lake.write(items, ITEM_FACTORS, **one_run)
    with TemporaryDirectory() as folder:
        weight, bias = text_map[:-1].T, text_map[-1] - prior.centre @ text_map[:-1]  # the centring folded into the bias
        tensors = {"weight": weight, "bias": bias, "user_gram": solves.gram_of(user_blocks, size, links.blocks)}
        save_file({n: np.ascontiguousarray(t, np.float64) for n, t in tensors.items()}, f"{folder}/factors.safetensors")
        (Path(folder) / "settings.json").write_text(
            FactorSettings(**settings.model_dump(include=set(FactorSettings.model_fields))).model_dump_json(indent=2)
        )
        lake.write_model("factors", folder, **one_run, **{TOKENIZED_BY: lake.manifest(ITEMS)[TOKENIZED_BY]})


def counted(side: Side, id_column: str) -> DataFrame:
    """(id, interactions) of a side's rows."""
    return solves.row_counts_of(side).withColumnRenamed("id", id_column)
