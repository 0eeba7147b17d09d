"""The corpus of a pre-training: texts cleaned, in one order whatever the partitioning, and packed into blocks of tokens."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pyspark.ml.feature import StopWordsRemover
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.data.sources import RawTable
from recspark.data.text import Template, filled, parse_template

CHARACTERS = 50_000_000  # of a partition that one task packs
AT_ONCE = 256  # texts that are tokenised at a time
LONGEST_WORD = 8  # tokens
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

    @field_validator("text")
    @classmethod
    def _is_template(cls, value: str) -> str:
        parse_template(value)
        return value

    @property
    def text_template(self) -> Template:
        return parse_template(self.text)


def documents(fields: DataFrame, template: Template, stop_words: Language | None, held_out: float) -> DataFrame:
    """(hash, text, part): distinct texts that are not empty, of rows of (text_fields array<string>).

    part: `valid` for a share `held_out` of the texts, by hash, else `train`.
    """

    @F.pandas_udf("string")  # type: ignore[call-overload]
    def fill(rows: pd.Series) -> pd.Series:
        return pd.Series([filled(template, row) for row in rows])

    text = without(F.col("text"), stop_words)
    texts = fields.select(fill("text_fields").alias("text")).select(text.alias("text")).where(F.col("text") != "")
    distinct = texts.distinct().withColumn("hash", F.sha2("text", 256))
    uniform = F.conv(F.substring("hash", 1, 8), 16, 10).cast("double") / F.lit(float(16**8))
    return distinct.withColumn("part", F.when(uniform < held_out, "valid").otherwise("train"))


def without(text: Column, language: Language | None) -> Column:
    """The text less a language's commonest words."""
    if language is None:
        return text
    words = StopWordsRemover.loadDefaultStopWords(language)
    return F.array_join(F.filter(F.split(text, " "), lambda word: ~F.lower(word).isin(words)), " ")


def sampled(texts: DataFrame, most: int) -> Iterator[str]:
    """At most so many of the texts that are not held out, those whose hashes come first; streamed, a partition at a time."""
    rows = texts.where("part = 'train'").select("text", "hash").orderBy("hash").toLocalIterator()
    return (row["text"] for row in islice(rows, most))


def pack(texts: DataFrame, load: Callable[[], Any], block_length: int) -> DataFrame:
    """Rows of BLOCKS: the texts' tokens one after another, in the order of their hashes, cut every `block_length` tokens.

    block: a number. part: no block holds texts of both. tokens: int32. words: int32, which word of the block a token belongs
    to, -1 for special tokens. load: gives the tokenizer, in the Python workers.
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

    spread = texts.repartition(partitions, "hash").withColumn("partition", F.spark_partition_id())
    return spread.sortWithinPartitions("hash").mapInPandas(run, BLOCKS)


class Packer:
    """Tokens that have not filled a block yet, and how many blocks went before."""

    def __init__(self, block_length: int):
        self.block_length, self.made = block_length, 0
        self.tokens, self.words = np.empty(0, "<i4"), np.empty(0, "<i4")

    def add(self, tokenizer: Any, texts: list[str]) -> None:
        """Append the texts' tokens, some texts at a time: a batch may hold many megabytes."""
        for start in range(0, len(texts), AT_ONCE):
            self.append(tokenizer, texts[start : start + AT_ONCE])

    def append(self, tokenizer: Any, texts: list[str]) -> None:
        given = tokenizer(texts, add_special_tokens=True, return_attention_mask=False, return_token_type_ids=False)
        tokens, words, first = [self.tokens], [self.words], int(self.words.max(initial=-1)) + 1
        for position, ids in enumerate(given["input_ids"]):
            units = units_of(given.word_ids(position))
            if ids and units[-1] >= 0 and tokenizer.eos_token_id is not None:  # GPT-2 puts nothing between texts
                ids, units = [*ids, tokenizer.eos_token_id], np.append(units, -1)
            tokens.append(np.asarray(ids, np.int32))
            words.append(np.where(units < 0, -1, units + first).astype(np.int32))
            first += int(units.max(initial=-1)) + 1
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


def units_of(word_ids: list[int | None]) -> NDArray[np.int64]:
    """Numbers from 0 of the words, -1 for special tokens; a word of more than LONGEST_WORD tokens counts as several.

    Where a tokenizer does not part a script's words, as byte pairs do not part Chinese, a whole sentence would be one.
    """
    words = np.array([-1 if word is None else word for word in word_ids], np.int64)
    begins = np.flatnonzero(np.diff(words, prepend=-2) != 0)
    lengths = np.diff(np.append(begins, len(words)))
    within = np.arange(len(words)) - np.repeat(begins, lengths)
    new = (within % LONGEST_WORD == 0) & (words >= 0)
    return np.where(words < 0, -1, np.cumsum(new) - 1)
