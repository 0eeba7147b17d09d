"""The night's report: one HTML file without scripts or anything from elsewhere, for people who were not there.

`render` knows neither Spark nor the lake: it is given small aggregates. The words and the look are in report.html.jinja
beside this file; whatever comes from data is escaped there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from recspark.evaluation import leaks, plots, verdict
from recspark.evaluation.report_metrics import (
    METRIC_NAMES,
    beside_tables,
    metric_tables,
    new_users_plot,
    rating_tables,
    slice_plots,
    within_plots,
)

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Histogram:
    """counts[i] lie from edges[i] to edges[i + 1]."""

    edges: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True)
class StageRecord:
    """What a stage read and wrote, in rows by table (None: a model or a file), and the seconds it took."""

    stage: str
    rows_in: Mapping[str, int]
    rows_out: Mapping[str, int | None]
    seconds: float


@dataclass(frozen=True)
class Lists:
    """The published lists as a whole. shown: distinct items on any list, shown_first: among the first `first_k` of any."""

    users: int
    entries: int
    catalogue: int
    shown: int
    first_k: int
    shown_first: int
    cold_entries: int
    most_shown: Sequence[tuple[str, int]]  # title, lists it is on
    scores: Histogram | None


@dataclass(frozen=True)
class Entry:
    """An item of a user's history or list. note: the date or the score; marked: the user chose it later (test split)."""

    title: str
    note: str
    marked: bool = False


@dataclass(frozen=True)
class Example:
    """A user's newest history and first recommendations."""

    user: str
    events: int
    history: Sequence[Entry]
    recommendations: Sequence[Entry]


@dataclass(frozen=True)
class ReportFacts:
    """All that the report tells.

    metrics: the table METRICS, empty if nothing was evaluated. comparisons, leakage: the tables COMPARISONS and LEAKAGE, may be empty.
    training: the table TRAINING_LOG by epoch, may be empty.
    rejects: (source, reason, rows). tokens: tokens an item text has, at most `max_length` being read.
    """

    run_date: str
    written_at: str
    model_hash: str
    retriever_version: str  # empty if the vectors name none
    metrics: pd.DataFrame
    comparisons: pd.DataFrame
    leakage: pd.DataFrame
    training: pd.DataFrame
    lists: Lists
    examples: Sequence[Example]
    tokens: Histogram | None
    max_length: int
    texts_cut: int
    stages: Sequence[StageRecord]
    rejects: Sequence[tuple[str, str, int]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    held_back: Sequence[str] = ()  # why the lists are not published; empty: they are


def render(facts: ReportFacts) -> str:
    """The report as HTML."""
    found = verdict.findings(facts.metrics, facts.comparisons)
    return page(
        TEMPLATE,
        facts=facts,
        findings=found,
        headline=verdict.headline(found, published=not facts.held_back),
        nothing_found=nothing_found(facts),
        compared=not facts.comparisons.empty,
        slice_plots=slice_plots(facts.metrics),
        within_plots=within_plots(facts.metrics),
        new_users_plot=new_users_plot(facts.metrics),
        metric_tables=metric_tables(facts.metrics),
        beside_tables=beside_tables(facts.metrics),
        rating_tables=rating_tables(facts.metrics),
        leaks=leaks.sentences(facts.leakage.itertuples(index=False)),
        metric_names=METRIC_NAMES,
        loss_plot=loss_plot(facts.training),
        score_plot=histogram_plot(facts.lists.scores, "score", "entries"),
        token_plot=histogram_plot(facts.tokens, "tokens of an item's text", "items"),
        training=facts.training.astype(object).where(facts.training.notna(), None).to_dict("records"),
        kept_epoch=kept_epoch(facts.training),
        longest_stage=max((s.seconds for s in facts.stages), default=0.0),
        settings=yaml.safe_dump(dict(facts.settings), allow_unicode=True, sort_keys=False) if facts.settings else "",
    )


def nothing_found(facts: ReportFacts) -> str:
    """Why no two models are compared in a sentence."""
    if not facts.metrics.empty:
        return "No baseline and no model before fine-tuning was measured beside the full one; its figures are below."
    if any(record.stage == "evaluate" for record in facts.stages):
        return "Nothing was held out as a test, so nothing was measured."
    return "There is no metrics table for this run date: the stage evaluate did not run."


def page(template: str, **told: Any) -> str:
    """A template of this folder, filled in."""
    # By hand, not by file name: jinja's own choice would not escape a .jinja file.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = duration
    return environment.get_template(template).render(**told)


def loss_plot(training: pd.DataFrame) -> Markup | None:
    """Losses by epoch; None if nothing was trained."""
    if training.empty:
        return None
    losses = {
        name: [None if pd.isna(v) else float(v) for v in training[column]]
        for name, column in (("training items", "train_loss"), ("held-out items", "valid_loss"))
    }
    return plots.loss_curve([int(e) for e in training["epoch"]], losses)


def kept_epoch(training: pd.DataFrame) -> int | None:
    """The epoch whose parameters fine-tuning kept: of the lowest held-out loss, else the last."""
    if training.empty:
        return None
    held_out = training["valid_loss"].astype(float)
    return int(training["epoch"].iloc[-1] if held_out.isna().all() else training.loc[held_out.idxmin(), "epoch"])


def histogram_plot(histogram: Histogram | None, label: str, what: str) -> Markup | None:
    return plots.histogram(histogram.edges, histogram.counts, label, what) if histogram else None


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
