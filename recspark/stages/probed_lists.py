"""Approximate lists for every user: the index's nearest lists searched, at the rim of Spark. Used by candidates where there is an index."""

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recspark.data.catalogue import Catalogue, vectors_of
from recspark.data.listed import Listed, write_listed
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages.lists import ListSettings, listing, listing_schema, over_blocks, seen_rows
from recspark.stages.provenance import require_made_from
from recspark.tables import INDEX_LISTS, ITEM_INDEX, ITEM_VECTORS, USER_VECTORS

if TYPE_CHECKING:
    from recspark.retrieval.probe import Centroids

# In the manifest of index_lists: how many lists are probed, and for lists of what length and what recall that was measured.
PROBES, TOP_K, RECALL = "probes", "top_k", "wanted_recall"


def read_index(spark: SparkSession, lake: Lake, top_k: int, recall: float) -> tuple[str, "Centroids"]:
    """The folder of this run date's item_index, and the lists.

    Raises UserError if the index was made from other vectors than are there now, is of two runs, or was measured for shorter lists or a lower recall.
    """
    from recspark.retrieval.probe import Centroids

    lake.read(spark, ITEM_INDEX)  # checked, and an input of what is made
    lists = lake.read(spark, INDEX_LISTS)
    for made, source in ((ITEM_INDEX, ITEM_VECTORS), (INDEX_LISTS, ITEM_INDEX), (INDEX_LISTS, USER_VECTORS)):
        require_made_from(lake, made, (source,), "index")
    about = lake.manifest(INDEX_LISTS)
    for setting, asked, measured in (
        ("candidates.top_k", top_k, about.get(TOP_K)),
        ("index.recall", recall, about.get(RECALL)),
    ):
        if measured is None or asked > measured:
            raise UserError(
                f"index_lists of run date {lake.run_date} was measured with {setting} {measured}, and {asked} is asked for now; run again from index"
            )
    rows = lists.toArrow().sort_by("list")
    return lake.table_path(ITEM_INDEX), Centroids(
        vectors_of(rows["centroid"], "centroid"),
        rows["spread"].to_numpy(),
        rows["items"].to_numpy(),
        about[PROBES],
    )


@dataclass(frozen=True)
class Search:
    """How the lists are made: K items a user, users in so many blocks, sizes and threads of a task, the items in so many shards."""

    top_k: int
    blocks: int
    sizes: ListSettings
    threads: int
    shards: int


def lists_by_index(
    users: DataFrame,
    seen: DataFrame,
    catalogue: Catalogue,
    allowed: tuple[str, ...],
    index: tuple[str, "Centroids"],
    search: Search,
    scratch: str,
) -> DataFrame:
    """(user_id, rank from 1, item_id, score float), as `recommend`, of the items in the lists that a user probes.

    index: see `read_index`. Each shard is searched for all users, and the best of all shards are the user's.
    """
    folder, centroids = index
    mask = np.all([catalogue.array(c) for c in allowed], axis=0) if allowed else None
    listed = write_listed(folder, len(centroids.sizes), mask, search.shards, scratch)
    centroids = replace(centroids, sizes=listed.sizes)
    shards = [search_shard(users, seen, catalogue, listed, n, centroids, search) for n in range(listed.shards)]
    if len(shards) == 1:
        return shards[0]
    best = F.row_number().over(Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id"))
    ranked = reduce(DataFrame.unionByName, shards).withColumn("rank", best)
    return ranked.where(F.col("rank") <= search.top_k)


def search_shard(
    users: DataFrame,
    seen: DataFrame,
    catalogue: Catalogue,
    listed: Listed,
    shard: int,
    centroids: "Centroids",
    search: Search,
) -> DataFrame:
    """The lists from a shard's items alone."""
    top_k, memory, threads = search.top_k, search.sizes.memory_mib * 2**20, search.threads

    def list_block(users: pa.Table, seen: pa.Table) -> pa.Table:
        from recspark.retrieval.probe import ListedItems, probed_top_k

        ids = users["user_id"]
        vectors = vectors_of(users["vector"]) if len(ids) else np.zeros((0, centroids.vectors.shape[1]), np.float32)
        items = ListedItems(*listed.arrays(shard))
        lists = probed_top_k(vectors, items, centroids, seen_rows(ids, seen), top_k, memory, threads)
        return listing(ids, lists, catalogue)

    return over_blocks(users, seen, search.blocks, list_block, listing_schema(users, catalogue))
