"""The corpus of a pre-training: texts cleaned, in one order whatever the partitioning, and packed into blocks of tokens."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pyspark.ml.feature import StopWordsRemover
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.sources import RawTable
from recspark.data.text import Template, filled, parse_template, text_hash

CHARACTERS = 50_000_000  # of a partition that one task packs
BLOCKS = "block bigint, part string, tokens binary, words binary"
Language = Literal[
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "russian",
    "spanish",
    "swedish",
    "turkish",
]  # those whose stop words Spark knows


class RawTexts(RawTable):
    """A table of its own to learn the language from."""

    text: str = Field(description='what a document is, such as "{title}. {body}"')

    @property
    def text_template(self) -> Template:
        return parse_template(self.text)


class Cleaning(Settings):
    """What is done to a text beyond what is done to every item's."""

    lowercase: bool = False
    stop_words: Language | None = Field(None, description="leave out this language's commonest words")


def documents(fields: DataFrame, template: Template, cleaning: Cleaning) -> DataFrame:
    """(hash, text): distinct texts that are not empty, of rows of (text_fields array<string>)."""

    @F.pandas_udf("hash string, text string")  # type: ignore[call-overload]
    def fill(rows: pd.Series) -> pd.DataFrame:
        texts = [filled(template, row) for row in rows]
        return pd.DataFrame({"hash": [text_hash(text) for text in texts], "text": texts})

    made = fields.select(fill("text_fields").alias("made")).select("made.*").where(F.col("text") != "")
    return made.dropDuplicates(["hash"]).withColumn("text", cleaned(F.col("text"), cleaning)).where(F.col("text") != "")


def cleaned(text: Column, cleaning: Cleaning) -> Column:
    """The text after the optional steps."""
    if cleaning.lowercase:
        text = F.lower(text)
    if cleaning.stop_words is None:
        return text
    words = StopWordsRemover.loadDefaultStopWords(cleaning.stop_words)
    kept = F.filter(F.split(text, " "), lambda word: ~F.lower(word).isin(words))
    return F.array_join(kept, " ")


def sampled(texts: DataFrame, most: int) -> Iterator[str]:
    """At most so many of the texts, those whose hashes come first; streamed, a partition at a time."""
    for row in texts.orderBy("hash").limit(most).toLocalIterator():
        yield row["text"]


def pack(texts: DataFrame, load: Callable[[], Any], block_length: int, held_out: float) -> DataFrame:
    """Rows of BLOCKS: the texts' tokens one after another, in the order of their hashes, cut every `block_length` tokens.

    block: a number. part: `valid` for a share `held_out` of the texts, by hash; no block holds both. tokens: int32. words:
    int32, which word of the block a token belongs to, -1 for the tokenizer's special tokens. load: gives the tokenizer, in
    the Python workers.
    """
    total = texts.agg(F.sum(F.length("text"))).first()
    partitions = max(1, -(-int(total[0] or 0) // CHARACTERS)) if total else 1

    def run(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        tokenizer, held = load(), {"train": Packer(block_length), "valid": Packer(block_length)}
        for piece in pieces:
            for part, rows in piece.groupby("part", sort=True):
                held[part].add(tokenizer, list(rows.text))
                yield held[part].frame(part, rows.partition.iloc[0], last=False)
        for part, packer in held.items():
            if len(packer.tokens):
                yield packer.frame(part, piece.partition.iloc[0], last=True)

    uniform = F.conv(F.substring("hash", 1, 8), 16, 10).cast("double") / F.lit(float(16**8))
    split = texts.withColumn("part", F.when(uniform < held_out, "valid").otherwise("train"))
    spread = split.repartition(partitions, "hash").withColumn("partition", F.spark_partition_id())
    return spread.sortWithinPartitions("hash").mapInPandas(run, BLOCKS)


class Packer:
    """Tokens that have not filled a block yet, and how many blocks went before."""

    def __init__(self, block_length: int):
        self.block_length, self.made = block_length, 0
        self.tokens, self.words = np.empty(0, "<i4"), np.empty(0, "<i4")

    def add(self, tokenizer: Any, texts: list[str]) -> None:
        """Append the texts' tokens."""
        given = tokenizer(texts, add_special_tokens=True)
        tokens, words, first = [self.tokens], [self.words], int(self.words.max(initial=-1)) + 1
        for position, ids in enumerate(given["input_ids"]):
            of_text = np.array([-1 if w is None else w for w in given.word_ids(position)], np.int32)
            tokens.append(np.asarray(ids, np.int32))
            words.append(np.where(of_text < 0, -1, of_text + first))
            first += int(of_text.max(initial=-1)) + 1
        self.tokens, self.words = np.concatenate(tokens), np.concatenate(words)

    def frame(self, part: str, partition: int, last: bool) -> pd.DataFrame:
        """The whole blocks there are, and with `last` also what is left."""
        whole = len(self.tokens) // self.block_length
        cuts = [slice(i * self.block_length, (i + 1) * self.block_length) for i in range(whole + last)]
        rows = [
            {
                # Blocks of the two parts, of all partitions, never share a number.
                "block": (2 * partition + (part == "valid")) * 2**40 + self.made + number,
                "part": part,
                "tokens": self.tokens[cut].astype("<i4").tobytes(),
                "words": self.words[cut].astype("<i4").tobytes(),
            }
            for number, cut in enumerate(cuts)
            if len(self.tokens[cut])
        ]
        self.made += len(rows)
        self.tokens, self.words = self.tokens[whole * self.block_length :], self.words[whole * self.block_length :]
        return pd.DataFrame(rows, columns=["block", "part", "tokens", "words"])
