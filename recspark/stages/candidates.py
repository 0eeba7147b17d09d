"""candidates: the best items of every user by inner product, less what was seen and what is denied: exact, or by the index where there is one."""

import logging
from typing import TYPE_CHECKING

from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.data.sources import Source, open_files
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.session import task_threads
from recspark.stages.list_vectors import list_vectors, require_one_model
from recspark.stages.lists import ListSettings, Ranking, blocks_for, recommend
from recspark.stages.probed_lists import Search, lists_by_index, read_index
from recspark.stages.versions import RETRIEVER_VERSION, vectors_version
from recspark.tables import CANDIDATES, INTERACTIONS, is_id_type

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = (
    "interactions",
    "item_vectors",
    "user_vectors",
    "combined_item_vectors",
    "combined_user_vectors",
    "item_index",
    "index_lists",
)
OUTPUTS = ("candidates",)
DENY = "candidates.deny"
TOP_K = "top_k"  # in the manifests of the lists: how long they were to be
ALLOWED = "allowed"  # the boolean column of a catalogue that has a deny list

logger = logging.getLogger("recspark")


class CandidatesConfig(ListSettings):
    """How long the lists are, and what must not be on them."""

    top_k: int = Field(100, ge=1, description="K, items a user")
    deny: Source | None = Field(None, description="files with a column item_id: items that nobody gets")


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read item_vectors and user_vectors, or what combine made of them, interactions, and the index if there is one; write candidates.

    Raises UserError where K items cannot be had, or the tables or the deny list do not fit together.
    """
    settings = config.candidates
    lake.clear_scratch("candidates")
    vectors = list_vectors(spark, lake, config)
    items, users = vectors.items, vectors.users
    interactions = lake.read(spark, INTERACTIONS)
    require_one_model(items, users)
    version = vectors_version(lake, "candidates")

    ranked = items.select("item_id", "vector")
    denied = denied_items(spark, config, items)
    if denied is not None:
        tell_unknown(ranked, denied)
        ranked = mark_denied(ranked, denied)
    allowed = () if denied is None else (ALLOWED,)
    index = config.index
    # With an index the vectors are read from there, where they lie in its order.
    catalogue = write_catalogue(ranked if index is None else ranked.drop("vector"), lake.scratch("candidates"))
    require_enough_items(catalogue, allowed, settings.top_k)

    people = users.select("user_id", "vector")
    seen = vectors.seen(interactions).join(catalogue.positions(spark), "item_id").select("user_id", "position")
    blocks, threads = blocks_for(users.count(), settings), task_threads(spark)
    if index is None:
        ranking = Ranking("vector", "vector", settings.top_k, allowed)
        lists = recommend(people, seen, catalogue, ranking, blocks, settings, threads)
    else:
        search = Search(settings.top_k, blocks, settings, threads, index.shards)
        found = read_index(spark, lake, settings.top_k, index.recall)
        lists = lists_by_index(people, seen, catalogue, allowed, found, search, lake.scratch("candidates"))
    lake.write(lists, CANDIDATES, **{RETRIEVER_VERSION: version, TOP_K: settings.top_k})
    lake.clear_scratch("candidates")


def require_enough_items(catalogue: Catalogue, allowed: tuple[str, ...], top_k: int) -> None:
    """UserError if nobody could get a full list."""
    left = int(catalogue.array(allowed[0]).sum()) if allowed else catalogue.items
    if top_k > left:
        denied = f", {catalogue.items - left} of them denied by {DENY}" if allowed else ""
        raise UserError(
            f"candidates.top_k is {top_k}, but the catalogue has {catalogue.items} items{denied}; set candidates.top_k to {left} or less"
        )


def read_deny_list(spark: SparkSession, source: Source, item_type: T.DataType) -> DataFrame:
    """(item_id) of the deny list, distinct, in the catalogue's type; CSV is text and is read as that type.

    Raises UserError if the files cannot be read, or lack a column item_id of the catalogue's kind (text or whole numbers).
    """
    frame = open_files(spark, DENY, source.path, source.format, source.options)
    if "item_id" not in frame.columns:
        raise UserError(f"{DENY}: {source.path} lacks column item_id; it has {frame.columns}")
    found = frame.schema["item_id"].dataType
    same_kind = isinstance(found, T.StringType) == isinstance(item_type, T.StringType)
    if not is_id_type(found) or not (same_kind or source.format == "csv"):
        raise UserError(
            f"{DENY}: column item_id of {source.path} is {found.simpleString()}; the catalogue's is {item_type.simpleString()}: "
            "write the list with ids of that type, or as CSV"
        )
    if not isinstance(item_type, T.StringType) and isinstance(found, T.StringType):
        # What is no number cannot be in the catalogue; kept as null, it is counted among the unknown.
        return frame.select(F.col("item_id").try_cast(item_type).alias("item_id")).distinct()
    return frame.select("item_id").distinct()


def denied_items(spark: SparkSession, config: "Deployment", items: DataFrame) -> DataFrame | None:
    """(item_id) of the deny list, if there is one; see `read_deny_list`."""
    deny = config.candidates.deny
    return None if deny is None else read_deny_list(spark, deny, items.schema["item_id"].dataType)


def mark_denied(items: DataFrame, denied: DataFrame) -> DataFrame:
    """The items with a boolean column `allowed`."""
    marked = denied.withColumn("denied", F.lit(True))
    return items.join(marked, "item_id", "left").withColumn(ALLOWED, F.col("denied").isNull()).drop("denied")


def tell_unknown(items: DataFrame, denied: DataFrame) -> None:
    """Warn of entries that the catalogue does not have."""
    if unknown := denied.join(items, "item_id", "left_anti").count():
        logger.warning("%s: %d entries are not in the catalogue and deny nothing", DENY, unknown)
