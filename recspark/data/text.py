"""Item text: a template filled in, normalised for people and encoders alike, hashed and tokenised."""

import hashlib
import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html.entities import html5
from typing import Any, Protocol

import pandas as pd
from pyspark.sql import functions as F

LONGEST_TEXT = 32_768  # characters; a field or a text beyond is cut, so that a megabyte costs no more than a page
PREPARED = "title string, text string, text_hash string, token_ids array<int>"

TEMPLATE_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
BRACKETS = {"(": ")", "[": "]", "<": ">", '"': '"', "“": "”", "«": "»"}

# A name and its attributes: `<b>` and `<a href="x">` are tags, the `<b and c>` of "a <b and c> d" is not.
ATTRIBUTES = r"""(?:\s+[a-z][\w:-]*(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s<>"'=]+)))*\s*/?"""
BLOCK = r"(?:p|br|hr|li|ul|ol|dl|dt|dd|h[1-6]|div|table|tbody|thead|tr|td|th|blockquote|pre|center|section|article|img)"
INLINE = r"(?:a|b|i|u|s|em|strong|span|font|small|big|sub|sup|code|tt|cite|mark)"
BLOCK_TAG = re.compile(rf"</?{BLOCK}{ATTRIBUTES}>", re.IGNORECASE)
INLINE_TAG = re.compile(rf"</?{INLINE}{ATTRIBUTES}>", re.IGNORECASE)
INVISIBLE_ELEMENT = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
# One lone `<b>` may be mathematics; a closing tag, a tag with attributes or a line break can only be HTML.
PLAINLY_HTML = re.compile(
    rf"</(?:{BLOCK}|{INLINE}|script|style)\s*>|<(?:br|hr|p|li)\s*/?>|<(?:{BLOCK}|{INLINE})\s+[a-z-]+\s*=\s*[\"'\w][^<>]*>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")

# Zero-width spaces, soft hyphens, marks of direction, tags: nobody sees them, and a tokenizer may.
UNSEEN = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
# Joiners shape Arabic, Persian and Indic words and hold emoji together; after anything else they are noise.
JOINERS = re.compile("([\u200c\u200d])[\u200c\u200d]+")
STRAY_JOINER = re.compile(
    "(?<![\u0600-\u109f\u1780-\u18af\ua840-\ua87f\ua8e0-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])[\u200c\u200d]"
)


class Reading(Protocol):
    """What the tokens of a text depend on beside the tokenizer: the settings of an encoder, hashable."""

    @property
    def max_length(self) -> int: ...

    @property
    def passage_prefix(self) -> str: ...

    def __hash__(self) -> int: ...


LoadTokenizer = Callable[[Any], Any]


@dataclass(frozen=True)
class Template:
    """Text with `{column}` places: literals[0] fields[0] literals[1] ... fields[n-1] literals[n]."""

    literals: tuple[str, ...]
    fields: tuple[str, ...]

    def fill(self, values: Sequence[str]) -> str:
        """The text with one value a field; what an empty value leaves dangling goes. "" if all values are empty."""
        text, gap = "", self.literals[0]
        for value, literal in zip(values, self.literals[1:], strict=True):
            if value:
                text, gap = text + after_sentence(text, gap) + value, literal
            else:
                gap = close_gap(gap, literal, at_start=not text)
        if not text:
            return ""
        return text + after_sentence(text, gap if values[-1] else gap.rstrip(" ,;:/|–—-"))


def parse_template(template: str) -> Template:
    """Any column name may stand in the braces, with colons, spaces and dots; `{{` and `}}` are braces.

    Raises ValueError for a brace without its partner, and for a template without a column.
    """
    literals, fields, end = [""], [], 0
    for match in TEMPLATE_TOKEN.finditer(template):
        literals[-1] += template[end : match.start()]
        end = match.end()
        if match[1] is not None:
            fields.append(match[1])
            literals.append("")
        elif match[0] in ("{{", "}}"):
            literals[-1] += match[0][0]
        else:
            raise ValueError(f"unpaired {match[0]} at character {match.start() + 1}; a brace as such is written twice")
    literals[-1] += template[end:]
    if not fields:
        raise ValueError('names no column; write for example "{title} ({year}). {genres}"')
    return Template(tuple(literals), tuple(fields))


