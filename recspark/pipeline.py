"""The nightly pipeline, in order, and the settings of a whole deployment.

A stage is a module with `INPUTS` and `OUTPUTS` (names of tables and models), its `Config`, and `run(spark, lake, config)`,
which reads inputs by name, computes, and writes outputs by name. `config` is the whole Deployment; a stage reads its own
section, `encoder` and `seed`.
"""

from collections.abc import Sequence
from types import ModuleType

from pydantic import Field

from recspark.config import Settings
from recspark.models.encoder import EncoderConfig
from recspark.session import SparkSettings
from recspark.stages import candidates, embed, evaluate, factorize, finetune, preprocess, publish
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.embed import EmbedConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.stages.factorize import FactorizeConfig
from recspark.stages.finetune import FinetuneConfig
from recspark.stages.preprocess import PreprocessConfig
from recspark.stages.publish import PublishConfig

PIPELINE: Sequence[ModuleType] = (preprocess, factorize, finetune, embed, candidates, evaluate, publish)


class Deployment(Settings):
    """One deployment: the YAML that `--config` names."""

    lake: str = Field(description="root folder or URI of the lake")
    seed: int = Field(42, description="of every random choice, keyed by id")
    spark: SparkSettings = SparkSettings()
    encoder: EncoderConfig
    preprocess: PreprocessConfig
    factorize: FactorizeConfig = FactorizeConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    embed: EmbedConfig = EmbedConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    publish: PublishConfig = PublishConfig()


def stage_name(stage: ModuleType) -> str:
    """The name a stage has on the command line: its module's."""
    return stage.__name__.rpartition(".")[2]


STAGES = {stage_name(stage): stage for stage in PIPELINE}
