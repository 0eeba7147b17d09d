"""Texts whose tokens can be counted: a word is a token, and every text gets one token before and one after."""

from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data import corpus
from recspark.data.corpus import Cleaning, Packer, documents, pack, sampled
from recspark.data.text import parse_template


class Words:
    """Token ids are lengths of words; 1 before a text and 2 after it."""

    def __call__(self, texts: list[str], **_: Any) -> "Words":
        self.texts = [text.split() for text in texts]
        return self

    def __getitem__(self, name: str) -> list[list[int]]:
        return [[1, *(10 + len(word) for word in words), 2] for words in self.texts]

    def word_ids(self, position: int) -> list[int | None]:
        return [None, *range(len(self.texts[position])), None]


def test_texts_follow_one_another_and_are_cut_into_blocks():
    packer = Packer(block_length=4)
    packer.add(Words(), ["a bb", "ccc"])  # 1 11 12 2 | 1 13 2
    whole = packer.frame("train", 0, last=False)
    rest = packer.frame("train", 0, last=True)
    assert [np.frombuffer(t, "<i4").tolist() for t in whole.tokens] == [[1, 11, 12, 2]]
    assert [np.frombuffer(t, "<i4").tolist() for t in rest.tokens] == [[1, 13, 2]]
    assert [np.frombuffer(w, "<i4").tolist() for w in (*whole.words, *rest.words)] == [[-1, 0, 1, -1], [-1, 2, -1]]
    assert [*whole.block, *rest.block] == [0, 1]


def test_words_keep_their_numbers_apart_when_a_block_spans_two_additions():
    packer = Packer(block_length=8)
    packer.add(Words(), ["a bb"])
    packer.add(Words(), ["ccc a"])
    (words,) = packer.frame("train", 0, last=False).words
    assert np.frombuffer(words, "<i4").tolist() == [-1, 0, 1, -1, -1, 2, 3, -1]


def test_no_block_holds_texts_of_both_parts_and_none_is_lost(spark: SparkSession, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "CHARACTERS", 150)  # several partitions
    texts = [(f"{(n * 2**32) // 41:08x}" + "0" * 56, "x" * n) for n in range(1, 41)]
    frame = spark.createDataFrame(texts, "hash string, text string")
    rows = pack(frame, Words, 6, 0.25).collect()
    assert len({row["block"] for row in rows}) == len(rows)
    said = {
        part: sorted(t for row in rows if row["part"] == part for t in np.frombuffer(row["tokens"], "<i4") if t > 9)
        for part in ("train", "valid")
    }
    assert said["valid"] == [10 + n for n in range(1, 41) if n / 41 < 0.25]
    assert said["train"] == [10 + n for n in range(1, 41) if n / 41 >= 0.25]
    again = pack(frame.orderBy("text", ascending=False), Words, 6, 0.25).collect()
    assert sorted(map(tuple, again)) == sorted(map(tuple, rows))


def test_a_text_is_cleaned_and_counted_once(spark: SparkSession):
    rows = [
        (["The  Cat", None],),
        (["The Cat", ""],),
        (["the cat and the Dog", "x"],),
        ([None, None],),
        (["THE", None],),
    ]
    fields = spark.createDataFrame(rows, "text_fields array<string>")
    template = parse_template("{a}. {b}")
    plain = {row["text"] for row in documents(fields, template, Cleaning()).collect()}
    assert plain == {"The Cat.", "the cat and the Dog. x", "THE."}
    cleaning = Cleaning(lowercase=True, stop_words="english")
    assert {row["text"] for row in documents(fields, template, cleaning).collect()} == {"cat.", "cat dog. x", "the."}


def test_the_vocabularys_texts_are_those_with_the_first_hashes(spark: SparkSession):
    frame = spark.createDataFrame([("c", "3"), ("a", "1"), ("b", "2")], "hash string, text string")
    assert list(sampled(frame, 2)) == ["1", "2"]
