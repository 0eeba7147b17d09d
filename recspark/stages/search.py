"""search: a table of free-text queries, each answered with its best items of the whole catalogue; run only when named.

    score = cosine(query, text) + bm25_weight BM25 / (the most the query's words could have) + personal_weight z

z is the preference of the user that a query may name, in standard deviations over the catalogue. Each part is an inner
product, so the kernel of the lists finds the exact best: queries stand in the users' place. Nothing is hidden: who searches for
what they have seen shall find it.
"""

import logging
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.data.sources import Source
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.session import task_threads
from recspark.stages.lists import ListSettings, Ranking, blocks_for, id_type, recommend
from recspark.stages.provenance import require_vectors_of
from recspark.stages.queries import QUERIES, prepared, read_queries, require_queries
from recspark.stages.text_vectors import encode_texts
from recspark.stages.versions import RETRIEVER, RETRIEVER_VERSION, retriever_behind
from recspark.tables import ITEM_VECTORS, ITEMS, SEARCH_RESULTS, TEXT_VECTORS, USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment
    from recspark.retrieval.topk import Words

INPUTS = ("raw/queries", "items", "text_vectors", "item_vectors", "user_vectors", "models/retriever")
OUTPUTS = ("search_results",)

log = logging.getLogger("recspark")


class SearchConfig(Settings):
    """Which queries, and what counts in the score of an item."""

    queries: Source | None = Field(
        None, description="files with columns query_id, query and, where preferences shall count, user_id"
    )
    top_k: int = Field(10, ge=1, description="K, items a query")
    bm25_weight: float = Field(
        0, ge=0, description="what a full match of the words adds to the cosine; 0: words do not count"
    )
    personal_weight: float = Field(
        0.05,
        ge=0,
        description="what a standard deviation of the user's preference adds to the cosine; 0: users do not count",
    )
    queries_per_block: int = Field(256, ge=1, description="queries one task ranks at a time")
    memory_mib: int = Field(64, ge=1, description="MiB a task may use for scores, beside the block's own lists")


def check(config: "Deployment") -> None:
    """Before the night's other stages run. Raises UserError without queries, or without bm25s where words shall count."""
    if config.search.queries is None:
        raise UserError(
            f'search: {QUERIES} is not set; give it files with columns query_id and query. `recspark search "…"` answers one query'
        )
    if config.search.bm25_weight:
        from recspark.retrieval.words import require_bm25s

        require_bm25s()


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read the queries, items, text_vectors and, for queries with a user, item_vectors and user_vectors; write search_results.

    Raises UserError where there is no query to answer, K items cannot be had, or tables, queries and model do not fit together.
    """
    check(config)
    settings, source = config.search, config.search.queries
    assert source is not None  # check sees to it
    lake.clear_scratch("search")
    scratch = lake.scratch("search")
    path, model_hash = lake.read_version(RETRIEVER, version := retriever_behind(lake, TEXT_VECTORS))
    texts, items = lake.read(spark, TEXT_VECTORS), lake.read(spark, ITEMS)
    require_vectors_of(lake, "search", TEXT_VECTORS, model_of(texts), model_hash)

    trusted = config.encoder.trust_remote_code
    asked = keep(prepared(read_queries(spark, source), path, model_hash, trusted), f"{scratch}/queries")
    queries = require_queries(asked)
    distinct = queries.select("text_hash", "token_ids").dropDuplicates(["text_hash"])
    retriever = config.encoder.model_copy(update={"path": path, "pooling": None})
    encoded = encode_texts(spark, distinct, retriever, model_hash).select("text_hash", "vector")
    vectors = queries.join(keep(encoded, f"{scratch}/encoded"), "text_hash")
    ranked = items.join(texts.select("text_hash", "vector"), "text_hash").select("item_id", "vector")

    known = known_users(spark, lake, queries, settings.personal_weight, model_hash)
    if known is not None:
        ranked = beside_factors(ranked, lake.read(spark, ITEM_VECTORS))
    catalogue = write_catalogue(ranked, scratch)
    require_whole_catalogue(lake, catalogue.items, settings.top_k, "search.top_k")
    if known is not None:
        vectors = beside_preferences(vectors, keep(known, f"{scratch}/users"), catalogue, settings.personal_weight)
    words = index_words(items, catalogue) if settings.bm25_weight else None
    lists = answer(vectors, catalogue, words, settings, task_threads(spark))
    lists = lists.withColumn("model_hash", F.lit(model_hash))
    lake.write(lists, SEARCH_RESULTS, **{RETRIEVER_VERSION: version.id})
    lake.clear_scratch("search")


def answer(
    queries: DataFrame, catalogue: Catalogue, words: str | None, settings: SearchConfig, threads: int
) -> DataFrame:
    """(query_id, rank, item_id, score) of queries (query_id, query, vector); `words` is the folder of a WordIndex."""
    weight = settings.bm25_weight

    def words_of(block: pa.Table) -> "Words":
        from recspark.retrieval.words import load_index

        return load_index(words).words(block["query"].to_pylist(), weight)

    sizes = ListSettings(users_per_block=settings.queries_per_block, memory_mib=settings.memory_mib)
    in_users_place = queries.select(F.col("query_id").alias("user_id"), "query", "vector")
    lists = recommend(
        in_users_place,
        nothing_seen(in_users_place),
        catalogue,
        Ranking("vector", "vector", settings.top_k),
        blocks_for(queries.count(), sizes),
        sizes,
        threads,
        words_of if words else None,
    )
    return lists.withColumnRenamed("user_id", "query_id")


def nothing_seen(users: DataFrame) -> DataFrame:
    """(user_id, position) without a row."""
    return users.sparkSession.createDataFrame([], f"user_id {id_type(users)}, position int")


def model_of(vectors: DataFrame) -> str | None:
    """The model hash of a table of vectors; None if it is empty."""
    row = vectors.select("model_hash").first()
    return row["model_hash"] if row is not None else None


# ---- preferences


def known_users(
    spark: SparkSession, lake: Lake, queries: DataFrame, weight: float, model_hash: str
) -> DataFrame | None:
    """(query_id, preference) of the queries whose user has a vector; None if users do not count or none has one.

    Says how many users are unknown; their queries are answered as if they named nobody.
    """
    named = queries.where(F.col("user_id").isNotNull()).select("query_id", "user_id")
    if not weight or not (count := named.count()):
        return None
    users = lake.read(spark, USER_VECTORS)
    require_vectors_of(lake, "search", USER_VECTORS, model_of(users), model_hash)
    # Text on both sides: CSV has ids as text, and "0196" is not 196.
    vectors = users.select(F.col("user_id").cast("string").alias("user_id"), F.col("vector").alias("preference"))
    found = named.join(vectors, "user_id").select("query_id", "preference")
    unknown = count - found.count()
    if unknown:
        log.warning(
            "%s: %s of %s user ids are not in user_vectors; their queries are answered for nobody in particular",
            QUERIES,
            f"{unknown:,}",
            f"{count:,}",
        )
    return found if count > unknown else None


def beside_factors(ranked: DataFrame, item_vectors: DataFrame) -> DataFrame:
    """Items (item_id, vector) with the text vector, the vector that users' scores are made with, and a 1, in one."""
    factors = item_vectors.select("item_id", F.col("vector").alias("factors"))
    one = F.array(F.lit(1.0).cast("float"))
    return ranked.join(factors, "item_id").select("item_id", F.concat("vector", "factors", one).alias("vector"))


