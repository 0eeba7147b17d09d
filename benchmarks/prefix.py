"""How much faster an epoch of fine-tuning is with the frozen layers' states kept than without: `make bench-prefix`.

MovieLens-100K and MiniLM as in the demo, one item in ten held out, one rank. Both sides are the same code and settings but
for `prefix_gib`; both keep the losses' forms. An epoch is what the training log calls one: every training step, then the
held-out loss. After two epochs to warm up, in which what is kept is made, the sides take turns.
"""

import datetime
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from harness import STARTED_AT

from recspark import config as configuration
from recspark import session
from recspark.lake import Lake, local_folder
from recspark.models.adaptation import Adaptation, LastLayers, Lora
from recspark.models.encoder import pad
from recspark.models.retriever import Factors
from recspark.pipeline import Deployment
from recspark.runner import run_stage
from recspark.stages.finetune import training_examples
from recspark.tables import TRAINING_EXAMPLES
from recspark.training import loop
from recspark.training.item_lesson import ItemLesson
from recspark.training.launcher import LocalRanks
from recspark.training.learner import Learner, Losses, TrainingJob, make_learner
from recspark.training.reader import Shard
from recspark.training.status import Reporter

TURNS = 5
WARM_UP = 2
GOAL = 2.0
SAME = 1e-5  # what a coordinate of a vector may differ by
ADAPTATIONS: dict[str, Adaptation] = {
    "lora on query and value": Lora(layers=2, targets=("query", "value")),
    "lora on all attention": Lora(layers=2),
    "last_layers": LastLayers(layers=2),
}
RESULT = Path(__file__).parent / "results" / "prefix.json"


@dataclass
class Side:
    """A training with or without the states kept. seconds, cpu: of each turn."""

    job: TrainingJob
    learner: Learner
    losses_of: Losses
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def epoch(self, number: int, shard: Shard, reporter: Reporter) -> None:
        began, cpu, ranks = time.perf_counter(), time.process_time(), LocalRanks()
        loop.train_epoch(self.job, self.learner, self.learner.model, self.losses_of, shard, ranks, reporter, number)
        loop.evaluate(self.job, self.learner, self.losses_of, shard, ranks, reporter)
        if number > WARM_UP:
            self.seconds.append(time.perf_counter() - began)
            self.cpu.append(time.process_time() - cpu)

    @torch.no_grad()
    def vectors(self, shard: Shard) -> np.ndarray:
        """Of every training item, by the plain model."""
        steps = shard.in_order("train", np.arange(shard.steps("train")))
        return np.concatenate([self.learner.model(*pad(step.arrays["tokens"])).numpy() for step in steps])


def make_tables(folder: str) -> TrainingJob:
    """The training table and the model `factors` of the demo's data, by the stages before finetune."""
    overrides = [f"lake={folder}/lake", "finetune.validation_fraction=0.1", "finetune.num_processes=1"]
    config = configuration.load("conf/demo.yaml", Deployment, [*overrides, "finetune.launcher=local"])
    lake, spark = Lake(config.lake, datetime.date(2000, 1, 1)), session.build(config.spark)
    for name in ("preprocess", "factorize"):
        run_stage(spark, lake, config, name, name)
    factors, _ = lake.read_model("factors")
    lake.write(training_examples(spark, lake, config, Factors.load(local_folder(factors))), TRAINING_EXAMPLES)
    session.stop(spark)
    settings = config.finetune.model_copy(update={"reader": "arrow", "epochs": WARM_UP + TURNS})
    lesson, examples = ItemLesson(settings, config.encoder, factors), lake.table_path(TRAINING_EXAMPLES)
    return TrainingJob(settings, lesson, examples, "", "", config.seed, settings.threads_per_process)


def compare(job: TrainingJob, adaptation: Adaptation, folder: str) -> tuple[Side, Side, float]:
    """(with, without, largest difference of a vector's coordinate after the training)."""
    shard = Shard(f"{job.examples}/shard=0", "arrow", job.lesson.columns)
    reporter, sides = Reporter(folder, 0), []
    for gib in (4.0, 0.0):
        settings = job.settings.model_copy(update={"adaptation": adaptation, "prefix_gib": gib})
        own = replace(job, settings=settings, lesson=replace(job.lesson, settings=settings))
        torch.manual_seed(job.seed)
        learner = make_learner(own, LocalRanks())
        sides.append(Side(own, learner, own.lesson.losses(learner.model, shard, learner.device, LocalRanks())))
    for number in range(1, WARM_UP + TURNS + 1):
        for side in sides if number % 2 else sides[::-1]:
            side.epoch(number, shard, reporter)
    kept, plain = sides
    return kept, plain, float(np.abs(kept.vectors(shard) - plain.vectors(shard)).max())


def line(what: str, kept: Side, plain: Side, apart: float) -> dict:
    """A row of the table and of the result."""
    ours, peer = statistics.median(kept.seconds), statistics.median(plain.seconds)
    cpu = statistics.median(plain.cpu) / statistics.median(kept.cpu)
    spreads = [f"{min(s):.2f} to {max(s):.2f}" for s in (kept.seconds, plain.seconds)]
    print(
        f"{what:26}{ours:8.2f} ({spreads[0]})  {peer:8.2f} ({spreads[1]}) {peer / ours:6.2f} {cpu:6.2f}   {apart:.1e}"
    )
    return {
        "what": f"seconds an epoch, states of the frozen layers kept; {what}, top two of MiniLM's six layers",
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "ratio": round(peer / ours, 3),
        "cpu_ratio": round(cpu, 3),
        "largest_difference": apart,
        "goal": GOAL,
        "reached": peer / ours >= GOAL,
    }


def main() -> None:
    with TemporaryDirectory() as folder:
        job = make_tables(folder)
        torch.set_num_threads(job.threads)
        print(f"\nseconds an epoch, median of {TURNS} turns (least to most), {job.threads} thread(s)")
        print(f"{'':26}{'kept':>8} {'':16}  {'without':>8} {'':16}  ratio cpu ratio  vectors differ by at most")
        lines = [line(name, *compare(job, adaptation, folder)) for name, adaptation in ADAPTATIONS.items()]
    if wrong := [told["what"] for told in lines if told["largest_difference"] > SAME]:
        raise SystemExit(f"the vectors differ by more than {SAME}, so nothing is kept: {'; '.join(wrong)}")
    machine = f"{platform.platform()}, {os.cpu_count()} cores, {job.threads} thread(s) used, torch {torch.__version__}"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"machine": machine, "commit": STARTED_AT, "lines": lines}, indent=2) + "\n")
    print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
