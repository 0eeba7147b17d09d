"""One contract over all learned vocabularies."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from recspark.errors import UserError
from recspark.models.vocabulary import Bpe, Specials, Unigram, WordPiece

TEXTS = ["the red film about red cars", "the blue film about cars", "红色 电影", "蓝色电影，红色汽车"] * 20


def texts() -> Iterator[str]:
    return iter(TEXTS)


LEARNED = [WordPiece(size=90), Bpe(size=330), Unigram(size=60)]


@pytest.mark.parametrize("vocabulary", LEARNED, ids=lambda v: v.kind)
@pytest.mark.parametrize("both_ways", [True, False])
def test_it_reads_what_it_learned_from_and_is_saved_and_loaded(tmp_path: Path, vocabulary, both_ways: bool):
    vocabulary.learn(texts, both_ways).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    names = ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
    assert [getattr(tokenizer, name) for name in names] == [0, 1, 2, 3, 4]
    assert len(tokenizer) <= vocabulary.size
    for text in ("the red film", "蓝色电影"):
        ids = tokenizer(text)["input_ids"]
        assert (ids[0] == 2) == both_ways
        assert ids[-1] == 3
        assert 1 not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("vocabulary", LEARNED[:2], ids=lambda v: v.kind)
def test_two_learn_the_same(vocabulary):
    first, second = (vocabulary.learn(texts, True).get_vocab() for _ in range(2))
    assert first == second


def test_tokens_of_your_own_are_never_split():
    tokenizer = WordPiece(size=90, specials=Specials(more=("<genre>",))).learn(texts, True)
    assert tokenizer("<genre>red")["input_ids"][1] == tokenizer.convert_tokens_to_ids("<genre>") == 5


def test_special_tokens_must_differ():
    with pytest.raises(ValueError, match="special tokens must differ"):
        Specials(mask="[PAD]")


@pytest.mark.parametrize("name", ["[A B]", "</s>:1", "$A", ""])
def test_what_a_template_cannot_hold_is_no_first_or_last_token(name: str):
    for where in ("first", "last"):
        with pytest.raises(ValueError, match="first and last are one word each"):
            Specials(**{where: name})


def test_a_vocabulary_larger_than_the_corpus_gives_is_said_and_made(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "recspark"):
        tokenizer = WordPiece(size=5000).learn(texts, True)
    assert f"size is 5000, but the corpus gives {len(tokenizer)} tokens" in caplog.text


def test_a_size_without_room_for_the_signs_is_an_error_with_their_number():
    with pytest.raises(UserError, match=r"size is 30, but the corpus is written in \d\d signs"):
        WordPiece(size=30).learn(texts, True)


def test_unigram_without_room_for_the_signs_is_the_same_error():
    with pytest.raises(UserError, match=r"size is 20, but the corpus is written in \d\d signs"):
        Unigram(size=20).learn(texts, True)


@pytest.mark.parametrize("kind", [WordPiece, Bpe, Unigram])
def test_case_is_one_where_it_was_asked_for(kind):
    tokenizer = kind(size=330, lowercase=True).learn(texts, True)
    assert tokenizer("The RED Film")["input_ids"] == tokenizer("the red film")["input_ids"]


@pytest.mark.parametrize("both_ways", [True, False])
def test_two_texts_have_a_mark_between_them_and_one_at_the_end(both_ways: bool):
    tokenizer = WordPiece(size=90).learn(texts, both_ways)
    red, blue = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("red", "blue"))
    assert tokenizer("red", "blue")["input_ids"] == [*([2] if both_ways else []), *red, 3, *blue, 3]