def after_sentence(text: str, literal: str) -> str:
    """The literal without its full stop where the text before it has ended its sentence already."""
    return literal[1:] if literal[:1] == "." and text[-1:] in (".", "!", "?", "…") else literal


def close_gap(left: str, right: str, at_start: bool) -> str:
    """The literal that remains of the two around an empty value: label, brackets and doubled punctuation go.

    `. Genres: ` and `.` make `.`; ` (` and `). ` make `. `; ` | ` and ` | ` make ` | `.
    """
    left = re.sub(r"(^|[.;,|()\[\]])[^.;,|()\[\]]*:\s*$", r"\1", left)  # a label
    opener, closer = left.rstrip()[-1:], right.lstrip()[:1]
    if opener and BRACKETS.get(opener) == closer:
        left, right = left.rstrip()[:-1].rstrip(), right.lstrip()[1:]
    follows = right.lstrip()[:1]
    if follows and follows in ".,;:!?/|–—-":
        left = left.rstrip(" ,;:/|–—-")
    if (at_start and not left.strip()) or left.rstrip()[-1:] in (".", "!", "?"):
        right = right.lstrip().lstrip(".,;:/|–—-")
    if at_start and not left.strip():
        return right.lstrip()
    return left + right if left[-1:].isspace() or not right[:1].isalnum() else f"{left} {right}"


def normalise(text: str) -> str:
    """NFC, without markup, control and invisible characters, white space collapsed to single spaces, cut to LONGEST_TEXT."""
    text = unicodedata.normalize("NFC", without_html(text[:LONGEST_TEXT]))
    text = UNSEEN.sub("", CONTROL.sub(" ", text))
    text = STRAY_JOINER.sub("", JOINERS.sub(r"\1", text))
    return " ".join(text.split())[:LONGEST_TEXT].rstrip()


def without_html(text: str) -> str:
    """Tags and entities out where the text plainly is HTML; `a<b`, `<3`, `AT&T` stay. Twice, for feeds that escaped twice."""
    for _ in range(2):
        before = text
        if PLAINLY_HTML.search(text):
            text = INLINE_TAG.sub("", BLOCK_TAG.sub(" ", INVISIBLE_ELEMENT.sub(" ", text)))
        text = ENTITY.sub(lambda m: html.unescape(m[0]) if m[1][0] == "#" or f"{m[1]};" in html5 else m[0], text)
        if text == before:
            break
    return text


def text_hash(text: str) -> str:
    """SHA-256 of the text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def tokenizer_of(load: LoadTokenizer, encoder: Reading) -> Any:
    """The tokenizer, loaded once a Python worker."""
    return load(encoder)


def tokenise(tokenizer: Any, texts: list[str], max_length: int) -> list[list[int]]:
    """Token ids, special tokens included, at most max_length a text.

    A text is cut at 32 characters a token first: words have about 5, so nothing that would be read is lost, but behind runs of
    thousands of letters without a space.
    """
    if not texts:
        return []
    cut = [text[: 32 * max_length] for text in texts]
    return list(tokenizer(cut, truncation=True, max_length=max_length, add_special_tokens=True)["input_ids"])


def text_preparer(text: Template, title: Template, load: LoadTokenizer, encoder: Reading) -> Any:
    """An Arrow UDF: (text fields array<string>, title fields array<string>) -> struct of PREPARED.

    `load(encoder)` gives the encoder's tokenizer; it is called in the Python workers, once each. Text is "" where all its
    fields are empty; an empty title is the beginning of the text. The prefix is in the tokens alone.
    """

    @F.pandas_udf(PREPARED)  # type: ignore[call-overload]
    def prepare(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        tokenizer = tokenizer_of(load, encoder)
        for text_fields, title_fields in batches:
            texts = [filled(text, fields) for fields in text_fields]
            titles = [filled(title, fields) or text[:80] for fields, text in zip(title_fields, texts, strict=True)]
            hashes = [text_hash(text) for text in texts]
            prefixed = [encoder.passage_prefix + text for text in texts]
            tokens = tokenise(tokenizer, prefixed, encoder.max_length)
            yield pd.DataFrame({"title": titles, "text": texts, "text_hash": hashes, "token_ids": tokens})

    return prepare


def filled(template: Template, fields: Sequence[str | None]) -> str:
    """The template with normalised fields, as the encoder reads it."""
    return normalise(template.fill([normalise(field or "") for field in fields]))
