"""A visit that is good for one check."""

from types import SimpleNamespace
from typing import Any

from recspark.doctor.checkup import Checkup
from recspark.stages.embed import EmbedConfig
from recspark.stages.finetune import FinetuneConfig


def checkup(**settings: Any) -> Checkup:
    """A visit of which a check sees only these settings."""
    alone = {"reader": "arrow", "launcher": "local", "num_processes": 1, "threads_per_process": 1}
    deployment = SimpleNamespace(
        finetune=FinetuneConfig(**{**alone, **settings.get("finetune", {})}),
        embed=EmbedConfig(**settings.get("embed", {})),
        pretrain=None,
        sequence=None,
        rerank=None,
        spark=SimpleNamespace(master="local[2]", driver_memory="2g"),
        lake="lake",
    )
    return Checkup(deployment, SimpleNamespace(root="/"))  # type: ignore[arg-type]
