"""combine: the factors beside an item-based model whose texts count too (EASE), as one inner product a pair.

The two err on different items, and their weighted sum is better than either (docs/combine.md has the figures). How much each
counts, how fast a history fades, whether the texts count in EASE, and whether users get again what they had, is chosen by
nDCG on what is held out; the test is never read. It runs where the configuration has a section `combine`; the
catalogue must fit in memory.
"""

import logging
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.catalogue import Catalogue, rows_of, vector_column, vectors_of
from recspark.data.matrices import Matrix
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.item_based import EaseSettings, ease_bytes
from recspark.retrieval.combination import Choice, user_parts
from recspark.retrieval.histories import history_matrix
from recspark.stages.combined_choice import Seen, choose
from recspark.stages.combined_world import World, night_world, validation_world, with_histories
from recspark.stages.list_vectors import CHOICE, COMBINATION, SEED
from recspark.stages.lists import id_type, over_blocks
from recspark.stages.versions import RETRIEVER_VERSION, vectors_version
from recspark.tables import (
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    ITEM_VECTORS,
    USER_VECTORS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items", "base_text_vectors", "text_vectors", "item_vectors", "user_vectors")
OUTPUTS = ("combined_item_vectors", "combined_user_vectors")
TRIED = "tried"  # in the manifests of both tables: the choices, with their nDCG
USERS_PER_BLOCK = 512  # a user's scores over the whole catalogue are held at once
ITEM_BATCH_BYTES = 16 * 2**20  # of vectors as long as the catalogue that go to Spark at a time

log = logging.getLogger("recspark")


class CombineConfig(Settings):
    """What stands beside the factors, and what is chosen how."""

    ease: EaseSettings = EaseSettings()
    seen: Seen = Field(
        "filtered",
        description="items that a user had: filtered, allowed, or as is better on what is held out (chosen)",
    )
    choose_at: int = Field(10, ge=1, description="k of the nDCG@k by which is chosen")
    choose_users: int = Field(3000, ge=1, description="users to choose on at most, drawn by a hash of the id")
    memory_gib: float = Field(4.0, gt=0, description="what the driver may hold for EASE")


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, items and vectors; write combined_item_vectors and combined_user_vectors.

    Raises UserError if the catalogue does not fit, or there is nothing to choose on.
    """
    settings = config.combine
    if settings is None:
        raise UserError("combine: the configuration has no section combine; write one: combine: {}")
    lake.clear_scratch("combine")
    items, users = lake.read(spark, ITEM_VECTORS), lake.read(spark, USER_VECTORS)
    require_memory(items.count(), settings)

    night, learner = night_world(spark, lake, config)
    chosen, tried = choose(
        *validation_world(night, learner, spark, lake, config), settings, config.seed, lake.scratch("combine")
    )
    log.info("%s", readable(chosen, tried, settings.choose_at))
    listed = night.listed(chosen, lake.scratch("combine"))
    version = vectors_version(lake, "combine")
    about = {
        RETRIEVER_VERSION: version,
        COMBINATION: uuid.uuid4().hex,
        CHOICE: chosen.described(),
        SEED: config.seed,
        TRIED: tried,
    }
    hashes = items.select("model_hash").first()
    model_hash = F.lit(hashes["model_hash"] if hashes else None)
    written = item_vectors(night.catalogue, listed, spark).withColumn("model_hash", model_hash)
    lake.write(written, COMBINED_ITEM_VECTORS, **about)
    combined = user_vectors(night, users, chosen, config.seed).withColumn("model_hash", model_hash)
    lake.write(combined, COMBINED_USER_VECTORS, **about)
    lake.clear_scratch("combine")


def require_memory(items: int, settings: CombineConfig) -> None:
    """UserError if EASE over so many items does not fit."""
    needed = ease_bytes(items) / 2**30
    if needed > settings.memory_gib:
        raise UserError(
            f"combine: EASE over {items:,} items needs {needed:.1f} GiB on the driver, and combine.memory_gib is "
            f"{settings.memory_gib:g}; raise it (and spark.driver_memory beside it), or leave out the section combine"
        )


def item_vectors(catalogue: Catalogue, listed: Matrix, spark: SparkSession) -> DataFrame:
    """(item_id, vector): an item's factors and its column of S."""

    def join(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        factors, similar = catalogue.array("vector"), listed.read()
        most = rows_of(ITEM_BATCH_BYTES, 4 * (factors.shape[1] + len(similar)))
        for batch in batches:
            for part in (batch.slice(start, most) for start in range(0, len(batch), most)):
                places = part.column("position").to_numpy()
                rows = np.hstack([factors[places], similar[:, places].T])
                yield pa.RecordBatch.from_arrays([part.column("item_id"), vector_column(rows)], ["item_id", "vector"])

    positions = catalogue.positions(spark)
    item_type = positions.schema["item_id"].dataType.simpleString()
    return positions.mapInArrow(join, f"item_id {item_type}, vector array<float>")


def user_vectors(night: World, users: DataFrame, chosen: Choice, seed: int) -> DataFrame:
    """(user_id, vector) of every user: see `retrieval.combination`."""
    # Scaled by what others say of an item, so without the diagonal, which is what having it says for itself.
    catalogue, similar = night.catalogue, night.similar[chosen.texts]
    known = with_histories(users.select("user_id", "vector"), night.events, catalogue, seed)

    def combine(users: pa.Table, _: pa.Table) -> pa.Table:
        had = history_matrix(users["history"], catalogue.items, chosen.decay)
        factors = catalogue.array("vector")
        left, right = user_parts(vectors_of(users["vector"]), factors, had, similar.read(), chosen.share)
        rows = np.hstack([left, right.toarray()]).astype(np.float32)
        return pa.table({"user_id": users["user_id"], "vector": vector_column(rows)})

    blocks = max(1, -(-users.count() // USERS_PER_BLOCK))
    nothing = known.select("user_id", F.lit(0).alias("position")).limit(0)
    return over_blocks(known, nothing, blocks, combine, f"user_id {id_type(users)}, vector array<float>")


def readable(chosen: Choice, tried: list[dict], k: int) -> str:
    """What was chosen, beside either model alone, for people."""
    best = max(row["ndcg"] for row in tried)
    alone = {
        name: max((row["ndcg"] for row in tried if row["share"] == share), default=float("nan"))
        for name, share in (("factors", 0.0), ("EASE", 1.0))
    }
    shown = ", ".join(f"{name} alone {value:.4f}" for name, value in alone.items())
    repeat = {
        "nothing": "nobody gets an item again",
        "newest": f"the newest item may come again, {chosen.repeat:g}",
        "all": f"an item that was had may come again, {chosen.repeat:g}",
    }[chosen.again]
    return (
        f"  nDCG@{k} on what is held out: {best:.4f}, {shown}; taken: EASE's share {chosen.share:g}, decay {chosen.decay:g}, "
        f"texts {chosen.texts.replace('_', '-')}, {repeat}"
    )
