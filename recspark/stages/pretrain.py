"""pretrain: a language model learns the catalogue's language, from nothing or from where another left off.

It runs where the configuration has a section `pretrain`, and then only if the lake has no model of these settings yet, or the
last one has become too old: a language does not change overnight. The model is a transformers directory like any other,
which the other stages take where `encoder.path` is not set.
"""

import datetime
import hashlib
import json
import logging
import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator
from pyspark.sql import DataFrame, SparkSession

from recspark.data import raw
from recspark.data.blocks import keep
from recspark.data.corpus import Language, RawTexts, documents, pack, sampled
from recspark.data.examples import deal
from recspark.data.sources import file_errors, source_views
from recspark.errors import UserError
from recspark.lake import Lake, Traffic
from recspark.lake.folders import folder_hash
from recspark.models.encoder import EncoderConfig, load_tokenizer
from recspark.models.language import Continued, LanguageObjective, MaskedLm, Start
from recspark.models.model_folder import content_hash, model_folder
from recspark.models.pooling import FILE, Pooling, pooling_config, pooling_of
from recspark.models.vocabulary import OfModel, Vocabulary
from recspark.stages.training import RankedTraining, best_model, fingerprint_of, log_frame, make_job, train
from recspark.tables import PRETRAINING_BLOCKS, PRETRAINING_LOG
from recspark.training.language_lesson import LanguageLesson, tokenizer_in

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("raw/items",)
OUTPUTS = ("pretraining_blocks", "pretraining_log", "models/pretrained")

log = logging.getLogger("recspark")


