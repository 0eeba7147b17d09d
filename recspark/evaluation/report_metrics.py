"""What the report shows of the table `metrics`: a plot a slice, plots over classes of users and items, and the numbers.

Like the report, it knows neither Spark nor the lake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from recspark.evaluation import plots, verdict
from recspark.evaluation.slices import COLD_AMONG_ALL, ITEM_SLICES, NEW_USERS, USER_SLICES

SLICE_TITLES = {
    "all": "All items",
    "warm": "Warm items, met in training",
    "cold": "Cold items, never met in training",
    COLD_AMONG_ALL: "Cold items, found among all",
}
WITHIN_TITLES = (  # title, slices, what they are classes of
    ("Users by the length of their history", USER_SLICES, "events of a user"),
    ("Items by popularity", ITEM_SLICES, "popularity decile of the items, the most popular first"),
)
METRICS = ("ndcg", "recall", "map", "map_min", "mrr", "hit_rate", "precision")
BESIDE = (
    "coverage",
    "novelty",
    "diversity",
    "popularity",
    "popularity_lift",
    "miscalibration",
)  # do not ask what was chosen
RATING_METRICS = ("rmse", "mae")
METRIC_NAMES = {
    "rmse": "RMSE",
    "mae": "MAE",
    "ndcg": "nDCG",
    "map": "MAP",
    "map_min": "MAP, min(n, k)",
    "mrr": "MRR",
    "hit_rate": "hit rate",
    "popularity_lift": "popularity lift",
}


@dataclass(frozen=True)
class MetricTable:
    """A slice's metrics at one k: a row a model, a cell a metric of `metrics` (None: not measured)."""

    title: str
    k: int
    metrics: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Mapping[str, float] | None]]]
    users: int


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


def within_plots(metrics: pd.DataFrame) -> list[tuple[str, Markup]]:
    """(title, plot) of the main metric over classes of users and of items, of those slices that were measured."""
    if metrics.empty:
        return []
    k, made = verdict.main_k(metrics), []
    for title, slices, kind in WITHIN_TITLES:
        plot = class_plot(metrics, slices, leading_models(metrics, k), kind, k)
        if plot:
            made.append((title, plot))
    return made


def new_users_plot(metrics: pd.DataFrame) -> Markup | None:
    """The main metric of users nobody has learned from, by how many events are known; None where nobody was judged."""
    slices = sorted({s for s in metrics["slice"] if s.startswith(NEW_USERS)}, key=lambda s: int(class_name(s)))
    if not slices:
        return None
    k = verdict.main_k(metrics)
    models = [s.model for s in verdict.scores(metrics, slices[0], verdict.METRIC, k)]
    return class_plot(metrics, slices, models, "events of a new user", k)


def class_plot(metrics: pd.DataFrame, slices: Sequence[str], models: Sequence[str], kind: str, k: int) -> Markup | None:
    """The main metric over those of the slices that were measured; None if none was."""
    found = {name: {s.model: s for s in verdict.scores(metrics, name, verdict.METRIC, k)} for name in slices}
    there = [name for name in slices if found[name]]
    if not there:
        return None
    lines = {model: [found[name].get(model) for name in there] for model in models}
    label = f"{METRIC_NAMES[verdict.METRIC]}@{k}"
    return plots.by_class([class_name(name) for name in there], lines, kind, label)


def leading_models(metrics: pd.DataFrame, k: int) -> list[str]:
    """Those that a plot of several lines can hold: the best baseline on all items, the text, and the full model in its forms."""
    everything = verdict.scores(metrics, "all", verdict.METRIC, k)
    baselines = [s for s in everything if s.model not in verdict.OURS]
    best = [max(baselines, key=lambda s: s.value).model] if baselines else []
    ours = (s.model for s in everything if s.model in verdict.OURS)
    return [*best, *(model for model in ours if model not in ("text_before", "factors_alone"))]


def class_name(slice_name: str) -> str:
    """`3-5` of `users: 3-5 events`, `1` of `items: decile 1` and of `new users: 1 event`."""
    short = slice_name.partition(": ")[2].removeprefix("decile ").removesuffix(" event").removesuffix(" events")
    return short.replace("more than ", "> ").replace("-", "–")


def metric_tables(metrics: pd.DataFrame) -> list[MetricTable]:
    """How right the lists are: a table for each k, the main one first, and slice."""
    others = sorted(set(metrics["metric"]) - {*METRICS, *BESIDE, *RATING_METRICS})
    return tables_of(metrics, (*METRICS, *others))


def beside_tables(metrics: pd.DataFrame) -> list[MetricTable]:
    """What they are beside that, in the same order."""
    return tables_of(metrics, BESIDE)


def tables_of(metrics: pd.DataFrame, shown: Sequence[str]) -> list[MetricTable]:
    """A table for each k and slice, of those metrics that were measured."""
    rows = metrics[metrics["metric"].isin(shown) & (metrics["k"] > 0)]
    if rows.empty:
        return []
    main = verdict.main_k(metrics)
    ks = sorted({int(k) for k in rows["k"]}, key=lambda k: (k != main, k))
    measured = {name: set(own["metric"]) for name, own in rows.groupby("slice")}
    columns = {name: [m for m in shown if m in measured[name]] for name in SLICE_TITLES if name in measured}
    return [t for k in ks for name in columns if (t := metric_table(metrics, name, k, columns[name])).rows]


def metric_table(metrics: pd.DataFrame, slice_name: str, k: int, shown: Sequence[str]) -> MetricTable:
    """One slice at one k; value, low and high of each cell, the latter two null where there is no interval."""
    rows = metrics[(metrics["slice"] == slice_name) & (metrics["k"] == k)]
    cells = {(r.model, r.metric): {"value": r.value, "low": r.low, "high": r.high} for r in rows.itertuples()}
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
