"""Does the language model earn its keep? The metrics table read for people, in sentences.

Two models are called apart only where their 95 % intervals do not touch. The intervals are of the same users, so models
whose intervals touch may still differ: the sentence then says no more than what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

METRIC = "ndcg"
OURS = ("text_before", "text_after", "factors", "full", "reranked")  # whatever else is in the table is a baseline
NAMES = {
    "popularity": "popularity",
    "als": "Spark's ALS",
    "text_before": "text before fine-tuning",
    "text_after": "text after fine-tuning",
    "factors": "factors and text",
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
class Finding:
    """What one comparison came to. better and worse: intervals apart; open: they touch."""

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


def headline(findings: Sequence[Finding]) -> str:
    """The report's first sentence."""
    if not findings or findings[0].question != QUESTIONS[0]:
        return "The lists are published; nothing was measured that says how good they are."
    return {
        "better": "The language model earns its keep: the full model is clearly ahead of every baseline.",
        "open": "The full model and the best baseline are too close to call on this many users.",
        "worse": "The language model does not earn its keep: a baseline without it is clearly ahead.",
    }[findings[0].state]


QUESTIONS = ("Against the best baseline", "What fine-tuning did", "On cold items")


def findings(metrics: pd.DataFrame) -> list[Finding]:
    """The full model against the best baseline, text after against before, and text after on cold items against the best of
    the rest; a comparison that lacks one side is left out."""
    if metrics.empty:
        return []
    k = main_k(metrics)
    everything = {s.model: s for s in scores(metrics, "all", METRIC, k)}
    cold = {s.model: s for s in scores(metrics, "cold", METRIC, k)}
    comparisons = (
        (QUESTIONS[0], everything.get("full"), [s for s in everything.values() if s.model not in OURS]),
        (
            QUESTIONS[1],
            everything.get("text_after"),
            [s for s in everything.values() if s.model == "text_before"],
        ),
        (
            QUESTIONS[2],
            cold.get("text_after"),
            [s for s in cold.values() if s.model not in ("text_after", "full")],
        ),
    )
    return [
        compare(question, ours, max(others, key=lambda s: s.value), k)
        for question, ours, others in comparisons
        if ours and others
    ]


def compare(question: str, ours: Score, other: Score, k: int) -> Finding:
    """Our score beside the other, in a sentence."""
    state: State = "better" if ours.low > other.high else "worse" if ours.high < other.low else "open"
    change = (
        f"{abs(ours.value / other.value - 1):.0%} {'more' if ours.value >= other.value else 'less'}"
        if other.value
        else "from nothing"
    )
    touch = "the intervals touch" if state == "open" else "the intervals are apart"
    sentence = (
        f"nDCG@{k} of the {ours.name} is {ours}; of {other.name} {other}: {change}, {touch} ({ours.users:,} users)."
    )
    return Finding(question, state, sentence)
