"""finetune under the objectives by pair, whole: the tables, the ranks, and a head in the factorization's space."""

import json
import logging
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from recspark.config import ConfigError
from recspark.errors import UserError
from recspark.models.retriever import load_retriever
from recspark.retrieval.encode import encode
from recspark.stages import finetune
from recspark.stages.pair_training import write_pair_tables
from recspark.tables import ITEM_FACTORS, ITEMS, PAIR_EXAMPLES, PAIR_ITEMS, PAIR_USERS, TRAINING_LOG
from recspark.training import checkpoint, loop
from recspark.training.launcher import LocalRanks
from recspark.training.launcher.ranks import TorchRanks
from recspark.training.learner import TrainingJob
from recspark.training.loop import train_rank
from recspark.training.pair_lesson import PairLesson
from recspark.training.status import Reporter
from tests.finetune_world import ITEMS_THERE, USERS_THERE, FinetuneWorld, K, liked

pytestmark = pytest.mark.slow  # all of them together; begun early

EVERYTHING = {
    "kind": "mixed",
    "parts": [
        {"objective": {"kind": "info_nce", "learn_temperature": True, "random_negatives": 1}},
        {"objective": {"kind": "full_softmax"}, "weight": 0.5},
        {"objective": {"kind": "bpr"}, "weight": 0.5},
        {"objective": {"kind": "mse"}, "weight": 0.1},
    ],
}
PAIRS = {"history_size": 4, "hard_negatives": 1, "hard_ranks": [3, 6], "max_examples_per_user": 4}


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> FinetuneWorld:
    """All at once, by two ranks of Horovod that read through Petastorm."""
    made = FinetuneWorld(spark, tmp_path_factory.mktemp("pairs"), tiny_encoder)
    made.give_candidates()
    ranks = {"launcher": "horovod", "num_processes": 2, "reader": "petastorm"}
    finetune.run(spark, made.lake, made.config(objective=EVERYTHING, pairs=PAIRS, **ranks))
    return made


def curve(rows: list) -> np.ndarray:
    """(epochs, 2) losses of training and of the held-out examples, without the epoch before the first."""
    return np.array([(row["train_loss"], row["valid_loss"]) for row in rows][1:], float)


def write_one_shard(world: FinetuneWorld, folder: Path) -> None:
    """The examples of both ranks as one rank's."""
    (folder / "examples" / "shard=0").mkdir(parents=True)
    table = ds.dataset(world.lake.table_path(PAIR_EXAMPLES), format="parquet").to_table()
    pq.write_table(table, folder / "examples" / "shard=0" / "part.parquet")


def job_of(world: FinetuneWorld, folder: Path, **changes: object) -> TrainingJob:
    """The world's training once more, for the shards under a folder."""
    settings = world.config(objective=EVERYTHING, pairs=PAIRS, **changes).finetune
    factors, items = world.lake.model_of_date("factors").path, world.lake.table_path(PAIR_ITEMS)
    users = world.lake.table_path(PAIR_USERS)
    lesson = PairLesson(settings, settings.objective, settings.pairs, world.encoder, factors, items, users, 3)
    (folder / "status").mkdir()
    return TrainingJob(settings, lesson, str(folder / "examples"), str(folder / "kept"), str(folder / "board"), 3, 1)


def numbers(packed: bytes, kind: str = "<i4") -> list:
    return np.frombuffer(packed, kind).tolist()


def test_an_example_has_the_items_before_its_target_newest_first(spark: SparkSession, world: FinetuneWorld):
    rows = {tuple(json.loads(row.example)): row for row in world.lake.read(spark, PAIR_EXAMPLES).collect()}
    assert len(rows) == sum(min(4, len([i for _, i in rows if _ == f"u{u:02}"])) for u in range(USERS_THERE))
    users = {row.user: numbers(row.positives) for row in world.lake.read(spark, PAIR_USERS).collect()}
    for (user, item), row in rows.items():
        number = int(user[1:])
        met, target = liked(number), int(item[1:])
        assert row.target == target  # in this world an item's position is its number
        before = met[: met.index(target)][::-1][:4]
        assert before
        assert numbers(row.history) == before
        assert numbers(row.history_ratings, "<f4") == [1.0 + (number + i) % 5 for i in before]
        assert users[row.user] == met[::-1]
        assert numbers(row.mined) == [n for n in range(2, 6) if n not in met]  # ranks 3 to 6 of 0, 1, 2, …


def test_the_shares_of_the_items_are_those_of_the_targets(spark: SparkSession, world: FinetuneWorld):
    items = world.lake.read(spark, PAIR_ITEMS).orderBy("position").collect()
    targets = [row.target for row in world.lake.read(spark, PAIR_EXAMPLES).collect()]
    assert [row.position for row in items] == list(range(ITEMS_THERE))
    assert [row.share for row in items] == pytest.approx([targets.count(n) / len(targets) for n in range(ITEMS_THERE)])


def test_the_loss_falls(spark: SparkSession, world: FinetuneWorld):
    log = world.lake.read(spark, TRAINING_LOG).orderBy("epoch").collect()
    assert [row.epoch for row in log] == [0, 1, 2]
    assert log[2].train_loss < log[1].train_loss
    assert log[2].valid_loss < log[0].valid_loss


