"""Does the language model earn its keep, and does its text? The tables metrics and comparisons read for people, in sentences.

Two models are called apart where the paired test of the table comparisons says so: p, by Holm's correction for all pairs of
models of the slice, is below .05. A night without that table (of an earlier release) is read by the models' own 95 % intervals:
apart only where they do not touch, which is more than a difference needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

METRIC = "ndcg"
SIGNIFICANT = 0.05  # an adjusted p below it calls two models apart
# Whatever else is in the table is a baseline. id_alone is the full model as it would be if it could not read.
OURS = ("id_alone", "factors_alone", "text_before", "text_after", "factors", "sequence", "full", "reranked")
NAMES = {
    "popularity": "popularity",
    "recent_popularity": "popularity of late",
    "als": "Spark's ALS",
    "item_knn": "item-kNN",
    "ease": "EASE",
    "tfidf": "TF-IDF of the history",
    "bm25": "BM25 of the history",
    "frozen": "base encoder, mean of the history",
    "id_alone": "full model without text",
    "factors_alone": "factors without text",
    "text_before": "text before fine-tuning",
    "text_after": "text after fine-tuning",
    "factors": "factors with text",
    "sequence": "the sequence model",
    "full": "full model",
    "ratings": "ratings model",
    "rating_biases": "biases alone",
    "rating_mean": "mean of all ratings",
    "reranked": "full model, reranked",
}
State = Literal["better", "open", "worse"]


@dataclass(frozen=True)
class Score:
    """One model's value with the ends of its 95 % interval, over so many users."""

    model: str
    value: float
    low: float
    high: float
    users: int

    @property
    def name(self) -> str:
        return NAMES.get(self.model, self.model)

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Difference:
    """One model's value less another's over the same users, with the ends of its 95 % interval and Holm's p."""

    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < SIGNIFICANT

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Finding:
    """What one comparison came to. better and worse: the models are apart; open: they cannot be told apart."""

    question: str
    state: State
    sentence: str


def main_k(metrics: pd.DataFrame) -> int:
    """10 where it was measured, else the shortest length of list. k 0 judges no list."""
    ks = {int(k) for k in metrics["k"] if k > 0}
    return 10 if 10 in ks else min(ks)


def scores(metrics: pd.DataFrame, slice_name: str, metric: str, k: int) -> list[Score]:
    """The models of a slice: baselines first, then text before and after, the full model, and its lists reranked."""
    rows = metrics[(metrics["slice"] == slice_name) & (metrics["metric"] == metric) & (metrics["k"] == k)]
    found = [
        Score(r.model, float(r.value), float(r.low), float(r.high), int(r.users))
        for r in rows.itertuples()
        if pd.notna(r.low)
    ]
    return sorted(found, key=lambda s: (OURS.index(s.model) if s.model in OURS else -1, s.model == "als", s.model))


def difference(
    comparisons: pd.DataFrame, ours: str, other: str, slice_name: str, metric: str, k: int
) -> Difference | None:
    """Of two models, whichever of them the table names first; None where it does not have them."""
    at = (comparisons["slice"] == slice_name) & (comparisons["metric"] == metric) & (comparisons["k"] == k)
    for row in comparisons[at].itertuples():
        if (row.model, row.other) == (ours, other):
            return Difference(float(row.difference), float(row.low), float(row.high), float(row.p_adjusted))
        if (row.model, row.other) == (other, ours):
            return Difference(-float(row.difference), -float(row.high), -float(row.low), float(row.p_adjusted))
    return None


QUESTIONS = (
    "Against the best baseline",
    "What text adds",
    "What fine-tuning did",
    "On cold items",
    "What reranking did",
)
TEXT_HELPS = {
    "better": "Text helps: ",
    "open": "Text does not help, as far as can be told: ",
    "worse": "Text does harm: ",
}


def headline(findings: Sequence[Finding], published: bool = True) -> str:
    """The report's first sentence. published: whether the lists are."""
    states = {finding.question: finding.state for finding in findings}
    baseline, text = states.get(QUESTIONS[0]), states.get(QUESTIONS[1])
    if baseline is None:
        said = "published" if published else "held back"
        return f"The lists are {said}; nothing was measured that says how good they are beside a baseline."
    if baseline == "open":
        return "The full model and the best baseline are too close to call on this many users."
    if baseline == "worse":
        return (
            "The language model does not earn its keep: a baseline that trains nothing on the texts is clearly ahead."
        )
    return {
        None: "The full model is clearly ahead of the best baseline; what its text adds to that was not measured (evaluate.id_alone does).",
        "better": "The language model earns its keep: the full model is clearly ahead of the best baseline, and of itself without text.",
        "open": "The full model is clearly ahead of the best baseline, but not for its text, as far as can be told: the same model without it may be as good.",
        "worse": "The full model is clearly ahead of the best baseline, but its text does harm: without it, it is better.",
    }[text]


def findings(metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[Finding]:
    """The lists that are published (the full model's, or these reranked) against the best baseline, the full model against itself without
    text, text after against before, text after on cold items against the best of the rest, and the reranked lists against what they were; a
    comparison that lacks one side is left out. Both tables may be empty."""
    if metrics.empty:
        return []
    k = main_k(metrics)
    by_slice = {name: {s.model: s for s in scores(metrics, name, METRIC, k)} for name in ("all", "cold")}
    listed = "reranked" if "reranked" in by_slice["all"] else "full"
    asked = (
        (QUESTIONS[0], listed, "all", lambda model: model not in OURS),
        (QUESTIONS[1], "full", "all", lambda model: model == "id_alone"),
        (QUESTIONS[2], "text_after", "all", lambda model: model == "text_before"),
        (QUESTIONS[3], "text_after", "cold", lambda model: model not in ("text_after", "factors", "sequence", "full")),
        (QUESTIONS[4], "reranked", "all", lambda model: model == "full"),
    )
    found = []
    for question, model, name, is_other in asked:
        ours, others = by_slice[name].get(model), [s for s in by_slice[name].values() if is_other(s.model)]
        if ours and others:
            best = max(others, key=lambda s: s.value)
            found.append(compare(question, ours, best, k, difference(comparisons, model, best.model, name, METRIC, k)))
    return found


def compare(question: str, ours: Score, other: Score, k: int, paired: Difference | None) -> Finding:
    """Our score beside the other, in a sentence; by their own intervals where there is no paired difference."""
    if paired:
        apart, ahead = paired.significant, paired.value > 0
        p = "p < 0.001" if paired.p < 0.001 else f"p = {paired.p:.2g}"
        said = f"the difference over the same users, {paired}, is {'' if apart else 'not '}significant ({p}"
    else:
        apart, ahead = ours.low > other.high or ours.high < other.low, ours.value > other.value
        said = f"the intervals {'are apart' if apart else 'touch'} ("
    state: State = "open" if not apart else "better" if ahead else "worse"
    change = (
        f"{abs(ours.value / other.value - 1):.0%} {'more' if ours.value >= other.value else 'less'}"
        if other.value
        else "from nothing"
    )
    users = f"{'; ' if paired else ''}{ours.users:,} users)"
    sentence = f"nDCG@{k} of the {ours.name} is {ours}; of {other.name} {other}: {change}, {said}{users}."
    return Finding(question, state, (TEXT_HELPS[state] if question == QUESTIONS[1] else "") + sentence)