class PretrainConfig(RankedTraining):
    """Which model learns what language, from which texts."""

    section: ClassVar[str] = "pretrain"

    start: Start
    objective: LanguageObjective = MaskedLm()
    vocabulary: Vocabulary = OfModel()
    corpus: RawTexts | None = Field(None, description="texts to learn from; if not set, those of preprocess.items")
    stop_words: Language | None = Field(None, description="leave out this language's commonest words")
    block_length: int = Field(128, ge=8, description="tokens of a block; texts are packed into blocks")
    held_out: float = Field(
        0.05, ge=0, lt=1, description="share of the texts, by hash, on which the perplexity is read"
    )
    learning_rate: float = Field(5e-4, gt=0, description="peak")
    batch_size: int = Field(32, ge=1, description="blocks of a step, over all ranks")
    refresh_days: int | None = Field(
        None, ge=0, description="a model older than this is made anew; if not set, only when these settings change"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "PretrainConfig":
        kind, both_ways = self.start.kind, self.objective.both_ways
        if (kind == "bert" and not both_ways) or (kind == "gpt2" and both_ways):
            raise ValueError(f"start {kind} does not learn by objective {self.objective.kind}")
        if isinstance(self.start, Continued) != isinstance(self.vocabulary, OfModel):
            if isinstance(self.start, Continued):
                raise ValueError(
                    "a model that is continued keeps its vocabulary: leave out pretrain.vocabulary, or start anew"
                )
            if self.vocabulary.path is None:  # type: ignore[union-attr]
                raise ValueError("a new model needs a vocabulary: wordpiece, bpe or unigram, or of_model with a path")
        if isinstance(self.start, Continued) and self.vocabulary.path is not None:  # type: ignore[union-attr]
            raise ValueError("a model that is continued keeps its vocabulary: leave out pretrain.vocabulary.path")
        if not isinstance(self.start, Continued) and self.block_length > self.start.positions:
            raise ValueError(f"block_length {self.block_length} is more than start.positions {self.start.positions}")
        return self


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read the raw texts; write pretraining_blocks, pretraining_log and the model `pretrained`, unless there is one that will do.

    Raises UserError for an empty corpus, or one too small for the ranks.
    """
    settings = config.pretrain
    if settings is None:
        raise UserError(
            "pretrain: the configuration has no section pretrain; write one, such as in conf/from_scratch.yaml"
        )
    recipe = recipe_of(config, settings)
    if date := date_that_will_do(lake, settings.refresh_days, recipe):
        log.info("  the model pretrained of %s was made with these settings and stays", date)
        return
    pooling = pooling_to_keep(settings.start, config.encoder)
    with ExitStack() as stack, file_errors("pretrain"):
        texts = read_texts(spark, config).persist()
        stack.callback(texts.unpersist)
        if not (count := texts.count()):
            raise UserError(
                "pretrain: the corpus is empty: no text is left after cleaning; look at pretrain.corpus and pretrain.stop_words"
            )
        lake.traffic.append(
            Traffic("read", "raw/texts", count, "pretrain.corpus" if settings.corpus else "preprocess.items")
        )
        tokenizer = write_tokenizer(lake, settings, texts)
        lake.write(
            block_table(texts, tokenizer, settings, config.seed, lake.scratch("pretrain/blocks")), PRETRAINING_BLOCKS
        )
    lesson = LanguageLesson(
        found_everywhere(settings.start),
        settings.objective,
        tokenizer,
        settings.block_length,
        settings.dropout,
        settings.learning_rate,
        config.seed,
    )
    fingerprint = fingerprint_of(lake, settings, [PRETRAINING_BLOCKS], recipe)
    job = make_job(lake, "pretrain", settings, lesson, PRETRAINING_BLOCKS, config.seed, fingerprint)
    train(spark, lake, "pretrain", job, settings, f"{settings.start.kind}, {settings.objective.kind}")
    model, rows = best_model(job)
    publish(spark, lake, model, rows, tokenizer, recipe, pooling)
    lake.clear_scratch("pretrain")


def pooling_to_keep(start: Start, encoder: EncoderConfig) -> Pooling | None:
    """Of a model that is continued, as `encoder.pooling` or its folder says; None of a new one.

    Raises UserError, before anything is trained, if neither says one that there is.
    """
    return (
        (encoder.pooling or pooling_of(model_folder(start.path, "pretrain.start.path")))
        if isinstance(start, Continued)
        else None
    )


def found_everywhere(start: Start) -> Start:
    """The start with a path that holds in every process."""
    if isinstance(start, Continued) and Path(start.path).is_dir():
        return start.model_copy(update={"path": str(Path(start.path).absolute())})
    return start


def recipe_of(config: "Deployment", settings: PretrainConfig) -> str:
    """Hash of what decides the model beside the texts."""
    launch = {"reader", "launcher", "num_processes", "threads_per_process", "refresh_days"}
    launch |= {name for name in PretrainConfig.model_fields if name.endswith("_timeout")}
    parts = {"start": settings.start, "vocabulary": settings.vocabulary}
    paths = {f"pretrain.{name}.path": getattr(part, "path", None) for name, part in parts.items()}
    models = [content_hash(model_folder(path, setting)) for setting, path in paths.items() if path]
    texts = [source.model_dump_json() for source in config.preprocess.sources.values()]
    texts += [] if settings.corpus else [config.preprocess.items.model_dump_json()]
    content = [settings.model_dump_json(exclude=launch), config.seed, *models, *texts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def date_that_will_do(lake: Lake, refresh_days: int | None, recipe: str) -> datetime.date | None:
    """Date of the newest model pretrained, if it is of this recipe and not too old."""
    dates = [date for date in lake.model_dates("pretrained") if date <= lake.run_date]
    if not dates or lake.model_manifest("pretrained", dates[-1]).get("recipe") != recipe:
        return None
    return None if refresh_days is not None and (lake.run_date - dates[-1]).days >= refresh_days else dates[-1]


def read_texts(spark: SparkSession, config: "Deployment") -> DataFrame:
    """(hash, text, part): the corpus, cleaned."""
    settings, items = config.pretrain, config.preprocess.items
    assert settings is not None
    table = settings.corpus or items
    with source_views(spark, config.preprocess.sources):
        where = "pretrain.corpus" if settings.corpus else "preprocess.items"
        fields = raw.read_texts(spark, table, table.text_template, where)
    return documents(fields, table.text_template, settings.stop_words, settings.held_out)


def write_tokenizer(lake: Lake, settings: PretrainConfig, texts: DataFrame) -> str:
    """Where every process finds the tokenizer: learned from the texts, or of a model."""
    vocabulary = settings.vocabulary
    if isinstance(vocabulary, OfModel):
        path = vocabulary.path or settings.start.path  # type: ignore[union-attr]
        tokenizer = load_tokenizer(path, 1)
    else:
        tokenizer = vocabulary.learn(partial(sampled, texts, vocabulary.documents), settings.objective.both_ways)
    if settings.objective.both_ways and tokenizer.mask_token_id is None:
        raise UserError("pretrain: the tokenizer has no mask token, which masked_lm needs; use objective causal_lm")
    with TemporaryDirectory() as local:
        tokenizer.save_pretrained(local)
        # Named by its content: a process, or a machine's copy, that knows an earlier one must not take it for this.
        folder = lake.scratch(f"pretrain/tokenizer-{folder_hash(Path(local))[:16]}")
        lake.put_folder(local, folder)
    return folder


def block_table(texts: DataFrame, tokenizer: str, settings: PretrainConfig, seed: int, scratch: str) -> DataFrame:
    """The training table: blocks, dealt out in steps over the ranks.

    Raises UserError if there are fewer blocks than every rank needs. Held-out blocks too few for the ranks are left out.
    """
    blocks = keep(pack(texts, partial(tokenizer_in, tokenizer), settings.block_length), scratch)
    counts = {row["part"]: row["count"] for row in blocks.groupBy("part").count().collect()}
    ranks, train_blocks = settings.num_processes, counts.get("train", 0)
    if train_blocks < ranks:
        raise UserError(
            f"pretrain: the corpus makes {train_blocks} blocks of {settings.block_length} tokens to learn from, too few for {ranks} ranks; "
            "give it more text, or set pretrain.block_length or pretrain.num_processes lower"
        )
    if counts.get("valid", 0) < ranks:
        log.warning(
            "pretrain: %d blocks are held out, too few for a perplexity; give it more text, or set pretrain.held_out higher",
            counts.get("valid", 0),
        )
        blocks = blocks.where("part = 'train'")
    lengths = blocks.selectExpr("block", "length(tokens) AS length", "part")
    layout = deal(lengths, "block", settings.batch_size, ranks, seed)
    rows = layout.join(blocks.drop("part"), "block")
    return rows.repartition(ranks, "shard").sortWithinPartitions("shard", "part", "batch", "slot")


def publish(
    spark: SparkSession,
    lake: Lake,
    model: Any,
    rows: list[dict[str, Any]],
    tokenizer: str,
    recipe: str,
    pooling: Pooling | None,
) -> None:
    """The model of the best epoch with its tokenizer, how it is pooled if that is known, and the log of the training."""
    held_out = [row["valid_loss"] for row in rows if row["valid_loss"] is not None]
    about: dict[str, Any] = {"recipe": recipe}
    if held_out:
        about |= {"perplexity_before": math.exp(held_out[0]), "perplexity_after": math.exp(min(held_out))}
        log.info(
            "  perplexity on held-out text: %.1f before, %.1f after",
            *(about[f"perplexity_{w}"] for w in ("before", "after")),
        )
    lake.write(log_frame(spark, rows), PRETRAINING_LOG)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer_in(tokenizer).save_pretrained(folder)
        if pooling is not None:
            (Path(folder) / FILE).parent.mkdir()
            (Path(folder) / FILE).write_text(json.dumps(pooling_config(pooling, model.config.hidden_size)))
        lake.write_model("pretrained", folder, **about)
