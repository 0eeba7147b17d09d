"""The sides of benchmarks/train.py that are ours: `train_sides.py SIDE FOLDER`; `train_sides.py prepare FOLDER CONFIG whole|first|quick` makes what they learn from.

A request: told, the file that gets what was found, as JSON; empty for one that has only to stay awake. Told are `seconds` for as many
`examples`; of ranks also the seconds and losses of each epoch, the seconds from the launch to the first step, and the bytes that a step averages.

FOLDER has a lake with the factors, training examples laid out for one rank and for two, and pairs.parquet, (history, target) texts.
"""

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from serve import Keep, Work, serve

if TYPE_CHECKING:
    from recspark.training.launcher import Ranks
    from recspark.training.learner import TrainingJob

ROOT = Path(__file__).parent.parent
RANKS = 2
BATCH = 64  # pairs of a step of sentence-transformers' trainer
HISTORY = 5
TRAINER_STEPS = 4
QUICK_USERS, QUICK_LEAST = 60, 8  # users whose events are taken, and how many of them must have an item
DATE = datetime.date(2026, 1, 2)
EPOCHS = {"whole": 4, "first": 4, "quick": 1}
EXAMPLES = {1: "examples-1", 2: "examples-2"}  # by the number of ranks
SETTINGS = ["finetune.adaptation={kind: lora}", "finetune.reader=arrow", "finetune.validation_fraction=0"]


def prepare(folder: Path, config_path: str, size: str) -> None:
    """The stages before finetune, then the training tables."""
    from recspark import config, session
    from recspark.lake import Lake, local_folder
    from recspark.models.retriever import Factors
    from recspark.pipeline import Deployment
    from recspark.runner import run_stage
    from recspark.stages.finetune import training_examples
    from recspark.tables import TRAINING_EXAMPLES

    few = few_of(folder) if size == "quick" else []
    overrides = [f"lake={folder}/lake", f"finetune.epochs={EPOCHS[size]}", *few, *SETTINGS]
    settings = config.load(ROOT / config_path, Deployment, overrides)
    spark, lake = session.build(settings.spark), Lake(settings.lake, DATE)
    for name in ("preprocess", "factorize"):
        run_stage(spark, lake, settings, name, name)
    factors = Factors.load(local_folder(lake.read_model("factors")[0]))
    for ranks, path in EXAMPLES.items():
        launcher = ["finetune.launcher=local"] if ranks == 1 else []
        own = config.load(ROOT / config_path, Deployment, [*overrides, f"finetune.num_processes={ranks}", *launcher])
        rows = training_examples(spark, lake, own, factors)
        rows.write.partitionBy(*TRAINING_EXAMPLES.folders).parquet(str(folder / path))
    if size != "quick":
        write_pairs(spark, lake, folder / "pairs.parquet")
    session.stop(spark)
    (folder / "about.json").write_text(json.dumps({"config": config_path, "overrides": overrides, "size": size}))


def few_of(folder: Path) -> list[str]:
    """Overrides of the demo's configuration: what its first users rated, the items of that, and small factors."""
    import csv

    import pandas as pd

    raw = ROOT / ".data" / "ml-100k"
    rows = pd.read_csv(raw / "ml-100k.inter", sep="\t", dtype=str)
    rows = rows[rows["user_id:token"].astype(int) <= QUICK_USERS]
    rows = rows[rows.groupby("item_id:token")["item_id:token"].transform("size") >= QUICK_LEAST]
    rows.to_csv(folder / "few.inter", sep="\t", index=False)
    items = pd.read_csv(raw / "ml-100k.item", sep="\t", dtype=str, quoting=csv.QUOTE_NONE)
    items = items[items["item_id:token"].isin(rows["item_id:token"])]
    items.to_csv(folder / "few.item", sep="\t", index=False, quoting=csv.QUOTE_NONE)
    return [
        f"preprocess.interactions.path={folder}/few.inter",
        f"preprocess.items.path={folder}/few.item",
        "factorize.iterations=1",
        "factorize.embedding_size=16",
        "factorize.blocks=2",
        'spark.conf={spark.sql.shuffle.partitions: "2"}',
    ]


