"""Vectors of distinct texts, by an Arrow UDF that keeps the encoder in each Python worker. Used by factorize and embed."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig
from recspark.session import task_threads
from recspark.stages.provenance import TOKENIZED_BY
from recspark.stages.versions import borrowed_version
from recspark.tables import BASE_TEXT_VECTORS, ITEMS, TEXT_VECTORS, Table

if TYPE_CHECKING:
    from recspark.models.encoder import TextEncoder

EncoderName = Literal["fine_tuned", "base"]


def text_vectors(
    spark: SparkSession,
    lake: Lake,
    table: Table,
    items: DataFrame,
    encoder: EncoderConfig,
    model_hash: str,
    **about: Any,
) -> DataFrame:
    """Write `table` (text_hash, model_hash, vector) for the distinct texts of the items, `about` in its manifest; returns it.

    Texts that this table's last run date has under the same model, cut to the same length, are taken from there, not encoded again.
    """
    texts = items.select("text_hash", "token_ids").dropDuplicates(["text_hash"])
    tokens = lake.manifest(ITEMS)[TOKENIZED_BY]
    known = last_vectors(spark, lake, table, model_hash, tokens)
    if known is not None:
        kept = known.join(texts.select("text_hash"), "text_hash", "left_semi")
        texts = texts.join(known.select("text_hash"), "text_hash", "left_anti")
    encoded = encode_texts(spark, texts, encoder, model_hash)
    vectors = encoded if known is None else kept.unionByName(encoded)
    lake.write(vectors, table, **{TOKENIZED_BY: tokens}, **about)
    return lake.read(spark, table)  # so that what the stage makes of it names it


def with_texts(
    spark: SparkSession, lake: Lake, items: DataFrame, stage: str
) -> tuple[DataFrame, tuple[EncoderName, ...]]:
    """The items, with a column of text vectors for each encoder that has read tonight's texts in place of `text_hash`; and their names.

    The base encoder has not where the retriever is of another night.
    """
    tables: dict[EncoderName, Table] = {"fine_tuned": TEXT_VECTORS}
    if borrowed_version(lake, stage) is None:
        tables["base"] = BASE_TEXT_VECTORS
    for encoder, table in tables.items():
        vectors = lake.read(spark, table).select("text_hash", F.col("vector").alias(encoder))
        items = items.join(vectors, "text_hash")
    return items.drop("text_hash"), tuple(tables)


def last_vectors(
    spark: SparkSession, lake: Lake, table: Table, model_hash: str, tokens: dict[str, Any]
) -> DataFrame | None:
    """The vectors that the run date before this one made with the same model from texts tokenized alike, if any."""
    dates = [date for date in lake.run_dates(table) if date < lake.run_date and lake.has(table, date)]
    if not dates or lake.manifest(table, dates[-1]).get(TOKENIZED_BY) != tokens:
        return None
    return lake.read(spark, table, dates[-1]).where(F.col("model_hash") == model_hash)


def encode_texts(spark: SparkSession, texts: DataFrame, encoder: EncoderConfig, model_hash: str) -> DataFrame:
    """(text_hash, model_hash, vector) of (text_hash, token_ids)."""
    threads, budget = task_threads(spark), encoder.tokens_per_batch

    def run(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from recspark.retrieval.encode import encode

        model = kept_encoder(encoder, model_hash, threads)
        for piece in pieces:
            tokens = [np.asarray(t, np.int32) for t in piece.token_ids]
            vectors = encode(model, tokens, budget)
            yield pd.DataFrame({"text_hash": piece.text_hash, "model_hash": model_hash, "vector": list(vectors)})

    # The order within a partition decides the batches, and those the last bits: keep it by the texts alone.
    spread = texts.repartition(int(spark.conf.get("spark.sql.shuffle.partitions") or 8), "text_hash")
    return spread.sortWithinPartitions("text_hash").mapInPandas(
        run, "text_hash string, model_hash string, vector array<float>"
    )


@lru_cache(maxsize=2)
def kept_encoder(encoder: EncoderConfig, model_hash: str, threads: int) -> "TextEncoder":
    """The encoder, loaded once per Python worker and kept by its content hash."""
    import torch

    from recspark.models.encoder import load_encoder

    torch.set_num_threads(threads)
    model = load_encoder(encoder.path, encoder.pooling, encoder.trust_remote_code)
    return model.to("cuda") if torch.cuda.is_available() else model
