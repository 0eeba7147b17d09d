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

from recspark.evaluation import plots, verdict

TEMPLATE = "report.html.jinja"
SLICE_TITLES = {
    "all": "All items",
    "warm": "Warm items, met in training",
    "cold": "Cold items, never met in training",
}
METRICS = ("ndcg", "recall", "map", "map_min", "mrr", "hit_rate", "precision", "coverage", "novelty")
RATING_METRICS = ("rmse", "mae")
METRIC_NAMES = {
    "rmse": "RMSE",
    "mae": "MAE",
    "ndcg": "nDCG",
    "map": "MAP",
    "map_min": "MAP, min(n, k)",
    "mrr": "MRR",
    "hit_rate": "hit rate",
}


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

    metrics: the table METRICS, empty if nothing was evaluated. training: the table TRAINING_LOG by epoch, may be empty.
    rejects: (source, reason, rows). tokens: tokens an item text has, at most `max_length` being read.
    """

    run_date: str
    written_at: str
    model_hash: str
    retriever_version: str  # empty if the vectors name none
    metrics: pd.DataFrame
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


@dataclass(frozen=True)
class MetricTable:
    """A slice's metrics at one k: a row a model, a cell a metric of `metrics` (None: not measured)."""

    title: str
    k: int
    metrics: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Mapping[str, float] | None]]]
    users: int


def render(facts: ReportFacts) -> str:
    """The report as HTML."""
    found = verdict.findings(facts.metrics)
    return page(
        TEMPLATE,
        facts=facts,
        findings=found,
        headline=verdict.headline(found),
        slice_plots=slice_plots(facts.metrics),
        metric_tables=metric_tables(facts.metrics),
        rating_tables=rating_tables(facts.metrics),
        metric_names=METRIC_NAMES,
        loss_plot=loss_plot(facts.training),
        score_plot=histogram_plot(facts.lists.scores, "score", "entries"),
        token_plot=histogram_plot(facts.tokens, "tokens of an item's text", "items"),
        training=facts.training.astype(object).where(facts.training.notna(), None).to_dict("records"),
        kept_epoch=kept_epoch(facts.training),
        longest_stage=max((s.seconds for s in facts.stages), default=0.0),
        settings=yaml.safe_dump(dict(facts.settings), allow_unicode=True, sort_keys=False) if facts.settings else "",
    )


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


def slice_plots(metrics: pd.DataFrame) -> list[tuple[str, int, Markup]]:
    """(title, users, plot) of the main metric for each slice that was measured."""
    made = []
    for name, title in SLICE_TITLES.items() if not metrics.empty else ():
        k = verdict.main_k(metrics)
        scores = verdict.scores(metrics, name, verdict.METRIC, k)
        if scores:
            label = f"{METRIC_NAMES[verdict.METRIC]}@{k}"
            made.append((title, max(s.users for s in scores), plots.intervals(scores, label)))
    return made


def metric_tables(metrics: pd.DataFrame) -> list[MetricTable]:
    """A table for each k, the main one first, and slice."""
    if metrics.empty:
        return []
    main = verdict.main_k(metrics)
    ks = sorted({int(k) for k in metrics["k"] if k > 0}, key=lambda k: (k != main, k))
    return [t for k in ks for name in SLICE_TITLES if (t := metric_table(metrics, name, k)).rows]


def metric_table(metrics: pd.DataFrame, slice_name: str, k: int) -> MetricTable:
    """One slice at one k; value, low and high of each cell, the latter two null where there is no interval."""
    rows = metrics[(metrics["slice"] == slice_name) & (metrics["k"] == k)]
    cells = {(r.model, r.metric): {"value": r.value, "low": r.low, "high": r.high} for r in rows.itertuples()}
    measured = {metric for _, metric in cells}
    shown = [m for m in METRICS if m in measured] + sorted(measured - set(METRICS))
    order = verdict.scores(metrics, slice_name, verdict.METRIC, k)
    table = [(s.name, [cells.get((s.model, metric)) for metric in shown]) for s in order]
    return MetricTable(SLICE_TITLES[slice_name], k, shown, table, max((s.users for s in order), default=0))


def rating_tables(metrics: pd.DataFrame) -> list[MetricTable]:
    """A table of rmse and mae for each slice in which ratings were predicted."""
    rows = metrics[metrics["metric"].isin(RATING_METRICS)]
    return [
        rating_table(rows[rows["slice"] == name], title)
        for name, title in SLICE_TITLES.items()
        if name in set(rows["slice"])
    ]


def rating_table(rows: pd.DataFrame, title: str) -> MetricTable:
    """One slice, the smallest rmse first."""
    cells = {(r.model, r.metric): {"value": r.value, "low": r.low, "high": r.high} for r in rows.itertuples()}
    models = sorted(set(rows["model"]), key=lambda model: (cells[model, "rmse"]["value"], model))
    table = [(verdict.NAMES.get(m, m), [cells[m, metric] for metric in RATING_METRICS]) for m in models]
    return MetricTable(title, 0, RATING_METRICS, table, int(rows["users"].max()))


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
