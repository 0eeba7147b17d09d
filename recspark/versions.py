"""`recspark models`: which versions there are, which is promoted, and each one's card; without Spark."""

import datetime
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from recspark.evaluation import verdict
from recspark.evaluation.card import model_card
from recspark.lake import Lake
from recspark.lake.promotions import before, history, log_of, promoted
from recspark.lake.promotions import promote as promote_version
from recspark.lake.promotions import rollback as roll_back
from recspark.lake.registry import Registry, Version
from recspark.lookup import lake_of
from recspark.show import grid
from recspark.stages.versions import RETRIEVER, require_factors_of


def show_versions(config_path: str, overrides: list[str], name: str) -> None:
    """Print a model's versions, the newest first, with the metrics of their own night and who promoted which."""
    lake = lake_of(config_path, overrides)
    registry, console = lake.registry(name), Console(highlight=False)
    versions = list(reversed(registry.all()))
    count = "1 version" if len(versions) == 1 else f"{len(versions)} versions"
    console.print(Text.assemble((f"{name}  ", "bold"), (f"{count}, {lake.root}", "dim")))
    if versions:
        console.print(versions_table(registry, versions))
    for entry in log_of(registry)[-1:]:
        did = "promoted" if entry["act"] == "promote" else "gone back to"
        console.print(Text(f"{entry['version']} was {did} by {entry['by']}, {entry['at']}", "dim"))
    others = [model for model in lake.names("models") if model != name]
    if others:
        console.print(Text(f"other models: {', '.join(others)} (--name)", "dim"))


def versions_table(registry: Registry, versions: Sequence[Version]) -> Any:
    """A row a version. A cell of metrics is that of the night it was made in, or of the first that used it."""
    stack, now = history(registry), promoted(registry)
    measured = {v.id: first_night(registry.metrics(v.id), v.run_date) for v in versions}
    k = next((verdict.main_k(frame) for frame in measured.values() if frame is not None), None)
    headers = ("written", f"ndcg@{k}" if k else "ndcg", "cold items", "nights", "")
    table = grid(("version", "left"), *((name, "number" if name else "left") for name in headers))
    table.columns[0].min_width = max(len(v.id) for v in versions)  # it is there to be copied
    for v in versions:
        mark = Text("promoted", "bold green") if v.id == now else Text("before" if v.id in stack else "", "dim")
        written = v.manifest["written_at"][:16].replace("T", " ")
        cells = [Text(mean_of(measured[v.id], cut, k)) for cut in ("all", "cold")]
        table.add_row(Text(v.id), Text(written, "dim"), *cells, Text(str(len(registry.metrics(v.id)))), mark)
    return table


def mean_of(frame: pd.DataFrame | None, cut: str, k: int | None) -> str:
    """nDCG@k of the full model, whose interval is in the card; nothing where no night measured anything, a dash where it was not at this k."""
    if frame is None or k is None:
        return ""
    found = verdict.scores(frame, cut, verdict.METRIC, k)
    return next((f"{score.value:.4f}" for score in found if score.model == "full"), "–")


def first_night(metrics: dict[str, list[dict[str, Any]]], own: datetime.date) -> pd.DataFrame | None:
    """The metrics of a version's own night, or of the first that used it; None if there are none."""
    found = {date: rows for date, rows in metrics.items() if rows}
    if not found:
        return None
    return pd.DataFrame(found.get(str(own), found[min(found)]))


def promote(config_path: str, overrides: list[str], version: str) -> None:
    """Make a version of the retriever the one that `embed.retriever: promoted` means.

    Raises UserError if it is unknown (with the nearest there is), damaged, promoted already, or its factor tables have gone.
    """
    lake = lake_of(config_path, overrides)
    registry = lake.registry(RETRIEVER)
    require_factors_of(lake, "promote", registry.version(version))
    was = promoted(registry)
    promote_version(registry, version)
    tell(lake, version, was)


def rollback(config_path: str, overrides: list[str]) -> None:
    """Go back to the version that was promoted before.

    Raises UserError if there is none, or it can no longer be used.
    """
    lake = lake_of(config_path, overrides)
    registry = lake.registry(RETRIEVER)
    was = promoted(registry)
    require_factors_of(lake, "rollback", registry.version(before(registry)))
    tell(lake, roll_back(registry), was)


def tell(lake: Lake, version: str, was: str | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble((version, "bold"), " is promoted", (f", was {was}" if was else "", "dim")))
    console.print(Text(f"nights of {lake.root} use it where embed.retriever is promoted", "dim"))


def card(config_path: str, overrides: list[str], name: str, version: str) -> None:
    """Print a version's model card; as Markdown where the output is no terminal."""
    registry = lake_of(config_path, overrides).registry(name)
    text = model_card(name, registry.version(version), registry.metrics(version))
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")
