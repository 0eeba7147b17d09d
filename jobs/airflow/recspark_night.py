"""Which tasks the night of a deployment has, read from its YAML; knows neither recspark nor Airflow, so that a scheduler without either can.

A run date has a lock, so its tasks follow one another, also where the tables would let two stages run at once.
"""

from collections.abc import Mapping
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
    "candidates",
    "rerank",
    "evaluate",
    "publish",
)
WHERE_CONFIGURED = ("pretrain", "sequence", "combine", "ratings", "rerank")  # only with a section of their own
TRAINING = ("pretrain", "factorize", "finetune")  # not where embed takes a version of the retriever that is there
RANKS = (
    "pretrain",
    "finetune",
    "sequence",
    "rerank",
)  # may start ranks, which want a slot each for as long as they learn
TONIGHT = "tonight"


@dataclass(frozen=True)
class Step:
    """A task: `spark-submit jobs/STAGE.py`. ranks: it may train, in the pool that bounds how many do. longest: then it counts as hung."""

    stage: str
    ranks: bool
    longest: timedelta


def steps(config: str | Path, hours: float = 3, hours_of_ranks: float = 8) -> list[Step]:
    """The night's tasks in their order.

    Raises ValueError if the file is not a deployment's.
    """
    settings = yaml.safe_load(Path(config).read_text())
    if not isinstance(settings, Mapping) or "preprocess" not in settings:
        raise ValueError(f"{config}: no recspark deployment; a YAML file with a section preprocess was expected")
    return [
        Step(stage, stage in RANKS, timedelta(hours=hours_of_ranks if stage in RANKS else hours))
        for stage in NIGHT
        if is_run(stage, settings)
    ]


def is_run(stage: str, settings: Mapping[str, Any]) -> bool:
    """Whether `recspark run` would run the stage."""
    embed = settings.get("embed") or {}
    if stage in TRAINING and embed.get("retriever", TONIGHT) != TONIGHT:
        return False
    return stage not in WHERE_CONFIGURED or settings.get(stage) is not None
