"""Which tasks the night of a deployment has, read from its YAML; knows neither recspark nor Airflow, so that a scheduler without either can.

A run date has a lock, so its tasks follow one another, also where the tables would let two stages run at once.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

NIGHT = (
    "pretrain",
    "preprocess",
    "factorize",
    "finetune",
    "embed",
    "sequence",
    "combine",
    "ratings",
    "index",
    "candidates",
    "rerank",
    "evaluate",
    "publish",
)
WHERE_CONFIGURED = ("pretrain", "sequence", "combine", "ratings", "index", "rerank")  # only with a section of their own
TRAINING = ("pretrain", "factorize", "finetune")  # not where embed takes a version of the retriever that is there
RANKS = ("pretrain", "finetune", "sequence", "rerank")  # may start ranks, which want a slot each while they learn
TRAINED_HERE = (
    "tonight",
    "newest",
)  # embed.retriever: then the tasks that train are there; newest lets them end at once on most nights
ENVIRONMENT = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")  # ${NAME} and ${NAME:-default}


@dataclass(frozen=True)
class Step:
    """A task: `spark-submit jobs/STAGE.py`. ranks: it may train, in the pool that bounds how many do. longest: then it counts as hung."""

    stage: str
    ranks: bool
    longest: timedelta


def steps(config: str | Path, overrides: Sequence[str] = (), hours: float = 3, hours_of_ranks: float = 8) -> list[Step]:
    """The night's tasks in their order. overrides: `a.b=value`, as the jobs get them.

    Raises ValueError if the file is not a deployment's, or an override not one.
    """
    settings = yaml.safe_load(Path(config).read_text())
    if not isinstance(settings, dict) or "preprocess" not in settings:
        raise ValueError(f"{config}: no recspark deployment; a YAML file with a section preprocess was expected")
    for override in overrides:
        put(settings, override)
    return [
        Step(stage, ranks, timedelta(hours=hours_of_ranks if ranks else hours))
        for stage in NIGHT
        if is_run(stage, settings)
        for ranks in [may_train(stage, settings)]
    ]


def may_train(stage: str, settings: Mapping[str, Any]) -> bool:
    """Whether it may start ranks; evaluate does where a sequence model without texts is to be judged."""
    if stage == "evaluate":
        alone = (settings.get(stage) or {}).get("id_alone")
        return bool(alone) and settings.get("combine") is not None and settings.get("sequence") is not None
    return stage in RANKS


def is_run(stage: str, settings: Mapping[str, Any]) -> bool:
    """Whether `recspark run` would run the stage."""
    retriever = str((settings.get("embed") or {}).get("retriever", TRAINED_HERE[0]))
    known = ENVIRONMENT.sub(lambda found: os.environ.get(found[1], found[2] or ""), retriever)
    if stage in TRAINING and known not in TRAINED_HERE:
        return False
    return stage not in WHERE_CONFIGURED or settings.get(stage) is not None


def put(settings: dict[str, Any], override: str) -> None:
    """Set `a.b=value` in the settings."""
    path, equals, value = override.partition("=")
    *parents, last = path.split(".")
    if not equals or not last:
        raise ValueError(f"override {override!r}: a.b=value was expected")
    node = settings
    for name in parents:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    node[last] = yaml.safe_load(value)