def beside_preferences(queries: DataFrame, known: DataFrame, catalogue: Catalogue, weight: float) -> DataFrame:
    """Queries with the vectors that go with those of `beside_factors`; a query without a user's has zeros beside it."""
    from recspark.retrieval.queries import moments_of, with_preference

    row = known.first()
    assert row is not None  # known_users has seen one
    size = len(row["preference"])
    items = catalogue.array("vector")
    moments = moments_of(items[:, items.shape[1] - 1 - size : -1])
    nobody = np.zeros(size, np.float32)

    @F.pandas_udf("array<float>")  # type: ignore[call-overload]
    def beside(vector: pd.Series, preference: pd.Series) -> pd.Series:
        users = np.stack([nobody if p is None else p for p in preference])
        return pd.Series(list(with_preference(np.stack(list(vector)), users, moments, weight)))

    joined = queries.join(known, "query_id", "left")
    return joined.withColumn("vector", beside("vector", "preference"))


# ---- the catalogue


def require_whole_catalogue(lake: Lake, found: int, top_k: int, setting: str) -> None:
    """UserError if an item is without its vectors, or a list could not be full."""
    if found != (items := lake.manifest(ITEMS)["rows"]):
        raise UserError(
            f"search: {found:,} of the {items:,} items of run date {lake.run_date} have vectors; run the stage embed again"
        )
    if top_k > found:
        raise UserError(f"{setting} is {top_k}, but the catalogue has {found} items; set {setting} to {found} or less")


def index_words(items: DataFrame, catalogue: Catalogue) -> str:
    """The folder of a WordIndex over the items' texts, by position. The driver holds all texts while it is made."""
    from recspark.retrieval.words import build_index

    index = build_index(catalogue.in_order(items, "text", ""))
    fs, folder = pafs.FileSystem.from_uri(f"{catalogue.folder}/words")
    with TemporaryDirectory() as temporary:
        index.save(temporary)
        fs.create_dir(folder)
        pafs.copy_files(temporary, folder, destination_filesystem=fs)
    return f"{catalogue.folder}/words"
