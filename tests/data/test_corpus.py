"""Texts whose tokens can be counted: a word is a token, and every text gets one token before and one after."""

from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data import corpus
from recspark.data.corpus import Packer, documents, pack, sampled, units_of
from recspark.data.text import parse_template


class Words:
    """Token ids are lengths of words; 1 before a text and 2 after it."""

    eos_token_id = 2

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
    texts = [(f"{n:064x}", "x" * n, "valid" if n % 4 == 0 else "train") for n in range(1, 41)]
    frame = spark.createDataFrame(texts, "hash string, text string, part string")
    rows = pack(frame, Words, 6).collect()
    assert len({row["block"] for row in rows}) == len(rows)
    said = {
        part: sorted(t for row in rows if row["part"] == part for t in np.frombuffer(row["tokens"], "<i4") if t > 9)
        for part in ("train", "valid")
    }
    assert said["valid"] == [10 + n for n in range(1, 41) if n % 4 == 0]
    assert said["train"] == [10 + n for n in range(1, 41) if n % 4]
    again = pack(frame.orderBy("text", ascending=False), Words, 6).collect()
    assert sorted(map(tuple, again)) == sorted(map(tuple, rows))


def test_a_text_counts_once_also_where_two_become_one_by_cleaning(spark: SparkSession):
    rows = [(["The  Cat", None],), (["The Cat", ""],), (["Cat", "the"],), ([None, None],), (["THE", None],)]
    fields = spark.createDataFrame(rows, "text_fields array<string>")
    template = parse_template("{a} {b}")
    assert sorted(r["text"] for r in documents(fields, template, None, 0.0).collect()) == ["Cat the", "THE", "The Cat"]
    assert [r["text"] for r in documents(fields, template, "english", 0.0).collect()] == ["Cat"]


def test_a_share_of_the_texts_is_held_out_by_what_they_say(spark: SparkSession):
    fields = spark.createDataFrame([([f"film {n}"],) for n in range(400)], "text_fields array<string>")
    found = documents(fields, parse_template("{a}"), None, 0.25).collect()
    held = {row["text"] for row in found if row["part"] == "valid"}
    assert 75 <= len(held) <= 125
    again = documents(fields.limit(200), parse_template("{a}"), None, 0.25).collect()
    assert all((row["part"] == "valid") == (row["text"] in held) for row in again)


def test_the_vocabularys_texts_are_not_held_out_and_those_with_the_first_hashes(spark: SparkSession):
    rows = [("d", "4", "train"), ("a", "1", "valid"), ("c", "3", "train"), ("b", "2", "train")]
    frame = spark.createDataFrame(rows, "hash string, text string, part string")
    assert list(sampled(frame, 2)) == ["2", "3"]


def test_a_word_of_more_than_eight_tokens_counts_as_several():
    assert units_of([None, *[0] * 10, 1, 1, None]).tolist() == [-1, *[0] * 8, 1, 1, 2, 2, -1]


def test_texts_are_parted_where_the_tokenizer_puts_nothing_between_them():
    class Bare(Words):
        def __getitem__(self, name: str) -> list[list[int]]:
            return [[10 + len(word) for word in words] for words in self.texts]

        def word_ids(self, position: int) -> list[int | None]:
            return list(range(len(self.texts[position])))

    packer = Packer(block_length=8)
    packer.add(Bare(), ["a bb", "ccc"])
    (tokens,) = packer.frame("train", 0, last=True).tokens
    assert np.frombuffer(tokens, "<i4").tolist() == [11, 12, 2, 13, 2]
