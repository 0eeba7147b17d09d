"""How a training is launched, as its user sets it."""

from typing import ClassVar, Literal

from pydantic import Field

from recspark.config import Settings

LauncherKind = Literal["horovod", "torch", "local"]


class LaunchSettings(Settings):
    """How many ranks, by what, and for how long they are waited for."""

    section: ClassVar[str] = "finetune"  # of the configuration, for messages

    launcher: LauncherKind = Field("horovod", description="horovod | torch | local (this process, one rank)")
    num_processes: int = Field(2, ge=1, description="ranks; each takes one task slot")
    threads_per_process: int = Field(1, ge=1, description="threads of a rank's BLAS and torch")
    start_timeout: float = Field(120, gt=0, description="seconds until every rank must have started")
    lost_timeout: float = Field(60, gt=0, description="seconds without a heartbeat after which a rank counts as dead")
    stall_timeout: float = Field(600, gt=0, description="seconds a living rank may take for one step")
