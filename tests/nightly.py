"""Whole nights as a user runs them: in processes of their own, on a lake of their own."""

import csv
import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pyspark
import pytest
import yaml
from filelock import FileLock

from recspark import pipeline
from recspark.lake import Lake
from recspark.tables import TABLES
from tests import jvm

REPOSITORY = Path(__file__).parent.parent
MOVIELENS, MINILM = REPOSITORY / ".data" / "ml-100k", REPOSITORY / ".data" / "minilm"
DATE = "2026-01-02"
SECTIONS = pipeline.Deployment.model_fields
STAGES = tuple(
    name for name in pipeline.NIGHT if SECTIONS[name].default is not None
)  # without those that a section asks for


def sample_movielens(folder: Path, users: int = 120, least: int = 8) -> None:
    """The first users of MovieLens-100K and the items that at least `least` of them rated, in the original files' form."""
    inter = pd.read_csv(MOVIELENS / "ml-100k.inter", sep="\t", dtype=str)
    inter = inter[inter["user_id:token"].astype(int) <= users]
    inter = inter[inter.groupby("item_id:token")["item_id:token"].transform("size") >= least]
    items = pd.read_csv(MOVIELENS / "ml-100k.item", sep="\t", dtype=str, quoting=csv.QUOTE_NONE)
    inter.to_csv(folder / "ml-100k.inter", sep="\t", index=False)
    items[items["item_id:token"].isin(inter["item_id:token"])].to_csv(
        folder / "ml-100k.item", sep="\t", index=False, quoting=csv.QUOTE_NONE
    )


def small_night(raw: Path, lake: Path, encoder: Path, **changes: Any) -> dict[str, Any]:
    """The demo's configuration, over a sample and with everything small. changes: values by dotted key."""
    settings = yaml.safe_load((REPOSITORY / "conf" / "demo.yaml").read_text())
    settings["lake"], settings["encoder"] = str(lake), {"path": str(encoder), "max_length": 16}
    settings["spark"] = {
        "master": "local[2]",
        "driver_memory": "1g",
        "conf": {"spark.sql.shuffle.partitions": "2"},
    }
    for name, file in (("interactions", "ml-100k.inter"), ("items", "ml-100k.item")):
        settings["preprocess"][name]["path"] = str(raw / file)
    del settings["preprocess"]["users"]
    settings["factorize"] = {"embedding_size": 16, "iterations": 3, "blocks": 2}
    settings["finetune"] = {
        "adaptation": {"kind": "last_layers", "layers": 1},
        "epochs": 2,
        "batch_size": 64,
        "warmup_steps": 2,
        "num_processes": 2,
    }
    settings["embed"] = {"blocks": 2}
    settings["candidates"] = {"top_k": 20}
    few = [{"kind": "popularity"}]
    settings["evaluate"] = {"ks": [5, 10], "replicates": 100, "slices": False, "new_users": [], "baselines": few}
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = settings
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return settings


def write_config(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


SECRET_NAME, SECRET = "RECSPARK_PLANTED_SECRET", "hunter2-of-the-planted-kind"


def environment() -> dict[str, str]:
    own = {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", SECRET_NAME: SECRET}
    return {"JDK_JAVA_OPTIONS": jvm.OPTIONS, **os.environ, **own}


def recspark_command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from recspark.cli import main; main()", *arguments]


def recspark(*arguments: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
    """`recspark …` as a process."""
    return subprocess.run(
        recspark_command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment(), check=False
    )


def spark_submit(stage: str, *arguments: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
    """`spark-submit jobs/<stage>.py …` as a process, with the repository's spark-defaults."""
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    command = [str(submit), "--properties-file", "conf/spark-defaults.conf", f"jobs/{stage}.py", *arguments]
    env = {**environment(), "PYSPARK_PYTHON": sys.executable}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=env, cwd=REPOSITORY, check=False
    )


def read(lake: Path, table: str, date: str = DATE) -> pd.DataFrame:
    """A table of the lake, by pyarrow, in an order of its own."""
    folder = Lake(str(lake), datetime.date.fromisoformat(date)).table_path(TABLES[table])
    frame = ds.dataset(folder, format="parquet", partitioning="hive").to_table().to_pandas()
    keys = [
        c
        for c in (
            "model",
            "other",
            "slice",
            "metric",
            "check",
            "k",
            "user_id",
            "item_id",
            "rank",
            "text_hash",
            "epoch",
            "order_key",
        )
        if c in frame
    ]
    return frame.sort_values(keys).reset_index(drop=True) if keys else frame


def succeed(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same, or a failure that shows what it said."""
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


class Night:
    """A small one, of the demo's encoder and as users run it: Horovod on two ranks, Petastorm."""

    def __init__(self, folder: Path, raw: Path, compiled: bool = False, **changes: Any):
        """raw: the folder of the sample. compiled: Spark's expressions, as on a cluster; its tables are the same without, in less time.
        changes: values by dotted key."""
        self.raw, self.lake = raw, folder / "lake"
        settings = small_night(raw, self.lake, MINILM, **{"finetune.epochs": 3, "finetune.patience": 9} | changes)
        settings["spark"]["conf"] |= jvm.COMPILED if compiled else {}
        settings["spark"]["conf"]["spark.hadoop.fs.s3a.secret.key"] = f"${{{SECRET_NAME}}}"
        self.arguments = ("--config", str(write_config(folder / "night.yaml", settings)), "--run-date", DATE)


def whole_night(factory: pytest.TempPathFactory) -> tuple[Night, str]:
    """An undisturbed night and what it said: made once, by the first of pytest's workers that asks."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "whole-night"
    folder.mkdir(exist_ok=True)
    said = folder / "said"
    with FileLock(folder / "lock"):
        if not said.exists():
            sample_movielens(folder)
        night = Night(folder, folder, compiled=True)
        if not said.exists():
            said.write_text(succeed(recspark("run", *night.arguments)).stderr)
    return night, said.read_text()
