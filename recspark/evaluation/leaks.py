"""What of the test could have been known before: the checks of the table `leakage`, in words, and how a text is searched for users.

They are facts to read the metrics by, not errors: a split that leaves each user's last event out has train events later than the test's
first by its very nature.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

CHECKS = {
    "train_after_test": "train events are later than the first test event",
    "pairs_in_both": "pairs of a user and an item of the test stand in train, too",
    "cold_with_a_warm_text": "cold items have the very text of a warm one",
    "texts_that_name_a_user": "texts name a user",
}
# Where an id may begin: at a word's first character, and at every mark between words.
STARTS = re.compile(r"\b(?=\w)|(?=[^\w\s])")


def first_named(text: str, ids: Collection[str], lengths: Sequence[int]) -> str | None:
    """The first of the ids, which have these lengths, that stands in the text by itself, with no letter or digit that it is part of."""
    for match in STARTS.finditer(text):
        start = match.start()
        for length in lengths:
            end = start + length
            if (
                end <= len(text)
                and text[start:end] in ids
                and not (wordlike(text[end - 1]) and wordlike(text[end : end + 1]))
            ):
                return text[start:end]
    return None


def wordlike(character: str) -> bool:
    """A letter, a digit or _; the empty string, beyond a text's end, is none."""
    return character.isalnum() or character == "_"


def told(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of the table (fact, rows, share, example) as one line for people."""
    return "leakage: " + "; ".join(said for said, _ in sentences(rows))


def sentences(rows: Iterable[Sequence[Any]]) -> list[tuple[str, str | None]]:
    """(what was counted, an example) of each row, in the order of the checks."""
    by_check = {check: (count, share, example) for check, count, share, example in rows}
    return [
        (f"{count:,}{of(share)} {said}", example or None)
        for check, said in CHECKS.items()
        for count, share, example in ([by_check[check]] if check in by_check else [])
    ]


def of(share: float | None) -> str:
    """Nothing where there was nothing to look at: null, or NaN as pandas has it."""
    return "" if share is None or share != share else f" ({share:.1%})"
