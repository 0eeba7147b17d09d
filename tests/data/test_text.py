"""Templates, normalisation, tokens: pure functions, worked out by hand."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recspark.data.text import (
    LONGEST_TEXT,
    Template,
    filled,
    normalise,
    parse_template,
    text_preparer,
    tokenise,
)
from recspark.models.encoder import EncoderConfig, load_tokenizer

FILM = parse_template("{title} ({year}). Genres: {genres}.")


def test_template_takes_colons_spaces_and_dots_in_column_names() -> None:
    assert parse_template("{movie title:token_seq} {a.b}").fields == ("movie title:token_seq", "a.b")


def test_doubled_braces_are_braces() -> None:
    assert parse_template("{{{a}}}") == Template(("{", "}"), ("a",))


@pytest.mark.parametrize("bad", ["{title", "title}", "{a}}", "{}", "no column"])
def test_malformed_template_is_a_value_error(bad: str) -> None:
    with pytest.raises(ValueError, match=r"unpaired|names no column"):
        parse_template(bad)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["Alien", "1979", "Horror"], "Alien (1979). Genres: Horror."),
        (["Alien", "", "Horror"], "Alien. Genres: Horror."),
        (["Alien", "1979", ""], "Alien (1979)."),
        (["Alien", "", ""], "Alien."),
        (["", "1979", "Horror"], "(1979). Genres: Horror."),
        (["", "", "Horror"], "Genres: Horror."),
        (["", "", ""], ""),
        (["What's Up?", "", "Comedy"], "What's Up? Genres: Comedy."),
    ],
)
def test_empty_fields_leave_nothing_dangling(values: list[str], expected: str) -> None:
    assert normalise(FILM.fill(values)) == expected


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{a} | {b} | {c}", ["x", "", "z"], "x | z"),
        ("{a}, {b}. {c}", ["x", "", "z"], "x. z"),
        ("{a}, {b}", ["", "y"], "y"),
        ("{a} - {b}", ["x", ""], "x"),
        ("{a}: {b}", ["x", ""], "x"),
        ("{a}. {b}. {c}", ["x", "", ""], "x."),
        ("{a} [{b}] {c}", ["x", "", "z"], "x z"),
        ("{a}. {b}", ["lbs.", "y"], "lbs. y"),
    ],
)
def test_separators_close_around_an_empty_field(template: str, values: list[str], expected: str) -> None:
    assert normalise(parse_template(template).fill(values)) == expected


def test_brackets_of_a_value_stay() -> None:
    assert filled(parse_template("{a} ({b})"), ["call f() now", None]) == "call f() now"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("a\x00b\x1b[0mc\n\t d\u00a0e", "a b [0mc d e"),
        ("zero\u200bwidth\ufeff \u202eright\u202c so\u00adft", "zerowidth right soft"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\U0001f469\u200d\U0001f52c and a\u200db", "\U0001f469\u200d\U0001f52c and ab"),
        (
            "\u05e9\u05dc\u05d5\u05dd \u4e16\u754c \U0001f44d\U0001f3fd",
            "\u05e9\u05dc\u05d5\u05dd \u4e16\u754c \U0001f44d\U0001f3fd",
        ),
    ],
    ids=["nfc", "control", "unseen", "persian", "devanagari", "emoji", "mixed"],
)
def test_normalise_keeps_what_a_script_needs_and_drops_what_nobody_sees(given: str, expected: str) -> None:
    assert normalise(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<b>H</b>ello<br/>you", "Hello you"),
        ('<p class="x">one</p><p>two</p>', "one two"),
        ('see <a href="http://x.y">this</a>', "see this"),
        ("<script>alert(1)</script><p>kept</p>", "kept"),
        ("Salt &amp; Pepper &#39;s &quot;q&quot;", 'Salt & Pepper \'s "q"'),
        ("twice &amp;amp; escaped", "twice & escaped"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
    ],
)
def test_html_goes(given: str, expected: str) -> None:
    assert normalise(given) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I <3 this",
        "a<b and c>d",
        "a <b and c> d",
        "x<i>y",
        "AT&T; R&D",
        "if a < b: c > d",
        "&nothing; &copy",
        "<untitled>",
    ],
)
def test_what_is_not_plainly_html_stays(text: str) -> None:
    assert normalise(text) == text


def test_normalising_twice_is_normalising_once() -> None:
    text = "<p>a\u0301 &amp; b</p>\u200b  c\u200d"
    assert normalise(normalise(text)) == normalise(text)


def test_a_megabyte_is_cut() -> None:
    assert len(normalise("ab " * 1_000_000)) == LONGEST_TEXT


class CountingTokenizer:
    """Says how long the texts were that it was given."""

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[len(t)] for t in texts]}


def test_the_tokenizer_reads_at_most_32_characters_a_token() -> None:
    assert tokenise(CountingTokenizer(), ["x" * 1_000_000, "short"], max_length=10) == [[320], [5]]


def load(encoder: EncoderConfig) -> Any:
    return load_tokenizer(encoder.path, encoder.max_length)


def test_udf_gives_text_hash_and_the_encoders_own_tokens(spark: SparkSession, tiny_encoder: Path) -> None:
    encoder = EncoderConfig(path=str(tiny_encoder), max_length=5)
    prepare = text_preparer(parse_template("{a}. {b}"), parse_template("{a}"), load, encoder)
    given = [(["the red  film", "blue blue"], ["the red  film"]), ([None, "blue"], [None])]
    frame = spark.createDataFrame(given, "text array<string>, title array<string>")
    rows = [r["p"] for r in frame.select(prepare("text", "title").alias("p")).orderBy(F.length("p.text")).collect()]
    assert [r["text"] for r in rows] == ["blue", "the red film. blue blue"]
    assert [r["title"] for r in rows] == ["blue", "the red film"]
    assert rows[0]["text_hash"] == hashlib.sha256(b"blue").hexdigest()
    tokenizer = load_tokenizer(tiny_encoder, 5)
    # [CLS] b ##l ##u [SEP], the three letters that five tokens leave room for
    assert [r["token_ids"] for r in rows] == [tokenizer("blu")["input_ids"], tokenizer("the")["input_ids"]]
