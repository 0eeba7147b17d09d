"""A training as stages run it: the ranks, from the newest checkpoint on if a killed run left one; then what they left behind."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import torch
from pydantic import model_validator
from pyspark.sql import DataFrame, SparkSession
from torch import nn

from recspark.lake import Lake
from recspark.models.adaptation import trainable
from recspark.tables import Table
from recspark.training import checkpoint
from recspark.training.launcher import LaunchSettings, launch
from recspark.training.learner import Lesson, TrainingJob, TrainingSettings
from recspark.training.loop import train_rank
from recspark.training.progress import ProgressBar
from recspark.training.status import Status

OnEpoch = Callable[[int, float], None]  # (epoch, its held-out loss)

log = logging.getLogger("recspark")


class RankedTraining(TrainingSettings, LaunchSettings):
    """How a training goes, and by how many ranks."""

    @model_validator(mode="after")
    def every_rank_has_a_share(self) -> Self:
        if self.batch_size < 2 * self.num_processes or self.batch_size % self.num_processes:
            raise ValueError(
                f"batch_size {self.batch_size} should be a multiple of num_processes {self.num_processes}, twice or more"
            )
        if self.launcher == "local" and self.num_processes != 1:
            raise ValueError(f"launcher local runs one rank; num_processes is {self.num_processes}")
        return self


def make_job(
    lake: Lake,
    stage: str,
    settings: RankedTraining,
    lesson: Lesson,
    table: Table,
    seed: int,
    fingerprint: str,
    until: int | None = None,
) -> TrainingJob:
    """What the ranks are told. Checkpoints are kept under the fingerprint. until: the epoch to stop at, where it is known."""
    return TrainingJob(
        settings,
        lesson,
        lake.table_path(table),
        lake.scratch(f"{stage}/{fingerprint}"),
        lake.path(f"tensorboard/{stage}/run_date={lake.run_date}"),
        seed,
        settings.threads_per_process,
        until,
    )


# Of the settings, those that decide how long something is waited for or kept, and not what is learned.
HOW_NOT_WHAT = {
    *("prefix_gib", "forms_gib", "launcher", "reader", "threads_per_process"),
    *(name for name in LaunchSettings.model_fields if name.endswith("_timeout")),
}


def fingerprint_of(lake: Lake, settings: TrainingSettings, tables: Sequence[Table], *more: Any) -> str:
    """What a checkpoint must have been trained on to be gone on from: settings, every row of the tables, and more (models, seed)."""
    rows = [lake.manifest(table)["fingerprint"] for table in tables]
    content = [settings.model_dump_json(exclude=HOW_NOT_WHAT), *rows, *more]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def train(
    spark: SparkSession,
    lake: Lake,
    stage: str,
    job: TrainingJob,
    settings: LaunchSettings,
    what: str,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Run the ranks to the end. what: says in the log what is trained how. on_epoch: see `Epochs`."""
    count = count_parameters(job.lesson.make_model())
    log.info("  %s: %s of %s parameters learn", what, f"{count['learned']:,}", f"{count['all']:,}")
    found = checkpoint.load_last(job.checkpoints)
    if found:
        log.info("  going on from the checkpoint of epoch %d", found[1]["epoch"])
    lake.clear_scratch(f"{stage}/status")
    status = lake.scratch(f"{stage}/status")
    epochs = Epochs(on_epoch)
    with ProgressBar(settings.launcher, settings.num_processes) as bar:

        def watch(statuses: dict[int, Status]) -> None:
            bar.show(statuses)
            epochs.show(statuses)

        launch(spark, settings, partial(train_rank, job), status, watch, lake.log_path(f"ranks-{stage}.log"))


class Epochs:
    """Tells `on_epoch` of every epoch's held-out loss, once, as rank 0 tells it; what `on_epoch` raises ends the ranks."""

    def __init__(self, on_epoch: OnEpoch | None):
        self.on_epoch, self.told = on_epoch, 0

    def show(self, statuses: dict[int, Status]) -> None:
        if self.on_epoch is None or 0 not in statuses:
            return
        for epoch, loss in list(enumerate(statuses[0].held_out))[self.told :]:
            self.told = epoch + 1
            if loss is not None:
                self.on_epoch(epoch, loss)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """How many the model has, and how many of them learn."""
    return {
        "all": sum(p.numel() for p in model.parameters()),
        "learned": sum(p.numel() for p in trainable(model).values()),
    }


def best_model(job: TrainingJob) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The lesson's model with the best epoch's parameters, and the log: a row an epoch."""
    found = checkpoint.load_last(job.checkpoints)
    if found is None:
        raise RuntimeError(f"the ranks ended without a checkpoint in {job.checkpoints}")
    tensors, facts = found
    model = job.lesson.make_model()
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(tensors[f"best.{name}"])
    return model, facts["log"]


def log_frame(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    """The log as the tables training_log and pretraining_log have it."""
    values = [(r["epoch"], r["train_loss"], r["valid_loss"], r["examples"], r["seconds"]) for r in rows]
    schema = "epoch int, train_loss double, valid_loss double, examples bigint, seconds double"
    return spark.createDataFrame(values, schema).coalesce(1)
