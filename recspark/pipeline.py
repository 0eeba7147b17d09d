"""The nightly pipeline, in order, the stages that run only when named, and the settings of a whole deployment.

A stage is a module with `INPUTS` and `OUTPUTS` (names of tables and models), its `Config`, and `run(spark, lake, config)`,
which reads inputs by name, computes, and writes outputs by name. `config` is the whole Deployment; a stage reads its own
section, `encoder` and `seed`. A stage whose section is not there (pretrain, sequence, combine, ratings, index, rerank) is left out.
"""

from collections.abc import Sequence
from types import ModuleType

from pydantic import Field, model_validator

from recspark import sections
from recspark.config import Seed, Settings
from recspark.models.encoder import EncoderConfig
from recspark.session import SparkSettings
from recspark.stages import (
    candidates,
    combine,
    embed,
    evaluate,
    factorize,
    finetune,
    index,
    preprocess,
    pretrain,
    publish,
    ratings,
    rerank,
    search,
    sequence,
    tune,
)
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.combine import CombineConfig
from recspark.stages.embed import EmbedConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.stages.factorize import FactorizeConfig
from recspark.stages.finetune import FinetuneConfig
from recspark.stages.index import IndexConfig
from recspark.stages.preprocess import PreprocessConfig
from recspark.stages.pretrain import PretrainConfig
from recspark.stages.publish import PublishConfig
from recspark.stages.ratings import RatingsConfig
from recspark.stages.rerank import RerankConfig
from recspark.stages.search import SearchConfig
from recspark.stages.sequence import SequenceConfig
from recspark.stages.tune import TuneConfig

PIPELINE: Sequence[ModuleType] = (
    pretrain,
    preprocess,
    factorize,
    finetune,
    embed,
    sequence,
    combine,
    ratings,
    index,
    candidates,
    rerank,
    evaluate,
    publish,
)
WHEN_NAMED: Sequence[ModuleType] = (search, tune)  # after the night's own, if --to, --from or a job says so
TRAINING: Sequence[ModuleType] = (pretrain, factorize, finetune)  # left out where embed takes a version that is there


class Deployment(Settings):
    """One deployment: the YAML that `--config` names."""

    lake: str = Field(description="root folder or URI of the lake")
    seed: Seed = Field(42, description="of every random choice, keyed by id")
    spark: SparkSettings = SparkSettings()
    encoder: EncoderConfig = EncoderConfig()
    pretrain: PretrainConfig | None = Field(None, description="left out: the encoder is one that is there")
    preprocess: PreprocessConfig
    factorize: FactorizeConfig = FactorizeConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    embed: EmbedConfig = EmbedConfig()
    sequence: SequenceConfig | None = Field(None, description="left out: no model of what comes after what")
    combine: CombineConfig | None = Field(None, description="left out: the lists are made of embed's vectors")
    ratings: RatingsConfig | None = Field(None, description="left out: no ratings are predicted")
    index: IndexConfig | None = Field(None, description="left out: the lists are exact")
    candidates: CandidatesConfig = CandidatesConfig()
    rerank: RerankConfig | None = Field(None, description="left out: the retriever's order is published")
    evaluate: EvaluateConfig = EvaluateConfig()
    publish: PublishConfig = PublishConfig()
    search: SearchConfig = SearchConfig()
    tune: TuneConfig = TuneConfig()

    @model_validator(mode="after")
    def _sections_go_together(self) -> "Deployment":
        if faults := sections.faults_between(self):
            raise ValueError("\n".join(faults))
        return self


def stage_name(stage: ModuleType) -> str:
    """The name a stage has on the command line: its module's."""
    return stage.__name__.rpartition(".")[2]


STAGES = {stage_name(stage): stage for stage in (*PIPELINE, *WHEN_NAMED)}
NIGHT = tuple(map(stage_name, PIPELINE))
