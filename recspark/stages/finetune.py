"""finetune: the text encoder learns to say what the factorization learnt, so that text alone places an item.

The loss is the factorization's own, with the user factors fixed; it needs of an item's users only sums, so an epoch reads
each item once, however many interactions there are. Spark writes the training table; each rank reads a shard of it.
"""

import hashlib
import json
import logging
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, model_validator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import Links, keep
from recspark.data.examples import item_targets, lay_out, sample_positives, with_factor_weights, with_loss_weight
from recspark.errors import UserError
from recspark.lake import Lake, local_folder
from recspark.models.adaptation import trainable
from recspark.models.retriever import Factors, save_retriever
from recspark.stages.base_encoder import base_encoder
from recspark.stages.provenance import (
    FACTORS,
    TOKENIZED_BY,
    require_one_factorization,
    require_same_tokens,
    tokenized_by,
)
from recspark.tables import INTERACTIONS, ITEM_FACTORS, ITEMS, TRAINING_EXAMPLES, TRAINING_LOG, USER_FACTORS
from recspark.training import checkpoint
from recspark.training.launcher import LaunchSettings, launch
from recspark.training.learner import TrainingJob, TrainingSettings, make_model
from recspark.training.loop import train_rank
from recspark.training.progress import ProgressBar

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items", "user_factors", "item_factors", "models/factors")
OUTPUTS = ("training_examples", "training_log", "models/retriever")

log = logging.getLogger("recspark")


class FinetuneConfig(TrainingSettings, LaunchSettings):
    """What is learned and by how many ranks."""

    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="items held out for early stopping, drawn by a hash of the id"
    )
    max_positives: int | None = Field(
        None, ge=1, description="users an item's sums are taken over, drawn by a hash; all if not set"
    )

    @model_validator(mode="after")
    def every_rank_has_a_share(self) -> "FinetuneConfig":
        if self.batch_size < 2 * self.num_processes or self.batch_size % self.num_processes:
            raise ValueError(
                f"batch_size {self.batch_size} should be a multiple of num_processes {self.num_processes}, twice or more"
            )
        if self.launcher == "local" and self.num_processes != 1:
            raise ValueError(f"launcher local runs one rank; num_processes is {self.num_processes}")
        return self


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, items, the factor tables and the model `factors`; write training_examples, training_log, `retriever`."""
    settings, base = config.finetune, base_encoder(lake, config.encoder)
    factors_path, factors_hash = lake.read_model("factors")
    tokens = tokenized_by(base)
    require_one_factorization(lake, "finetune")
    require_same_tokens(lake, "finetune", tokens, "the configuration")
    require_same_tokens(lake, "finetune", lake.model_manifest("factors").get(TOKENIZED_BY, {}), "the model factors")
    factors = Factors.load(local_folder(factors_path))
    examples = lake.write(training_examples(spark, lake, config, factors), TRAINING_EXAMPLES)
    fingerprint = fingerprint_of(settings, config.seed, tokens["encoder"], factors_hash, examples)
    job = TrainingJob(
        settings,
        base,
        factors_path,
        lake.table_path(TRAINING_EXAMPLES),
        lake.scratch(f"finetune/{fingerprint}"),
        lake.path(f"tensorboard/run_date={lake.run_date}"),
        config.seed,
        settings.threads_per_process,
    )
    train(spark, lake, job, settings)
    publish(spark, lake, job, factors, {TOKENIZED_BY: tokens, FACTORS: factors_hash})
    lake.clear_scratch("finetune")


def training_examples(spark: SparkSession, lake: Lake, config: "Deployment", factors: Factors) -> DataFrame:
    """The training table; `data.examples` says how it is laid out."""
    settings, items = config.finetune, lake.read(spark, ITEMS)
    pairs = solves.interaction_pairs(lake.read(spark, INTERACTIONS), solves.LEARNED)
    pairs = sample_positives(pairs, settings.max_positives, config.seed)
    links = Links(pairs, items.select("item_id"), config.factorize.blocks, lake.scratch("finetune/links"))
    users = lake.read(spark, USER_FACTORS)
    targets = item_targets(links, users, factors.settings.embedding_size)
    targets = with_factor_weights(targets, lake.read(spark, ITEM_FACTORS), users.count(), factors.settings)
    targets = with_loss_weight(keep(targets, lake.scratch("finetune/targets")), settings.objective.weight_exponent)
    if (count := targets.count()) < 2 * settings.num_processes:
        raise UserError(
            f"finetune: {count} items have training interactions, too few for {settings.num_processes} ranks"
        )
    met = items.join(targets, "item_id", "left_semi")
    layout = lay_out(met, settings.validation_fraction, settings.batch_size, settings.num_processes, config.seed)
    to_bytes = F.pandas_udf(lambda ids: ids.map(lambda row: np.asarray(row, "<i4").tobytes()), "binary")  # type: ignore[call-overload]
    rows = layout.join(items.select("item_id", to_bytes("token_ids").alias("tokens")), "item_id").join(
        targets, "item_id"
    )
    return rows.repartition(settings.num_processes, "shard").sortWithinPartitions("shard", "part", "batch", "slot")


def fingerprint_of(settings: FinetuneConfig, seed: int, base_hash: str, factors_hash: str, examples: DataFrame) -> str:
    """What a checkpoint must have been trained on to be gone on from: settings, models and every row of the table."""
    total = examples.select(F.sum(F.xxhash64(*examples.columns).cast("decimal(38,0)"))).first()
    content = [settings.model_dump_json(exclude={"prefix_gib"}), seed, base_hash, factors_hash, str(total and total[0])]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def train(spark: SparkSession, lake: Lake, job: TrainingJob, settings: FinetuneConfig) -> None:
    """Run the ranks, from the newest checkpoint on if a killed run left one."""
    parameters = trainable(make_model(job.base, Factors.load(local_folder(job.factors)), settings))
    log.info("  %s: %s parameters learn", settings.adaptation.kind, f"{sum(p.numel() for p in parameters.values()):,}")
    found = checkpoint.load_last(job.checkpoints)
    if found:
        log.info("  going on from the checkpoint of epoch %d", found[1]["epoch"])
    lake.clear_scratch("finetune/status")
    with ProgressBar(settings.launcher, settings.num_processes) as bar:
        launch(
            spark,
            settings,
            partial(train_rank, job),
            lake.scratch("finetune/status"),
            bar.show,
            lake.log_path("ranks.log"),
        )


def publish(spark: SparkSession, lake: Lake, job: TrainingJob, factors: Factors, about: dict[str, Any]) -> None:
    """The best epoch's parameters, merged into one model, and the log of the training."""
    found = checkpoint.load_last(job.checkpoints)
    if found is None:
        raise RuntimeError(f"the ranks ended without a checkpoint in {job.checkpoints}")
    tensors, facts = found
    model = make_model(job.base, factors, job.settings)
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(tensors[f"best.{name}"])
    job.settings.adaptation.merge(model.encoder)
    rows = [(r["epoch"], r["train_loss"], r["valid_loss"], r["examples"], r["seconds"]) for r in facts["log"]]
    schema = "epoch int, train_loss double, valid_loss double, examples bigint, seconds double"
    lake.write(spark.createDataFrame(rows, schema).coalesce(1), TRAINING_LOG)
    with TemporaryDirectory() as folder:
        save_retriever(model, job.base, factors.settings, folder)
        lake.write_model("retriever", folder, **about)
