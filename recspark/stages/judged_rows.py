"""What was judged, as rows of the tables metrics and comparisons, as the tables themselves, and as a table for people."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from recspark.evaluation.bootstrap import ratios
from recspark.evaluation.comparison import compare, holm
from recspark.evaluation.metrics import coverage
from recspark.evaluation.slices import WITHIN
from recspark.lake import Lake
from recspark.stages.judge import SHOWN, Evaluation, Verdict
from recspark.stages.leakage import Row
from recspark.stages.versions import RETRIEVER_VERSION, keep_metrics, vectors_version
from recspark.tables import COMPARISONS, LEAKAGE, METRICS, Table

LEFT_OUT = "left_out"  # in the manifest of the metrics


def metric_rows(evaluation: Evaluation, verdicts: list[Verdict | None]) -> list[tuple]:
    """Rows of the metrics table, those of slices in which nobody can be judged left out."""
    rows: list[tuple] = []
    for trial, verdict in zip(evaluation.judged, verdicts, strict=True):
        if verdict is None:
            continue
        found, users, columns = verdict.estimate, verdict.estimate.users, evaluation.columns(trial.slice)
        for (metric, k), *numbers in zip(columns, found.value, found.low, found.high, strict=True):
            rows.append((trial.model, trial.slice, metric, k, *map(float, numbers), users))
        rows += ((trial.model, trial.slice, "popularity_lift", *row, users) for row in lifts(columns, verdict))
        for k, shown in zip(evaluation.ks, verdict.shown, strict=False):
            share = coverage(shown, evaluation.slice_size(trial.slice))
            rows.append((trial.model, trial.slice, "coverage", k, share, None, None, users))
    return rows


def lifts(columns: list[tuple[str, int]], verdict: Verdict) -> list[tuple[int, float, float, float]]:
    """(k, value, low, high) of the lists' mean popularity over the histories'; none where nobody in train has anything of these.

    How much more popular the items shown are than those the users chose themselves: 1 + ΔGAP of Abdollahpouri, Mansoury, Burke and
    Mobasher (2019, "The unfairness of popularity bias in recommendation"), all users in one group.
    """
    if not verdict.tastes[0]:
        return []
    places = [(place, k) for place, (metric, k) in enumerate(columns) if metric == "popularity"]
    found = ratios(verdict.sums[:, [place for place, _ in places]], verdict.tastes) if places else ()
    return [(k, *map(float, numbers)) for (_, k), *numbers in zip(places, *found, strict=True)]


def comparison_rows(evaluation: Evaluation, verdicts: list[Verdict | None]) -> list[tuple]:
    """Rows of the table of comparisons: each model beside those judged before it, slice by slice, as these have users in common."""
    rows: list[tuple] = []
    for name in dict.fromkeys(trial.slice for trial in evaluation.judged):
        judged = [(t.model, v.sums) for t, v in zip(evaluation.judged, verdicts, strict=True) if v and t.slice == name]
        pairs = [(model, other, compare(sums, others)) for (other, others), (model, sums) in combinations(judged, 2)]
        if not pairs:
            continue
        adjusted = holm(np.stack([found.p for *_, found in pairs]))
        for (model, other, found), p_adjusted in zip(pairs, adjusted, strict=True):
            numbers = zip(found.difference, found.low, found.high, found.p, p_adjusted, strict=True)
            for (metric, k), values in zip(evaluation.columns(name), numbers, strict=True):
                rows.append((model, other, name, metric, k, *map(float, values), found.users))
    return rows


def write_judged(
    spark: SparkSession,
    lake: Lake,
    rows: list[tuple],
    compared: list[tuple],
    leaks: list[Row],
    left_out: dict[str, str],
) -> None:
    """The tables, and, for the registry, the metrics beside the version of the retriever that they judge.

    left_out: baselines that could not be had, and why; in the manifest of the metrics.
    """
    version = vectors_version(lake, "evaluate")

    def write(rows: Sequence[tuple], table: Table, **about: Any) -> None:
        frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in table.columns))
        lake.write(frame.coalesce(1), table, **{RETRIEVER_VERSION: version}, **about)

    write(rows, METRICS, **{LEFT_OUT: left_out})
    write(compared, COMPARISONS)
    write(leaks, LEAKAGE)
    if version is not None:
        keep_metrics(lake, version, [dict(zip(METRICS.column_names, row, strict=True)) for row in rows])


def readable(rows: list[tuple], k: int, metrics: Sequence[str] = SHOWN, title: str = "metrics") -> str:
    """The metrics at k as a table for people, without the classes of users and items."""
    rows = [row for row in rows if row[1] not in WITHIN]
    width = max((len(row[1]) for row in rows), default=5)
    cells = {(model, name, metric): row for model, name, metric, at, *row in rows if at == k}
    named = [f"{metric}@{k}" if k else metric for metric in metrics]
    lines = [f"{'model':<14} {'slice':<{width}} {'users':>8}" + "".join(f"  {name:<24}" for name in named)]
    for model, name in dict.fromkeys((row[0], row[1]) for row in rows):
        shown = [cells[model, name, metric] for metric in metrics]
        numbers = "".join(f"  {value:.4f} [{low:.4f}, {high:.4f}]" for value, low, high, _ in shown)
        lines.append(f"{model:<14} {name:<{width}} {shown[0][3]:>8}{numbers}")
    return "\n".join([f"{title} with 95 % intervals:", *lines])
