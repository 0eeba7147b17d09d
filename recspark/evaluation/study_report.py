"""A study's report: one HTML file in the look of the night's, for people who want to know what the settings did."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from recspark.evaluation import study_plots
from recspark.evaluation.report import page

TEMPLATE = "study.html.jinja"


@dataclass(frozen=True)
class StudyFacts:
    """All that the report tells. trials: the table TRIALS. own: the deployment's values by path, of those it has. scales: linear, log or choice."""

    study: str
    run_date: str
    metric: str
    verdict: str
    trials: pd.DataFrame
    best: int
    own: Mapping[str, Any]
    scales: Mapping[str, str]


def render_study(facts: StudyFacts) -> str:
    """The report as HTML."""
    complete = facts.trials[facts.trials["state"] == "complete"]
    rows = [
        {**row, "params": {path: short(json.loads(value)) for path, value in row["params"].items()}}
        for row in facts.trials.astype(object).where(facts.trials.notna(), None).to_dict("records")
    ]
    return page(
        TEMPLATE,
        facts=facts,
        rows=sorted(rows, key=lambda r: (r["value"] is None, -(r["value"] or 0.0), r["number"])),
        best=next(r for r in rows if r["number"] == facts.best),
        own={path: short(value) for path, value in facts.own.items()},
        counts={state: int(n) for state, n in facts.trials["state"].value_counts().items()},
        history=history_plot(facts, complete),
        settings=[plot for path in facts.scales if (plot := setting_plot(facts, complete, path)) is not None],
    )


def short(value: Any) -> str:
    """A setting's value for people."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def history_plot(facts: StudyFacts, complete: pd.DataFrame) -> Markup:
    own = complete[complete["own"]]["value"]
    ended = facts.trials[facts.trials["state"].isin(["failed", "pruned"])]["number"]
    points = [(int(n), float(v)) for n, v in zip(complete["number"], complete["value"], strict=True)]
    return study_plots.history(points, float(own.iloc[0]) if len(own) else None, [int(n) for n in ended], facts.metric)


def setting_plot(facts: StudyFacts, complete: pd.DataFrame, path: str) -> Markup | None:
    """None where no complete trial had the setting."""
    tried = complete[complete["params"].map(lambda params: path in params)]
    if tried.empty:
        return None
    values = [json.loads(params[path]) for params in tried["params"]]
    scores = [float(v) for v in tried["value"]]
    shown = [short(v) for v in values] if facts.scales[path] == "choice" else values
    return study_plots.setting(shown, scores, scores.index(max(scores)), facts.scales[path], path, facts.metric)
