"""What a doctor's visit knows: the deployment, and what earlier checks found that later ones need."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages.training import RankedTraining
from recspark.stages.versions import NEWEST, TONIGHT

if TYPE_CHECKING:
    from recspark.pipeline import Deployment


class Caution(str):
    """What may be wrong, and may be meant: it is shown and spoils nothing."""


@dataclass
class Checkup:
    """java: whether Spark could start. probes: what each host's Python said. frames: raw tables that could be opened."""

    deployment: "Deployment"
    lake: Lake
    java: bool = False
    started: SparkSession | None = None
    probes: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[str, DataFrame] = field(default_factory=dict)

    @property
    def session(self) -> SparkSession:
        """Raises UserError if it did not start."""
        if self.started is None:
            raise UserError("not checked, for Spark did not start")
        return self.started

    @property
    def is_local(self) -> bool:
        """Whether driver and tasks are processes of this machine, Spark's or of a session not yet started."""
        master = self.started.sparkContext.master if self.started else self.deployment.spark.master
        return (master or "").startswith("local")

    @property
    def trainings(self) -> list[RankedTraining]:
        """The sections that say how ranks train, of the stages that may run: those that train a retriever not where one that is there is taken."""
        deployment = self.deployment
        sections: list[Any] = [deployment.sequence, deployment.rerank and deployment.rerank.model]
        if deployment.embed.retriever in (TONIGHT, NEWEST):
            sections = [deployment.pretrain, deployment.finetune, *sections]
        return [section for section in sections if isinstance(section, RankedTraining)]
