"""The model card of a version, in Markdown: what it is, what it learned from, how it did, what it is good for, how to load it.

All of it is made from the version's facts and the metrics kept beside it; nothing is written by hand, so nothing grows old.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from recspark.evaluation import verdict
from recspark.lake.registry import Version

Metrics = Mapping[str, Sequence[Mapping[str, Any]]]  # run date to rows of the table `metrics`

WHAT = {
    "retriever": "A text encoder with a linear head: from an item's text to a vector whose inner product with a user's says how "
    "much the text speaks for the item. The encoder learned from who met what.",
    "pretrained": "A language model of this catalogue's own texts, from which the text encoder starts.",
    "factors": "What a factorization of who met what hands on: a linear map from text vectors to item vectors, and the Gram "
    "matrix of its users.",
}
USE = {
    "retriever": "For the lists of this catalogue and log, and for searching it: `recspark run` corrects each item's vector by "
    "its own interactions, which the text alone does not know. The vectors of two versions do not compare. It repeats what its "
    "log says of people's choices, what was never shown to them included; it knows nothing of a text beyond the length it reads.",
    "pretrained": "To start a retriever from. It has seen no interactions, and no more language than these texts hold.",
    "factors": "For fine-tuning on the run date's own factor tables, and for nothing else.",
}
SHOWN = ("ndcg", "recall", "map")
SECTIONS = {"retriever": ("encoder", "factorize", "finetune"), "pretrained": ("pretrain",), "factors": ("factorize",)}
NO_OTHER_CAN = ("adapter",)  # adaptations that transformers does not know


def model_card(name: str, version: Version, metrics: Metrics) -> str:
    """The card of one version of a model. metrics: of the nights whose vectors it made."""
    about = version.manifest
    parts = [f"# {name} {version.id}", WHAT.get(name, ""), table(("", ""), facts(name, about))]
    parts += ["## Learned from", inputs(about.get("inputs", {}))]
    if name == "retriever":
        parts += ["## How it did", *nights(str(version.run_date), metrics)]
    parts += ["## Use and limits", USE[name]] if name in USE else []
    parts += ["## To load it", loading(name, version)]
    settings = {s: about["settings"][s] for s in SECTIONS.get(name, ()) if s in about.get("settings", {})}
    if settings:
        parts += ["## Settings", f"```yaml\n{yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)}```"]
    return "\n\n".join(filter(None, parts)) + "\n"


def facts(name: str, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what is known of the version."""
    tokens, finetune = about.get("tokenized_by", {}), about.get("settings", {}).get("finetune", {})
    rows = [
        ("run date", about["run_date"]),
        ("written", f"{about['written_at'][:16].replace('T', ' ')} UTC"),
        ("content", f"`{about['content_hash']}`"),
    ]
    if tokens:
        path = about.get("settings", {}).get("encoder", {}).get("path", "")
        rows.append(
            ("base encoder", f"{path} (`{tokens['encoder'][:12]}…`), reads {tokens['max_length']} tokens of a text")
        )
    if name == "retriever" and finetune:
        rows += [("adaptation", part(finetune["adaptation"])), ("objective", part(finetune["objective"]))]
    if "parameters" in about:
        learned, total = about["parameters"]["learned"], about["parameters"]["all"]
        rows.append(("parameters that learned", f"{learned:,} of {total:,}"))
    if "perplexity_after" in about:
        rows.append(
            ("perplexity", f"{about['perplexity_after']:.1f} on held-out text, {about['perplexity_before']:.1f} before")
        )
    return [*rows, ("code", f"recspark {about['code_version']}")]


def part(settings: Mapping[str, Any]) -> str:
    """`last_layers (layers 2, learning_rate 0.0001)` of a part's settings."""
    others = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "kind" and value is not None)
    return f"{settings['kind']} ({others})" if others else str(settings["kind"])


def inputs(read: Mapping[str, Mapping[str, Any]]) -> str:
    """What its stage read; equal fingerprints are equal rows."""
    rows = [
        (n, f"{r['rows']:,}" if r["rows"] is not None else "", f"`{r['fingerprint'][:16]}`") for n, r in read.items()
    ]
    return table(("table or model", "rows", "fingerprint"), rows) if rows else "Nothing of the lake is recorded."


def nights(own: str, metrics: Metrics) -> list[str]:
    """The metrics of its own night, or else of the first that it was used on, and a line for each other night."""
    measured = {date: pd.DataFrame(list(rows)) for date, rows in metrics.items() if rows}
    if not measured:
        return ["It has not been evaluated."]
    first = own if own in measured else min(measured)
    frame = measured.pop(first)
    k, users = verdict.main_k(frame), int(frame.loc[frame["slice"] == "all", "users"].max())
    parts = [f"The night of {first}: {users:,} users with something held out; means with 95 % bootstrap intervals."]
    parts.append(table(("model", "items", *(f"{m}@{k}" for m in SHOWN)), metric_rows(frame, k)))
    if measured:
        rows = [
            (date, *(value(other, "full", s, verdict.METRIC, k) for s in ("all", "cold")))
            for date, other in measured.items()
        ]
        parts += [
            "The full model on other nights that used it:",
            table(("night", f"ndcg@{k}, all", "cold items"), rows),
        ]
    return parts


def metric_rows(frame: pd.DataFrame, k: int) -> list[tuple[str, ...]]:
    rows = []
    for slice_name in ("all", "warm", "cold"):
        for score in verdict.scores(frame, slice_name, verdict.METRIC, k):
            rows.append((score.name, slice_name, *(value(frame, score.model, slice_name, m, k) for m in SHOWN)))
    return rows


def value(frame: pd.DataFrame, model: str, slice_name: str, metric: str, k: int) -> str:
    """A model's value with its interval; a dash where it was not measured."""
    found = [s for s in verdict.scores(frame, slice_name, metric, k) if s.model == model]
    return str(found[0]) if found else "–"


def loading(name: str, version: Version) -> str:
    """Python that loads the folder."""
    folder = version.path
    adaptation = version.manifest.get("settings", {}).get("finetune", {}).get("adaptation", {}).get("kind")
    if name == "factors":
        lines = ["from recspark.models.retriever import Factors", f'Factors.load("{folder}")']
    elif name == "retriever" and adaptation not in NO_OTHER_CAN:
        lines = [
            "from transformers import AutoModel, AutoTokenizer",
            f'AutoModel.from_pretrained("{folder}")',
            f'AutoTokenizer.from_pretrained("{folder}")',
            "from sentence_transformers import SentenceTransformer",
            f'SentenceTransformer("{folder}").encode(["a text"])  # unit length, before the head',
        ]
    elif name == "retriever":
        lines = ["from recspark.models.retriever import load_retriever", f'load_retriever("{folder}")']
    elif name == "pretrained":
        lines = ["from transformers import AutoModel, AutoTokenizer", f'AutoModel.from_pretrained("{folder}")']
    else:
        return f"It is recspark's own: `{folder}` is read by the stage that comes after it."
    return "```python\n" + "\n".join(lines) + "\n```"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
