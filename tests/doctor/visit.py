"""A visit that is good for one check."""

from types import SimpleNamespace
from typing import Any

from recspark.doctor.checkup import Checkup


def checkup(**settings: Any) -> Checkup:
    """A visit of which a check sees only these settings."""
    finetune = SimpleNamespace(
        **{"reader": "arrow", "launcher": "local", "threads_per_process": 1, **settings.get("finetune", {})}
    )
    spark = SimpleNamespace(master="local[2]", driver_memory="2g")
    return Checkup(SimpleNamespace(finetune=finetune, spark=spark, lake="lake"), SimpleNamespace(root="/"))  # type: ignore[arg-type]
