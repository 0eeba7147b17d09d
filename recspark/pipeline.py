"""The nightly pipeline, in order, the stages that run only when named, and the settings of a whole deployment.

A stage is a module with `INPUTS` and `OUTPUTS` (names of tables and models), its `Config`, and `run(spark, lake, config)`,
which reads inputs by name, computes, and writes outputs by name. `config` is the whole Deployment; a stage reads its own
section, `encoder` and `seed`. A stage whose section is not there (pretrain, sequence, combine, ratings, index, rerank) is left out.
"""

from collections.abc import Sequence
from types import ModuleType

from pydantic import Field, model_validator

from recspark.config import Seed, Settings
from recspark.data.splits import Provided
from recspark.evaluation.baselines import Popularity
from recspark.lake import Switch
from recspark.models.encoder import PRETRAINED, EncoderConfig
from recspark.models.language import Continued
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
from recspark.stages.trials import SEARCHED
from recspark.stages.tune import TuneConfig
from recspark.tuning.space import check_space

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
    lake_switch: Switch | None = Field(
        None,
        description="how a table takes its place: rename, of its folder; pointer, its manifest that leads to the folder. Left out: rename on local "
        "disks and HDFS, pointer on object stores",
    )
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
    def _has_an_encoder(self) -> "Deployment":
        if self.encoder.path == PRETRAINED and self.pretrain is None:
            raise ValueError(
                "encoder.path is required: a transformers model directory; or a section pretrain, which makes one"
            )
        if self.encoder.path != PRETRAINED and self.pretrain is not None:
            raise ValueError(
                "encoder.path is set, so nothing would read the model that pretrain makes: leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _new_model_reads_whole_texts(self) -> "Deployment":
        if self.pretrain is None or isinstance(self.pretrain.start, Continued):
            return self
        if (longest := self.encoder.max_length) > (positions := self.pretrain.start.positions):
            raise ValueError(
                f"encoder.max_length is {longest}, more than the {positions} of pretrain.start.positions: raise these, or lower it"
            )
        return self

    @model_validator(mode="after")
    def _has_what_ratings_learns_from(self) -> "Deployment":
        if self.ratings is None:
            return self
        if self.preprocess.interactions.columns.rating is None:
            raise ValueError(
                "ratings needs preprocess.interactions.columns.rating, the raw column of ratings; or leave out the section ratings"
            )
        there = self.preprocess.users.attributes if self.preprocess.users else {}
        missing = [name for name in self.ratings.user_features if name not in there]
        if missing:
            raise ValueError(
                f"ratings.user_features names {', '.join(missing)}, which preprocess.users.attributes does not; it has {sorted(there)}"
            )
        return self

    @model_validator(mode="after")
    def _reranks_lists_that_it_can_make_again(self) -> "Deployment":
        if self.combine and self.rerank:
            raise ValueError(
                "rerank learns from lists that it makes anew without the last events, and it cannot make those of combine: "
                "leave out one of the two sections"
            )
        return self

    @model_validator(mode="after")
    def _index_is_of_short_vectors(self) -> "Deployment":
        if self.index and self.combine:
            raise ValueError(
                "index: the vectors that combine makes are longer than the catalogue, which is small enough for exact lists then; "
                "leave out one of the two sections"
            )
        return self

    @model_validator(mode="after")
    def _has_what_a_sequence_model_goes_by(self) -> "Deployment":
        if self.sequence is None:
            return self
        if self.combine is None:
            raise ValueError(
                "sequence: the lists would not know of it without combine; write combine: {}, or leave it out"
            )
        columns = self.preprocess.interactions.columns
        if not (columns.timestamp or columns.order):
            raise ValueError(
                "sequence learns what comes after what, and needs preprocess.interactions.columns.timestamp or .order; "
                "name one, or leave out the section sequence"
            )
        return self

    @model_validator(mode="after")
    def _has_the_times_that_popularity_goes_by(self) -> "Deployment":
        aging = any(isinstance(b, Popularity) and b.half_life_days for b in self.evaluate.baselines)
        if aging and self.preprocess.interactions.columns.timestamp is None:
            raise ValueError(
                "evaluate.baselines: popularity.half_life_days needs preprocess.interactions.columns.timestamp, the raw column of times; "
                "or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _validation_can_be_drawn(self) -> "Deployment":
        split, columns = self.tune.validation, self.preprocess.interactions.columns
        if isinstance(split, Provided):
            raise ValueError("tune.validation is drawn from train rows, where a column cannot tell; use another kind")
        if split and split.needs_order and not (columns.timestamp or columns.order):
            raise ValueError(
                f"tune.validation {split.kind} needs preprocess.interactions.columns.timestamp or .order; name one, or use kind random"
            )
        return self

    @model_validator(mode="after")
    def _space_is_of_these_settings(self) -> "Deployment":
        if self.tune.space:
            check_space(self.tune.space, type(self), {**self.model_dump(mode="json"), "tune": {}}, SEARCHED)
        if mined := [path for path in self.tune.space if path.startswith("finetune.pairs.hard_")]:
            raise ValueError(
                f"tune.space: {', '.join(mined)} cannot be searched: hard negatives come from the lists of an earlier date, which no trial has"
            )
        if self.tune.space and self.tune.metric.k > self.candidates.top_k:
            raise ValueError(
                f"tune.metric.k is {self.tune.metric.k}, but candidates.top_k is {self.candidates.top_k}; lower the one or raise the other"
            )
        return self


def stage_name(stage: ModuleType) -> str:
    """The name a stage has on the command line: its module's."""
    return stage.__name__.rpartition(".")[2]


STAGES = {stage_name(stage): stage for stage in (*PIPELINE, *WHEN_NAMED)}
NIGHT = tuple(map(stage_name, PIPELINE))
