"""The cross-encoder as a reranker: a language model reads each user's history beside each item. Used by rerank.

It learns like the fine-tuning, by ranks from a training table: a row a user, the item that was taken first, then some that were
not. Scoring is an Arrow function that sorts the pairs of many users by length and cuts them by a budget of tokens.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.blocks import keep
from recspark.data.examples import deal
from recspark.data.splits import uniform
from recspark.errors import UserError
from recspark.lake import local_folder
from recspark.lake.folders import folder_hash
from recspark.models.adaptation import LastLayers
from recspark.models.bottleneck import SETTINGS as ADAPTERS
from recspark.models.cross_encoder import PairAdaptation, PairFormat
from recspark.models.encoder import EncoderConfig, load_tokenizer, longest_text
from recspark.models.model_folder import model_folder
from recspark.models.prompted import prompt_of
from recspark.session import task_threads
from recspark.stages.base_encoder import base_encoder
from recspark.stages.lists import id_type
from recspark.stages.provenance import require_same_tokens, tokenized_by
from recspark.stages.reranking import Scorer, World, over_questions, questions_of
from recspark.stages.training import RankedTraining, best_model, fingerprint_of, log_frame, make_job, train
from recspark.tables import RERANKER_EXAMPLES, RERANKER_LOG
from recspark.training.rerank_lesson import Listwise, RerankLesson, RerankObjective

if TYPE_CHECKING:
    from recspark.models.cross_encoder import CrossEncoder
    from recspark.retrieval.features import Question
    from recspark.stages.rerank_night import Night


class CrossEncoderReranker(RankedTraining):
    """A language model over (history as text, item text)."""

    section: ClassVar[str] = "rerank.model"

    kind: Literal["cross_encoder"] = "cross_encoder"
    depth: int = Field(20, ge=2, description="of each list, the items that are reranked")
    max_users: int = Field(20000, ge=1, description="users it learns from, drawn by a hash of the id")
    layers: int | None = Field(None, ge=1, description="of the encoder, the lowest; all if not set")
    adaptation: PairAdaptation = LastLayers()
    objective: RerankObjective = Listwise()
    negatives: int = Field(7, ge=1, description="items not taken beside the one that was, drawn from the list")
    history_tokens: int = Field(64, ge=1, description="tokens of the history at most, the newest event first")
    event_tokens: int = Field(16, ge=1, description="tokens of one event's item at most")
    item_tokens: int = Field(48, ge=1, description="tokens of the item at most")
    head_learning_rate: float = Field(1e-3, gt=0, description="peak, of the head; the encoder's is the adaptation's")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="users held out for early stopping, by hash")
    epochs: int = Field(2, ge=1, description="at most")
    batch_size: int = Field(16, ge=1, description="users of a step, over all ranks")

    @model_validator(mode="after")
    def _has_the_layers_that_learn(self) -> Self:
        learn = getattr(self.adaptation, "layers", None)
        if self.layers is not None and learn is not None and learn > self.layers:
            raise ValueError(
                f"adaptation.layers is {learn}, more than the {self.layers} of layers: lower the former, or raise the latter"
            )
        return self

    def learn(self, night: "Night", lessons: DataFrame, world: World) -> "LearnedPairs":
        """The model, from rows that `ask` made with `target`, the position of the item that was taken.

        Writes reranker_examples and reranker_log. Raises UserError if too few lists have their target, or a pair is too long.
        """
        lake, seed, base = night.lake, night.config.seed, base_encoder(night.lake, night.config.encoder)
        tokens = tokenized_by(base)
        require_same_tokens(lake, "rerank", tokens, "the configuration")
        reader = PairReader(self, PairFormat.of(load_tokenizer(base.path, 1, base.trust_remote_code)))
        self.require_room(base, reader.form)
        lake.write(self.examples(lessons, world, reader, seed, night.scratch("pairs")), RERANKER_EXAMPLES)
        lesson = RerankLesson(base, self.layers, self.adaptation, self.objective, self.head_learning_rate, self.dropout)
        fingerprint = fingerprint_of(lake, self, [RERANKER_EXAMPLES], seed, tokens["encoder"])
        job = make_job(lake, "reranker", self, lesson, RERANKER_EXAMPLES, seed, fingerprint)
        train(night.spark, lake, "reranker", job, self, f"cross-encoder, {self.adaptation.kind}, {self.objective.kind}")
        model, log = best_model(job)
        self.adaptation.merge(model.encoder)  # type: ignore[arg-type]
        lake.write(log_frame(night.spark, log), RERANKER_LOG)
        return LearnedPairs(model, base, reader, task_threads(night.spark), night)

    def require_room(self, base: EncoderConfig, form: PairFormat) -> None:
        """UserError if a pair can be longer than the encoder reads, or the encoder has what a cross-encoder would not keep."""
        folder = model_folder(base.path)
        if prompt_of(folder) or (folder / ADAPTERS).is_file():
            raise UserError(
                f"rerank.model: the encoder {base.path} has a prompt or adapters beside its backbone, which a cross-encoder does not keep; "
                "set encoder.path to a plain model, such as the one that it was made from, or take rerank.model.kind features"
            )
        limit, longest = longest_text(folder), self.history_tokens + self.item_tokens + form.marks
        if limit and longest > limit:
            raise UserError(
                f"rerank.model: history_tokens {self.history_tokens}, item_tokens {self.item_tokens} and {form.marks} marks are {longest} "
                f"tokens, but the encoder reads at most {limit}; set them lower"
            )

    def examples(self, lessons: DataFrame, world: World, reader: "PairReader", seed: int, scratch: str) -> DataFrame:
        """The training table; `data.examples.deal` says how it is laid out."""
        schema = f"user_id {id_type(lessons)}, tokens binary, lengths binary"
        pairs = over_questions(lessons, lambda rows: reader.lessons(rows, world, seed), schema)
        held_out = uniform(seed, "reranker", "user_id") < self.validation_fraction
        found = keep(pairs.withColumn("part", F.when(held_out, "valid").otherwise("train")), scratch)
        counts = {row["part"]: row["count"] for row in found.groupBy("part").count().collect()}
        if counts.get("train", 0) < self.num_processes:
            raise UserError(
                f"rerank: {counts.get('train', 0)} users have their last train event among what was retrieved from the events before, "
                f"too few for {self.num_processes} ranks; raise rerank.model.depth, or take rerank.model.kind features"
            )
        if counts.get("valid", 0) < self.num_processes:
            found = found.where("part = 'train'")
        sized = found.select("user_id", F.length("tokens").alias("length"), "part")
        layout = deal(sized, "user_id", self.batch_size, self.num_processes, seed)
        rows = layout.join(found.drop("part"), "user_id")
        return rows.repartition(self.num_processes, "shard").sortWithinPartitions("shard", "part", "batch", "slot")


@dataclass(frozen=True)
class PairReader:
    """Makes the pairs of questions."""

    settings: CrossEncoderReranker
    form: PairFormat

    def pairs(self, question: "Question") -> list[np.ndarray]:
        """One an item of the list."""
        settings, tokens = self.settings, question.items.tokens_ML
        assert tokens is not None  # the stage has put them there for this model

        def bare(position: int) -> np.ndarray:
            row = tokens[position]
            return self.form.bare(row[row >= 0].astype(np.int32))

        texts = [bare(event) for event in question.history_H]
        history = self.form.history(texts, settings.event_tokens, settings.history_tokens)
        return [self.form.pair(history, bare(item)[: settings.item_tokens]) for item in question.positions_K]

    def lessons(self, rows: pa.Table, world: World, seed: int) -> pa.Table:
        """(user_id, tokens, lengths) of the lists that have their target: its pair, then those of the drawn others."""
        users, tokens, lengths = [], [], []
        questions = questions_of(rows, world, self.settings.depth)
        for row, (question, target) in enumerate(zip(questions, rows["target"].to_pylist(), strict=True)):
            place = np.flatnonzero(question.positions_K == target)
            if not len(place) or len(question.positions_K) < 2:
                continue
            draw = np.random.default_rng([seed, target, *question.history_H.tolist()])
            others = draw.permutation(np.delete(np.arange(len(question.positions_K)), place))[: self.settings.negatives]
            found = self.pairs(question)
            chosen = [found[n] for n in (place[0], *others)]
            users.append(row)
            tokens.append(np.concatenate(chosen).astype("<i4").tobytes())
            lengths.append(np.array([len(c) for c in chosen], "<i4").tobytes())
        taken = rows["user_id"].take(pa.array(users, pa.int64()))
        return pa.table(
            {"user_id": taken, "tokens": pa.array(tokens, pa.binary()), "lengths": pa.array(lengths, pa.binary())}
        )


@dataclass(frozen=True)
class LearnedPairs:
    """The trained model, and what it takes to score by it."""

    model: Any
    base: EncoderConfig
    reader: PairReader
    threads: int
    night: "Night"

    def save(self, folder: str | Path) -> None:
        from recspark.models.cross_encoder import save_cross_encoder

        save_cross_encoder(self.model, self.base, folder)

    def scorer(self) -> Scorer:
        """Scores by the model, which each worker loads once from the lake's scratch folder."""
        with TemporaryDirectory() as local:
            self.save(local)
            # Named by its content: a machine's copy of an earlier one must not be taken for it.
            folder = self.night.scratch(f"model-{folder_hash(Path(local))[:16]}")
            self.night.lake.put_folder(local, folder)
        reader, threads, budget = self.reader, self.threads, self.base.tokens_per_batch
        trusted = self.base.trust_remote_code

        def score(questions: "list[Question]") -> list[np.ndarray]:
            from recspark.retrieval.encode import scores_of

            pairs = [reader.pairs(q) for q in questions]
            found = scores_of(kept_model(folder, threads, trusted), [pair for own in pairs for pair in own], budget)
            return np.split(found, np.cumsum([len(own) for own in pairs])[:-1])

        return score


@lru_cache(maxsize=1)
def kept_model(folder: str, threads: int, trust_remote_code: bool) -> "CrossEncoder":
    """The model, loaded once per Python worker."""
    import torch

    from recspark.models.cross_encoder import load_cross_encoder

    torch.set_num_threads(threads)
    model = load_cross_encoder(local_folder(folder), trust_remote_code)
    return model.to("cuda") if torch.cuda.is_available() else model