def write_pairs(spark: Any, lake: Any, path: Path) -> None:
    """(history, target): the texts of up to so many items that a user had before, newest first, and of the one that came next."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    from recspark.tables import INTERACTIONS, ITEMS

    texts = lake.read(spark, ITEMS).select("item_id", "text")
    events = lake.read(spark, INTERACTIONS).where("split = 'train'").join(texts, "item_id")
    by_user = Window.partitionBy("user_id").orderBy("order_key", "item_id")
    before = F.collect_list("text").over(by_user.rowsBetween(-HISTORY, -1))
    rows = events.select(
        "user_id", "item_id", F.array_join(F.reverse(before), ". ").alias("history"), F.col("text").alias("target")
    )
    drawn = (
        rows.where("history != ''")
        .orderBy(F.xxhash64("user_id", "item_id"), "user_id", "item_id")
        .limit(BATCH * TRAINER_STEPS)
    )
    drawn.select("history", "target").toPandas().to_parquet(path)


def about_of(folder: Path) -> dict[str, Any]:
    """What prepare was asked for."""
    return json.loads((folder / "about.json").read_text())


@contextmanager
def job_of(folder: Path, ranks: int) -> Iterator["TrainingJob"]:
    """The training of so many ranks, that goes on from nothing."""
    from recspark import config
    from recspark.lake import Lake
    from recspark.pipeline import Deployment
    from recspark.stages.base_encoder import base_encoder
    from recspark.training.item_lesson import ItemLesson
    from recspark.training.learner import TrainingJob

    about = about_of(folder)
    own = config.load(ROOT / about["config"], Deployment, about["overrides"])
    lake = Lake(own.lake, DATE)
    factors, _ = lake.read_model("factors")
    lesson, examples = ItemLesson(own.finetune, base_encoder(lake, own.encoder), factors), str(folder / EXAMPLES[ranks])
    threads = RANKS // ranks
    with TemporaryDirectory(dir=folder) as kept:
        until = 1 if about["size"] == "first" else None
        places = examples, f"{kept}/checkpoints", f"{kept}/curves"
        yield TrainingJob(own.finetune, lesson, *places, own.seed, threads, until)


def told_of(job: "TrainingJob") -> dict[str, Any]:
    """Of a training that has ended: its epochs, and the examples of one, which is the sum of the items' users."""
    import numpy as np
    import pyarrow.dataset as ds

    from recspark.training import checkpoint

    found = checkpoint.load_last(job.checkpoints)
    assert found is not None
    tensors, facts = found
    epochs = [row for row in facts["log"] if row["epoch"]]
    positives = ds.dataset(job.examples, partitioning=None).to_table(columns=["positives"])["positives"].to_numpy()
    learned = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("last."))
    return {
        "seconds": epochs[0]["seconds"],
        "examples": round(float(np.sum(positives, dtype=np.float64))),
        "epochs": [row["seconds"] for row in epochs],
        "losses": [row["train_loss"] for row in epochs],
        "bytes": 4 * learned,
    }


def launched(launcher: str, folder: Path) -> tuple[Work, Keep | None]:
    """Two ranks by Spark."""
    from recspark import session
    from recspark.session import SparkSettings
    from recspark.training.launcher import launch
    from recspark.training.launcher.settings import LaunchSettings
    from recspark.training.loop import train_rank

    spark = session.build(SparkSettings(master=f"local[{RANKS}]", conf={"spark.ui.showConsoleProgress": "false"}))
    settings = LaunchSettings(launcher=launcher, num_processes=RANKS)

    def work(told: str) -> dict[str, Any] | None:
        if not told:
            spark.range(10).count()
            return None
        first: list[float] = []

        def watch(statuses: dict[int, Any]) -> None:
            if not first and any(status.step for status in statuses.values()):
                first.append(time.perf_counter())

        with job_of(folder, RANKS) as job, TemporaryDirectory(dir=folder) as said:
            began = time.perf_counter()
            launch(spark, settings, partial(train_rank, job), said, watch, f"{said}/ranks.log")
            return told_of(job) | {"first_step": first[0] - began if first else float("inf")}

    return work, keep


def apart(folder: Path) -> tuple[Work, Keep | None]:
    """Two processes with a rank's share each and a model of their own; an epoch is as long as that of the slower."""

    def work(told: str) -> dict[str, Any] | None:
        if not told:
            return None
        with job_of(folder, RANKS) as job:
            kept = Path(job.checkpoints).parent
            shares = [str(kept / f"rank-{rank}") for rank in range(RANKS)]
            for rank, place in enumerate(shares):  # for its process, the only shard
                Path(place, "examples").mkdir(parents=True)
                Path(place, "examples", "shard=0").symlink_to(Path(job.examples) / f"shard={rank}")
            processes = [
                subprocess.Popen([sys.executable, __file__, "share", str(folder), place], stdout=sys.stderr)
                for place in shares
            ]
            codes = [process.wait() for process in processes]
            if any(codes):
                raise RuntimeError("a rank failed; it has said why above")
            both = [told_of(placed(job, place)) for place in shares]
        return both[0] | {"epochs": [max(seconds) for seconds in zip(*(rank["epochs"] for rank in both), strict=True)]}

    return work, keep


def share(folder: Path, place: str) -> None:
    """One of the two that never speak."""
    from recspark.training.launcher import LocalRanks

    with job_of(folder, RANKS) as job:
        train(placed(job, place), LocalRanks())


def placed(job: "TrainingJob", place: str) -> "TrainingJob":
    """The same job, with all that it reads and writes in a folder of its own."""
    return replace(job, examples=f"{place}/examples", checkpoints=f"{place}/checkpoints", tensorboard=f"{place}/curves")


def one(folder: Path) -> tuple[Work, Keep | None]:
    """One rank of two threads."""
    from recspark.training.launcher import LocalRanks

    def work(told: str) -> dict[str, Any] | None:
        if not told:
            return None
        with job_of(folder, 1) as job:
            train(job, LocalRanks())
            return told_of(job)

    return work, keep


def train(job: "TrainingJob", ranks: "Ranks") -> None:
    from recspark.training.launcher.starters import guarded
    from recspark.training.loop import train_rank

    with TemporaryDirectory() as said:
        guarded(lambda: ranks, partial(train_rank, job), said, ranks.rank)


def keep(found: dict[str, Any] | None, told: str) -> None:
    if found is not None:
        Path(told).write_text(json.dumps(found))


if __name__ == "__main__":
    side, place = sys.argv[1], Path(sys.argv[2])
    others = {"apart": apart, "one": one}
    if side == "prepare":
        prepare(place, *sys.argv[3:])
    elif side == "share":
        share(place, sys.argv[3])
    elif side in others:
        serve(partial(others[side], place))
    else:
        serve(partial(launched, side, place))
