"""index: the items in lists of near ones, so that candidates need not look at all of them: for catalogues where the exact way is too slow.

k-means on a sample of the item vectors finds the lists' centroids; every item goes to the nearest. How many lists a user has to probe is not set but measured:
for a sample of users the exact lists are made, and as many are probed as hold the wanted share of their items (recall). Runs where the
configuration has a section `index`.
"""

import logging
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, vectors_of, write_catalogue
from recspark.data.sums import exact_mean
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.session import task_threads
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.list_vectors import list_vectors, require_one_model
from recspark.stages.lists import Ranking, blocks_for, recommend
from recspark.stages.probed_lists import PROBES, RECALL, TOP_K
from recspark.stages.versions import RETRIEVER_VERSION, vectors_version
from recspark.tables import INDEX_LISTS, INTERACTIONS, ITEM_INDEX

if TYPE_CHECKING:
    from recspark.pipeline import Deployment
    from recspark.retrieval.probe import Centroids

INPUTS = ("interactions", "item_vectors", "user_vectors")
OUTPUTS = ("item_index", "index_lists")

log = logging.getLogger("recspark")


class IndexConfig(Settings):
    """How much of the exact lists the approximate ones must hold, and how the lists of items are made."""

    recall: float = Field(
        0.95,
        gt=0,
        le=1,
        description="share of the exact lists' items that probed lists must hold, on a sample of users",
    )
    lists: int | None = Field(
        None,
        ge=1,
        description="lists that the items are parted into; left out: 4 times the square root of their number",
    )
    sample_per_list: int = Field(32, ge=1, description="items a list that the centroids are learned from, by k-means")
    iterations: int = Field(10, ge=1, description="of k-means")
    sample_users: int = Field(1000, ge=1, description="users whose exact lists say how many lists must be probed")
    shards: int = Field(
        1, ge=1, description="parts of the items that are searched one by one: a task maps one of them from the disk"
    )


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read item_vectors, user_vectors and interactions; write item_index and index_lists."""
    settings = config.index
    if settings is None:
        raise UserError("index: the configuration has no section index; write one: index: {}")
    lake.clear_scratch("index")
    interactions = lake.read(spark, INTERACTIONS)
    vectors = list_vectors(spark, lake, config)
    require_one_model(vectors.items, vectors.users)
    about = {RETRIEVER_VERSION: vectors_version(lake, "index")}

    items, scratch = vectors.items.select("item_id", "vector", "model_hash"), lake.scratch("index")
    catalogue = write_catalogue(items.select("item_id", "vector"), scratch)
    wanted = min(catalogue.items, settings.lists or math.ceil(4 * math.sqrt(catalogue.items)))
    found_LD = learn_centroids(items, wanted, settings, config.seed)
    placed = keep(in_lists(items, found_LD).select("item_id", "list", "distance"), f"{scratch}/placed")
    rows = items.join(placed, "item_id").join(catalogue.positions(spark), "item_id").orderBy("list", "position")
    lake.write(rows.select(*(column.name for column in ITEM_INDEX.columns)), ITEM_INDEX, **about)
    index = lake.read(spark, ITEM_INDEX)  # so that the manifest of index_lists says which it was made from
    centroids = shaped(index, found_LD)
    # Users without any event share one vector: they would say of the index what is true of one user.
    met = vectors.users.where("events > 0")
    users = sampled(met if met.first() else vectors.users, "user_id", settings.sample_users, config.seed)
    seen = vectors.seen(interactions)
    exact = exact_lists(users, seen, catalogue, config.candidates)
    measured = measure(users, exact.join(index, "item_id"), centroids, settings.recall)
    log.info(
        "index: %s lists; the %s nearest of a user hold %.1f%% of what the exact lists of %s users have, and %.1f%% of all items",
        f"{len(found_LD):,}",
        f"{measured[PROBES]:,}",
        100 * measured["recall"],
        f"{measured['users']:,}",
        100 * measured["share"],
    )
    columns = {
        "list": np.arange(len(found_LD), dtype=np.int32),
        "items": centroids.sizes,
        "spread": centroids.spreads,
        "centroid": list(found_LD),
    }
    rows = spark.createDataFrame(pd.DataFrame(columns), "list int, items bigint, spread float, centroid array<float>")
    measured_for = {TOP_K: config.candidates.top_k, RECALL: settings.recall}
    lake.write(rows, INDEX_LISTS, **about, **measured, **measured_for)
    lake.clear_scratch("index")


def sampled(frame: DataFrame, id_column: str, rows: int, seed: int) -> DataFrame:
    """(id, vector) of so many rows, drawn by a hash of the id."""
    drawn = frame.orderBy(F.xxhash64(F.lit(seed), id_column), id_column).limit(rows)
    return drawn.select(id_column, "vector")


def learn_centroids(items: DataFrame, lists: int, settings: IndexConfig, seed: int) -> NDArray[np.float32]:
    """(L, D); the driver holds the sample."""
    from recspark.retrieval.probe import find_centroids

    sample = sampled(items, "item_id", lists * settings.sample_per_list, seed).toArrow()
    return find_centroids(vectors_of(sample["vector"]), lists, settings.iterations, seed)


def in_lists(items: DataFrame, centroids_LD: NDArray[np.float32]) -> DataFrame:
    """The items with `list`, that of the nearest centroid, and `distance` from it."""

    @F.pandas_udf("list int, distance double")  # type: ignore[call-overload]
    def nearest(vector: pd.Series) -> pd.DataFrame:
        from recspark.retrieval.probe import nearest_lists

        vectors_ND = (
            np.stack(list(vector)).astype(np.float32)
            if len(vector)
            else np.zeros((0, centroids_LD.shape[1]), np.float32)
        )
        lists = nearest_lists(vectors_ND, centroids_LD)
        away = vectors_ND.astype(np.float64) - centroids_LD[lists]
        return pd.DataFrame({"list": lists.astype(np.int32), "distance": np.sqrt((away * away).sum(1))})

    return items.withColumn("near", nearest("vector")).select("*", "near.list", "near.distance").drop("near")


def shaped(index: DataFrame, centroids_LD: NDArray[np.float32]) -> "Centroids":
    """The centroids with the size and the spread of each list, which is 0 of an empty one; so far, one is probed."""
    from recspark.retrieval.probe import Centroids

    sizes, spreads = np.zeros(len(centroids_LD), np.int64), np.zeros(len(centroids_LD))
    square = exact_mean(F.col("distance") * F.col("distance"))
    for row in index.groupBy("list").agg(F.count("item_id").alias("items"), square.alias("square")).collect():
        sizes[row["list"]], spreads[row["list"]] = row["items"], math.sqrt(row["square"] / centroids_LD.shape[1])
    return Centroids(centroids_LD, spreads.astype(np.float32), sizes, 1)


def exact_lists(users: DataFrame, seen: DataFrame, catalogue: Catalogue, settings: CandidatesConfig) -> DataFrame:
    """(user_id, item_id, …): what candidates would list without an index, nothing denied. seen: (user_id, item_id)."""
    spark = users.sparkSession
    had = seen.join(users, "user_id", "left_semi").join(catalogue.positions(spark), "item_id")
    ranking = Ranking("vector", "vector", min(settings.top_k, catalogue.items))
    blocks = blocks_for(users.count(), settings)
    return recommend(
        users, had.select("user_id", "position"), catalogue, ranking, blocks, settings, task_threads(spark)
    )


def measure(users: DataFrame, exact: DataFrame, centroids: "Centroids", recall: float) -> dict[str, float]:
    """How many lists must be probed, what they then hold of the exact lists (recall) and of all items (share), and of how many users.

    As many of the nearest lists as hold the wanted share of the rows (user_id, list) of `exact`, all users together.
    """
    from recspark.retrieval.probe import places_of

    known, found = users.toArrow(), exact.select("user_id", "list").toArrow()
    vectors, ids = vectors_of(known["vector"]), known["user_id"].combine_chunks()
    user = pc.index_in(found["user_id"], ids).to_numpy().astype(np.int64)
    order = np.argsort(user, kind="stable")
    lists = found["list"].to_numpy().astype(np.int64)
    places = np.sort(places_of(vectors, centroids, user[order], lists[order]))
    probes = 1 + int(places[math.ceil(recall * len(places)) - 1]) if len(places) else 1
    near = [centroids.sizes[scores.topk(probes, 1).indices.numpy()].sum(1) for _, scores in centroids.scores(vectors)]
    return {
        PROBES: probes,
        "recall": float((places < probes).mean()) if len(places) else 1.0,
        "share": float(np.concatenate(near).mean() / centroids.sizes.sum()),
        "users": len(known),
    }