def test_the_head_is_the_ridge_of_the_item_factors_on_the_new_text_vectors(spark: SparkSession, world: FinetuneWorld):
    retriever = load_retriever(world.lake.model_of_date("retriever").path)
    items = world.lake.read(spark, ITEMS).orderBy("item_id").collect()
    vectors = encode(retriever.encoder, [np.array(row.token_ids, np.int32) for row in items], 512).astype(float)
    factors = world.lake.read(spark, ITEM_FACTORS).orderBy("item_id").collect()
    wanted = np.array([row.vector for row in factors], float)
    # All items were met by equally many users, so all weigh the same.
    assert {row.interactions for row in factors} == {9}
    centred = vectors - vectors.mean(0)
    slope = np.linalg.solve(centred.T @ centred + 5 * np.eye(16), centred.T @ (wanted - wanted.mean(0)))
    found = vectors @ retriever.head.weight.detach().numpy().T + retriever.head.bias.detach().numpy()
    np.testing.assert_allclose(found, centred @ slope + wanted.mean(0), atol=1e-4)
    assert found.shape == (ITEMS_THERE, K)


def test_one_rank_learns_what_two_of_horovod_learn(spark: SparkSession, world: FinetuneWorld, tmp_path: Path):
    write_one_shard(world, tmp_path)
    job = job_of(world, tmp_path, prefix_gib=0)  # so the texts are read without what is kept of the frozen layer, too
    train_rank(job, LocalRanks(), Reporter(str(tmp_path / "status"), 0))
    two = curve(world.lake.read(spark, TRAINING_LOG).orderBy("epoch").collect())
    np.testing.assert_allclose(curve(checkpoint.load_last(job.checkpoints)[1]["log"]), two, rtol=1e-3)


def test_a_killed_training_goes_on_to_the_same_end(
    world: FinetuneWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, logs = loop.train_epoch, []
    for name, kill in (("whole", False), ("broken", True)):
        folder = tmp_path / name
        write_one_shard(world, folder)
        job = job_of(world, folder)
        if kill:
            monkeypatch.setattr(loop, "train_epoch", lambda *a: real(*a) if a[-1] == 1 else 1 / 0)
            with pytest.raises(ZeroDivisionError):
                train_rank(job, LocalRanks(), Reporter(str(folder / "status"), 0))
            monkeypatch.setattr(loop, "train_epoch", real)
        train_rank(job, LocalRanks(), Reporter(str(folder / "status"), 0))
        logs.append(curve(checkpoint.load_last(job.checkpoints)[1]["log"]))
    np.testing.assert_array_equal(*logs)


def torch_rank(rank: int, job: TrainingJob, folder: str, port: int) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()})
    train_rank(job, TorchRanks(), Reporter(f"{folder}/status", rank))


def test_two_ranks_of_torch_learn_the_same(spark: SparkSession, world: FinetuneWorld, tmp_path: Path):
    (tmp_path / "examples").symlink_to(world.lake.table_path(PAIR_EXAMPLES))
    job = job_of(world, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(torch_rank, (job, str(tmp_path), port), nprocs=2)
    two = curve(world.lake.read(spark, TRAINING_LOG).orderBy("epoch").collect())
    np.testing.assert_allclose(curve(checkpoint.load_last(job.checkpoints)[1]["log"]), two, rtol=1e-3)


def test_without_earlier_candidates_negatives_are_random_only_and_without_ratings_mse_is_refused(
    spark: SparkSession, tmp_path: Path, tiny_encoder: Path, caplog: pytest.LogCaptureFixture
):
    world = FinetuneWorld(spark, tmp_path, tiny_encoder, rated=False)
    settings = {"pairs": {**PAIRS, "history": "others"}}
    bpr, mse = (world.config(objective={"kind": kind}, **settings) for kind in ("bpr", "mse"))
    with caplog.at_level(logging.INFO, "recspark"):
        write_pair_tables(spark, world.lake, bpr, bpr.finetune.objective)
    assert "no candidates of an earlier run date: negatives are random ones only" in caplog.text
    rows = world.lake.read(spark, PAIR_EXAMPLES).collect()
    assert len(rows) == 4 * USERS_THERE  # also who met nothing before the target has a history of others
    assert {len(numbers(row.history)) for row in rows} == {4}
    assert all(row.target not in numbers(row.history) for row in rows)
    with pytest.raises(UserError, match=r"mse: 144 of 144 training pairs have no rating; set preprocess.interactions"):
        write_pair_tables(spark, world.lake, mse, mse.finetune.objective)


def test_ratings_beyond_the_sigmoid_and_ranks_in_no_order_are_refused(spark: SparkSession, world: FinetuneWorld):
    config = world.config(objective={"kind": "mse", "link": "sigmoid", "low": 0.0, "high": 0.5}, pairs=PAIRS)
    with pytest.raises(UserError, match=r"ratings are from .* to .*, and its low and high are 0 and 0.5; set them"):
        write_pair_tables(spark, world.lake, config, config.finetune.objective)
    for ranks in ([100, 10], [0, 10]):
        with pytest.raises(ConfigError, match="hard_ranks are the first and the last that are mined, from 1"):
            world.config(objective={"kind": "bpr"}, pairs={**PAIRS, "hard_ranks": ranks})
