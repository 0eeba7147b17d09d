"""A table of queries, read, normalised and in the retriever's tokens; what cannot be answered is said. Used by search."""

import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recspark.data.sources import Source, open_files
from recspark.data.text import normalise, text_hash
from recspark.errors import UserError
from recspark.lake import local_folder
from recspark.models.retriever import max_length_of, query_prefix_of
from recspark.tables import is_id_type

QUERIES = "search.queries"

log = logging.getLogger("recspark")


def read_queries(spark: SparkSession, source: Source) -> DataFrame:
    """(query_id, query, user_id) of the files, user_id null where they have none.

    Raises UserError if they cannot be read, or lack a column, or hold it in a type that cannot do.
    """
    frame = open_files(spark, QUERIES, source.path, source.format, source.options)
    lacking = [name for name in ("query_id", "query") if name not in frame.columns]
    if lacking:
        raise UserError(f"{QUERIES}: {source.path} lacks column {' and '.join(lacking)}; it has {frame.columns}")
    for name in ("query_id", "user_id"):
        if name in frame.columns and not is_id_type(frame.schema[name].dataType):
            found = frame.schema[name].dataType.simpleString()
            raise UserError(f"{QUERIES}: column {name} of {source.path} is {found}; ids are strings or integers")
    if not isinstance(frame.schema["query"].dataType, T.StringType):
        found = frame.schema["query"].dataType.simpleString()
        raise UserError(f"{QUERIES}: column query of {source.path} is {found}; queries are strings")
    user = F.col("user_id") if "user_id" in frame.columns else F.lit(None).cast("string")
    return frame.select("query_id", F.coalesce("query", F.lit("")).alias("query"), user.cast("string").alias("user_id"))


def prepared(queries: DataFrame, path: str, model_hash: str, trust_remote_code: bool = False) -> DataFrame:
    """(query_id, user_id, query, text_hash, token_ids, cut, known): normalised as item texts are, and in the model's tokens."""
    query_type = queries.schema["query_id"].dataType.simpleString()

    def prepare(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from recspark.retrieval.queries import tokenise_queries

        tokenizer, max_length, prefix = kept_tokenizer(path, model_hash, trust_remote_code)
        for piece in pieces:
            texts = [normalise(query) for query in piece["query"]]
            tokens = tokenise_queries(tokenizer, texts, max_length, prefix)
            yield piece[["query_id", "user_id"]].assign(
                query=texts,
                text_hash=[text_hash(text) for text in texts],
                token_ids=[t.token_ids for t in tokens],
                cut=[t.cut for t in tokens],
                known=[t.known for t in tokens],
            )

    return queries.mapInPandas(
        prepare,
        f"query_id {query_type}, user_id string, query string, text_hash string, token_ids array<int>, cut boolean, known boolean",
    )


@lru_cache(maxsize=2)
def kept_tokenizer(path: str, model_hash: str, trust_remote_code: bool) -> tuple[Any, int, str]:
    """The retriever's tokenizer, the length it cuts texts to and what it wants before a query, kept by the Python worker."""
    from recspark.models.encoder import load_tokenizer

    folder = local_folder(path)
    return (
        load_tokenizer(folder, max_length_of(folder), trust_remote_code),
        max_length_of(folder),
        query_prefix_of(folder),
    )


def require_queries(asked: DataFrame) -> DataFrame:
    """The queries that have text; says how many have none, were cut, or hold nothing that the model knows.

    Raises UserError if none has text, or a query_id is null or stands there twice.
    """
    blank = F.col("query") == ""
    counts = asked.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("query_id").isNull()).alias("nameless"),
        F.count_if(blank).alias("blank"),
        F.count_if("cut").alias("cut"),
        F.count_if(~blank & ~F.col("known")).alias("unknown"),
    ).first()
    assert counts is not None  # an aggregate without groups has one row
    if counts["nameless"]:
        raise UserError(f"{QUERIES}: query_id is null in {counts['nameless']:,} rows; give each query an id")
    twice = asked.groupBy("query_id").count().where("count > 1").orderBy("query_id").first()
    if twice is not None:
        raise UserError(
            f"{QUERIES}: query_id {twice['query_id']} stands there {twice['count']} times; give each query an id of its own"
        )
    if counts["rows"] == counts["blank"]:
        raise UserError(f"{QUERIES}: none of {counts['rows']:,} queries has text; nothing to answer")
    for number, what in (
        (counts["blank"], "have no text and get no list"),
        (counts["cut"], "are longer than the model reads and were cut"),
        (
            counts["unknown"],
            "hold nothing that the model knows; their lists mean nothing but for words that match (search.bm25_weight)",
        ),
    ):
        if number:
            log.warning("%s: %s of %s queries %s", QUERIES, f"{number:,}", f"{counts['rows']:,}", what)
    return asked.where(~blank)
