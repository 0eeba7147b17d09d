"""combine: the factors beside an item-based model whose texts count too (EASE), what is popular and, where there is one, a sequence
model, as one inner product a pair.

They err on different items, and their weighted sum is better than any (docs/combine.md has the figures). How much each counts, how fast a history fades, whether the texts count in EASE, and whether users get again what they had, is chosen by
nDCG on what is held out and not denied; the test is never read. It runs where the configuration has a section `combine`; the
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
from recspark.data.catalogue import rows_of, vector_column
from recspark.data.matrices import Matrix
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.item_based import EaseSettings, ease_bytes
from recspark.retrieval.combination import FACTORS, ITEM_BASED, POPULARITY, SEQUENCE, Choice, user_parts
from recspark.retrieval.histories import history_matrix
from recspark.stages.candidates import denied_items
from recspark.stages.combined_choice import Chosen, Seen, choose
from recspark.stages.combined_world import World, night_world, validation_worlds, with_histories
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

INPUTS = (
    "interactions",
    "items",
    "base_text_vectors",
    "text_vectors",
    "item_vectors",
    "user_vectors",
    "models/sequence",
    "models/sequence_held_out",
)
OUTPUTS = ("combined_item_vectors", "combined_user_vectors")
NAMES = {FACTORS: "factors", SEQUENCE: "sequence model", POPULARITY: "popularity", ITEM_BASED: "EASE"}
# In the manifests of both tables: the choices, with their nDCG; and what each turn of choosing gained.
TRIED, TURNS = "tried", "turns"
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
    choose_users: int = Field(
        10_000, ge=1, description="users to choose on at most of one hold-out, drawn by a hash of the id"
    )
    hold_outs: int = Field(
        5,
        ge=1,
        le=20,
        description="times at most that train rows are held out, until there are so many users; where none are valid and they are drawn by chance. "
        "The sequence model's share goes by the first",
    )
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

    night, learner, before = night_world(spark, lake, config)
    held_out = validation_worlds(night, learner, before, lake, config, lake.scratch("combine/validation"))
    denied = denied_items(spark, config, items)
    found = choose(held_out, settings, config.seed, lake.scratch("combine"), denied)
    chosen = found.choice
    log.info("%s", readable(found, settings.choose_at))
    listed = night.listed(chosen, lake.scratch("combine"))
    version = vectors_version(lake, "combine")
    about = {
        RETRIEVER_VERSION: version,
        COMBINATION: uuid.uuid4().hex,
        CHOICE: chosen.described(),
        SEED: config.seed,
        TRIED: found.tried,
        TURNS: found.turns,
    }
    hashes = items.select("model_hash").first()
    model_hash = F.lit(hashes["model_hash"] if hashes else None)
    written = item_vectors(night, chosen, listed, spark).withColumn("model_hash", model_hash)
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
            f"{settings.memory_gib:g}; raise it where the driver's machine has the memory (outside the JVM's heap: in cluster mode "
            "spark.driver.memoryOverhead), or leave out the section combine"
        )


def item_vectors(night: World, chosen: Choice, listed: Matrix, spark: SparkSession) -> DataFrame:
    """(item_id, vector): see `retrieval.combination`."""
    sides = night.sides

    def join(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        dense, similar = sides.of_items(chosen), listed.read()
        most = rows_of(ITEM_BATCH_BYTES, 4 * (sum(part.shape[1] for part in dense) + len(similar)))
        for batch in batches:
            for part in (batch.slice(start, most) for start in range(0, len(batch), most)):
                places = part.column("position").to_numpy()
                rows = np.hstack([*(part[places] for part in dense), similar[:, places].T])
                yield pa.RecordBatch.from_arrays([part.column("item_id"), vector_column(rows)], ["item_id", "vector"])

    positions = night.catalogue.positions(spark)
    item_type = positions.schema["item_id"].dataType.simpleString()
    return positions.mapInArrow(join, f"item_id {item_type}, vector array<float>")


def user_vectors(night: World, users: DataFrame, chosen: Choice, seed: int) -> DataFrame:
    """(user_id, vector) of every user: see `retrieval.combination`."""
    # Scaled by what others say of an item, so without the diagonal, which is what having it says for itself.
    catalogue, similar, sides = night.catalogue, night.similar[chosen.texts], night.sides
    known = with_histories(users.select("user_id", "vector"), night.events, catalogue, seed)

    def combine(users: pa.Table, _: pa.Table) -> pa.Table:
        had = history_matrix(users["history"], catalogue.items, chosen.decay)
        left, right = user_parts(sides.of_users(users, chosen), had, similar.read(), chosen)
        rows = np.hstack([left, right.toarray()]).astype(np.float32)
        return pa.table({"user_id": users["user_id"], "vector": vector_column(rows)})

    blocks = max(1, -(-users.count() // USERS_PER_BLOCK))
    nothing = known.select("user_id", F.lit(0).alias("position")).limit(0)
    return over_blocks(known, nothing, blocks, combine, f"user_id {id_type(users)}, vector array<float>")


def readable(found: Chosen, k: int) -> str:
    """What was chosen, beside either model alone, for people: by all hold-outs, or by the first where only that judged the choice."""
    chosen, of_chosen = found.choice, found.choice.described()
    (row,) = (tried for tried in found.tried if of_chosen.items() <= tried.items())
    judged = "ndcg" if row["hold_outs"] == max(other["hold_outs"] for other in found.tried) else "first"
    best = row[judged]
    alone: dict[str, float] = {}
    for other in found.tried:
        weights = Choice(**{name: other[name] for name in Choice.__dataclass_fields__}).weights
        for name in (name for name, weight in weights.items() if weight == 1):
            alone[name] = max(other[judged], alone.get(name, 0.0))
    times = f", {row['hold_outs']} times" if row["hold_outs"] > 1 else ""
    shown = ", ".join(f"{NAMES[name]} alone {value:.4f}" for name, value in alone.items())
    days = "" if chosen.half_life_days is None else f" (half-life {chosen.half_life_days:.0f} days)"
    weights = {name: weight for name, weight in chosen.weights.items() if weight}
    taken = ", ".join(f"{NAMES[n]} {w:.2g}{days if n == POPULARITY else ''}" for n, w in weights.items())
    repeat = {
        "nothing": "nobody gets an item again",
        "newest": f"the newest item may come again, {chosen.repeat:g}",
        "all": f"an item that was had may come again, {chosen.repeat:g}",
    }[chosen.again]
    return (
        f"  nDCG@{k} on what is held out{times}: {best:.4f}, {shown}; taken: {taken}; decay {chosen.decay:g}, "
        f"texts {chosen.texts.replace('_', '-')}, {repeat}"
    )
