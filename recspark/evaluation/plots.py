"""The report's plots, drawn by matplotlib as inline SVG: text stays text, colours follow the page's light or dark mode.

Series colours are of Okabe and Ito's palette, which colour-blind people can tell apart; what a colour says is also said by
a label or by the shape of the line.
"""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recspark.evaluation.verdict import Score

# Matplotlib wants fixed colours; these stand for the page's CSS variables and are replaced in what it draws.
INK, MUTED, LINE, BLUE, ORANGE, GREY = (f"#0{n}0{n}0{n}" for n in range(1, 7))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", BLUE: "blue", ORANGE: "orange", GREY: "grey"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, to be searched, copied and read aloud
    "svg.hashsalt": "recspark",  # the same data draw the same bytes
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
}
# Baselines are grey.
COLOURS = {
    "full": ORANGE,
    "reranked": ORANGE,
    "factors": ORANGE,
    "text_before": BLUE,
    "text_after": BLUE,
    "sequence": BLUE,
    "id_alone": INK,
}
LINES = {
    "full": ("-", "o"),
    "reranked": ("-.", "D"),
    "factors": (":", "o"),
    "text_before": (":", "^"),
    "text_after": ("-", "^"),
    "sequence": ("-.", "P"),
    "id_alone": (":", "v"),
}  # baselines: -- and s


def intervals(scores: Sequence[Score], label: str) -> Markup:
    """A row a model: a dot at the value, a line over its 95 % interval."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.7, 0.62 + 0.3 * len(scores)), layout="constrained")
        axes = figure.subplots()
        for place, score in enumerate(scores):
            colour = COLOURS.get(score.model, GREY)
            axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([score.value], [place], marker="o", markersize=7, color=colour)
            axes.annotate(
                f"{score.value:.3f}",
                (score.high, place),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        axes.set_yticks(range(len(scores)), [s.name for s in scores], color=INK)
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.set_xlim(0, 1.16 * max((s.high for s in scores), default=1) or 1)
        axes.grid(axis="x", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(label)
        return svg(figure, f"{label} by model: " + "; ".join(f"{s.name} {s}" for s in scores))


def by_class(classes: Sequence[str], models: Mapping[str, Sequence[Score | None]], kind: str, label: str) -> Markup:
    """A line a model of `models` over classes of users or items, with a 95 % interval at each; None where it was not judged.

    Below a class stands how many users it has. kind: what the classes are of.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 3.1), layout="constrained")
        axes = figure.subplots()
        apart = 0.36 / max(1, len(models) - 1)  # side by side, so that no interval hides another
        for number, (model, scores) in enumerate(models.items()):
            points = [(place, s) for place, s in enumerate(scores) if s]
            places = [place + apart * (number - (len(models) - 1) / 2) for place, _ in points]
            found = [s for _, s in points]
            colour, (line, marker) = COLOURS.get(model, GREY), LINES.get(model, ("--", "s"))
            axes.vlines(places, [s.low for s in found], [s.high for s in found], color=colour, linewidth=1.2, alpha=0.6)
            name = found[0].name if found else model
            axes.plot(
                places,
                [s.value for s in found],
                line,
                color=colour,
                marker=marker,
                markersize=4.5,
                linewidth=1.3,
                label=name,
            )
        users = [max(s.users for s in at if s) for at in zip(*models.values(), strict=True)]
        axes.set_xticks(range(len(classes)), [f"{c}\n{short(n)}" for c, n in zip(classes, users, strict=True)])
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{kind}; below, users")
        axes.set_ylabel(label)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8.5)
        told = (
            f"{c}: " + ", ".join(f"{s.name} {s}" for s in at if s)
            for c, at in zip(classes, zip(*models.values(), strict=True), strict=True)
        )
        return svg(figure, f"{label} by {kind}: " + "; ".join(told))


def loss_curve(epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]]) -> Markup:
    """Loss by epoch, a line a name of `losses`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 2.6), layout="constrained")
        axes = figure.subplots()
        for (name, values), colour, dashes, marker in zip(
            losses.items(), (BLUE, ORANGE), ("-", "--"), ("o", "s"), strict=False
        ):
            points = [(e, v) for e, v in zip(epochs, values, strict=True) if v is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    dashes,
                    color=colour,
                    marker=marker,
                    markersize=4.5,
                    label=name,
                )
        axes.set_xticks(list(epochs))
        axes.margins(x=0.05, y=0.15)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_xlabel("epoch (0 is before the first step)")
        axes.set_ylabel("loss")
        axes.legend(frameon=False, fontsize=9)
        return svg(figure, "Loss by epoch: " + ", ".join(losses))


def histogram(edges: Sequence[float], counts: Sequence[int], label: str, what: str) -> Markup:
    """Bars over bins: counts[i] of `what` lie from edges[i] to edges[i + 1]."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, color=BLUE)
        short_numbers(axes)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_ylabel(what)
        return svg(figure, f"Histogram: {what} by {label}, from {edges[0]:g} to {edges[-1]:g}")


def short_numbers(axes: Axes) -> None:
    """The y axis in whole numbers, thousands and millions."""
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=5)  # type: ignore[call-arg]
    axes.yaxis.set_major_formatter(lambda y, _: short(y))


def short(number: float) -> str:
    """400, 12k, 3M; three digits of thousands and millions."""
    return f"{number / 1e6:.3g}M" if number >= 999_500 else f"{number / 1e3:.3g}k" if number >= 1e3 else f"{number:g}"


def svg(figure: Figure, description: str) -> Markup:
    """The figure as an SVG element that scales with its place; its ids are unlike any other plot's of the page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    unique = hashlib.sha256(drawn.encode()).hexdigest()[:8]
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>plot-{unique}-", drawn)
    drawn = re.sub(
        r"(?<=: )(#0\d0\d0\d)\b", lambda m: f"var(--{VARIABLES[m[1]]})" if m[1] in VARIABLES else m[1], drawn
    )
    width, height = (96 * inches for inches in figure.get_size_inches())
    # The first height and width are the figure's own, in points.
    drawn = re.sub(r' (?:height|width)="[\d.]+pt"', "", drawn, count=2)
    label = escape(description)
    return Markup(
        drawn.replace(
            "<svg",
            f'<svg role="img" aria-label="{label}" style="width: 100%; max-width: {width:.0f}px; max-height: {height * 1.2:.0f}px"',
            1,
        )
    )
