"""The sides of benchmarks/encode.py. A request: texts, a folder of Parquet (text_hash, text); max_length; vectors, where they go.

encode_sides.py kernel | sentence_transformers      from strings in memory to an array in memory
encode_sides.py job | predict_batch_udf             Spark, Parquet to Parquet
"""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from serve import Keep, Work, serve

from recspark import session
from recspark.data.text import parse_template, text_preparer, tokenise, tokenizer_of
from recspark.models.encoder import EncoderConfig, load_encoder
from recspark.retrieval.encode import encode
from recspark.session import SparkSettings
from recspark.stages.preprocess import load_tokenizer
from recspark.stages.text_vectors import encode_texts

ENCODER = str(Path(__file__).parent.parent / ".data" / "minilm")
CORES = len(os.sched_getaffinity(0))
UDF_BATCH = 100  # as in the example of predict_batch_udf's documentation


def kernel() -> tuple[Work, Keep | None]:
    """The tokenizer and the kernel, all cores."""
    import torch

    torch.set_num_threads(CORES)
    encoder = load_encoder(ENCODER)

    def work(texts: str, max_length: int, vectors: str) -> np.ndarray:
        tokenizer = tokenizer_of(load_tokenizer, EncoderConfig(path=ENCODER, max_length=max_length))
        tokens = tokenise(tokenizer, strings(texts), max_length)
        return encode(encoder, [np.asarray(t, np.int32) for t in tokens], EncoderConfig().tokens_per_batch)

    return work, keep_array


def sentence_transformers() -> tuple[Work, Keep | None]:
    """The library's own `encode` with its own settings, all cores."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(CORES)
    model = SentenceTransformer(ENCODER, device="cpu")

    def work(texts: str, max_length: int, vectors: str) -> np.ndarray:
        model.max_seq_length = max_length
        return model.encode(strings(texts), normalize_embeddings=True, show_progress_bar=False)

    return work, keep_array


def strings(texts: str) -> list[str]:
    return ds.dataset(texts).to_table(["text"])["text"].to_pylist()


def keep_array(found: np.ndarray, texts: str, max_length: int, vectors: str) -> None:
    np.save(vectors, found)


def job() -> tuple[Work, Keep | None]:
    """The texts prepared and tokenised as preprocess does it, then encoded as embed does it."""
    spark, whole = new_session(), parse_template("{text}")

    def work(texts: str, max_length: int, vectors: str) -> None:
        encoder = EncoderConfig(path=ENCODER, max_length=max_length)
        prepare = text_preparer(whole, whole, load_tokenizer, encoder)
        fields = F.array("text")
        prepared = spark.read.parquet(texts).select(prepare(fields, fields).alias("prepared"))
        tokens = prepared.select("prepared.text_hash", "prepared.token_ids")
        encode_texts(spark, tokens, encoder, "benchmark").write.mode("overwrite").parquet(vectors)

    return work, None


def udf() -> tuple[Work, Keep | None]:
    """A model a Python worker, kept; batches of a fixed size in the order of the rows."""
    spark = new_session()

    def work(texts: str, max_length: int, vectors: str) -> None:
        found = spark.read.parquet(texts).select("text_hash", vector_of(max_length)("text").alias("vector"))
        found.write.mode("overwrite").parquet(vectors)

    return work, None


@cache
def vector_of(max_length: int) -> Callable[[str], Column]:
    """One function a length, made once: another would load the model anew."""

    def make() -> Callable[[np.ndarray], np.ndarray]:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(ENCODER, device="cpu")
        model.max_seq_length = max_length

        def predict(texts: np.ndarray) -> np.ndarray:
            return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

        return predict

    return predict_batch_udf(make, return_type=T.ArrayType(T.FloatType()), batch_size=UDF_BATCH)


def new_session() -> SparkSession:
    return session.build(SparkSettings(master=f"local[{CORES}]", conf={"spark.ui.showConsoleProgress": "false"}))


if __name__ == "__main__":
    sides = {"kernel": kernel, "sentence_transformers": sentence_transformers, "job": job, "predict_batch_udf": udf}
    serve(sides[sys.argv[1]])
