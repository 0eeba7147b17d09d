"""Plots of a study, in the look of the night's report: how the trials went on, and what each setting did."""

from collections.abc import Sequence
from itertools import accumulate

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recspark.evaluation.plots import BLUE, GREY, LINE, MUTED, ORANGE, STYLE, svg

Point = tuple[int, float]  # trial, value


def history(trials: Sequence[Point], own: float | None, ended: Sequence[int], label: str) -> Markup:
    """A dot a trial, a line at the best so far, a dashed one at the deployment's own settings, a cross where a trial has no value."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 2.8), layout="constrained")
        axes = figure.subplots()
        numbers, values = zip(*trials, strict=True)
        if own is not None:
            axes.axhline(own, color=GREY, linestyle="--", linewidth=1.2, label="own settings")
        best = list(accumulate(values, max))
        axes.step(numbers, best, where="post", color=ORANGE, linewidth=1.6, label="best so far")
        axes.plot(numbers, values, "o", color=BLUE, markersize=5, label="a trial")
        if ended:
            axes.plot(ended, [min(values)] * len(ended), "x", color=MUTED, markersize=5, label="failed or pruned")
        finish(axes, "trial", label)
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        axes.legend(
            frameon=False,
            fontsize=8.5,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.22),
            ncols=4,
            handletextpad=0.5,
            columnspacing=1.2,
        )
        return svg(figure, f"{label} by trial; the best is {best[-1]:.4f}")


def setting(
    values: Sequence[float | str], scores: Sequence[float], best: int, scale: str, path: str, label: str
) -> Markup:
    """What a setting did: a dot a trial at its value, the best one marked. scale: linear, log or choice."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.7, 2.3), layout="constrained")
        axes = figure.subplots()
        places: Sequence[float]
        if scale == "choice":
            names = sorted({str(v) for v in values})
            places = [names.index(str(v)) for v in values]
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        else:
            places = [float(v) for v in values]
            if scale == "log":
                logarithmic(axes, places)
        axes.plot(places, scores, "o", color=BLUE, markersize=5)
        axes.plot([places[best]], [scores[best]], "D", color=ORANGE, markersize=7)
        finish(axes, path, label)
        return svg(figure, f"{label} by {path}; the best has {values[best]}")


def logarithmic(axes: Axes, places: Sequence[float]) -> None:
    """The x axis by the logarithm, with a few plain numbers below it."""
    axes.set_xscale("log")
    ticks = sorted({float(f"{tick:.1g}") for tick in np.geomspace(min(places), max(places), 4)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def finish(axes: Axes, across: str, up: str) -> None:
    axes.margins(y=0.12)
    axes.grid(axis="y", linewidth=0.6, color=LINE)
    axes.set_axisbelow(True)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
