from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recspark.models.adaptation import Frozen
from recspark.training import checkpoint, loop
from recspark.training.launcher import LocalRanks
from recspark.training.learner import TrainingJob
from recspark.training.status import Reporter
from tests.training.world import ITEMS, SETTINGS, VALID, make_job


def train(job: TrainingJob, folder: Path) -> tuple[dict, list[dict]]:
    loop.train_rank(job, LocalRanks(), Reporter(str(folder), 0))
    tensors, facts = checkpoint.load_last(job.checkpoints)
    return tensors, facts["log"]


@pytest.fixture
def status(tmp_path: Path) -> Path:
    (tmp_path / "status").mkdir()
    return tmp_path / "status"


def test_the_loss_falls_and_every_epoch_reads_every_item_once(tmp_path: Path, tiny_encoder: Path, status: Path):
    _, log = train(make_job(tmp_path, tiny_encoder, 1), status)
    assert [row["epoch"] for row in log] == [0, 1, 2, 3]
    assert log[3]["train_loss"] < log[1]["train_loss"]
    assert [row["examples"] for row in log[1:]] == [ITEMS - VALID] * 3


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_end(
    tmp_path: Path, tiny_encoder: Path, status: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, log = train(make_job(tmp_path, tiny_encoder, 1, name="whole"), status)
    job, real = make_job(tmp_path, tiny_encoder, 1, name="broken"), loop.train_epoch

    def die_in_the_third(*args, **kwargs):
        if args[-1] == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "train_epoch", die_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train(job, status)
    trained: list[int] = []
    monkeypatch.setattr(loop, "train_epoch", lambda *a, **k: trained.append(a[-1]) or real(*a, **k))
    again, log_again = train(job, status)
    assert trained == [3]
    assert [row["train_loss"] for row in log_again] == [row["train_loss"] for row in log]
    assert set(again) == set(whole)
    for name in whole:
        torch.testing.assert_close(again[name], whole[name], atol=0, rtol=0)


def test_it_stops_when_the_held_out_loss_stops_falling_and_keeps_the_best(
    tmp_path: Path, tiny_encoder: Path, status: Path
):
    wild = SETTINGS.model_copy(update={"head_learning_rate": 3.0, "epochs": 9, "patience": 2, "warmup_steps": 0})
    tensors, log = train(make_job(tmp_path, tiny_encoder, 1, wild), status)
    held_out = [row["valid_loss"] for row in log]
    best = int(np.argmin(held_out))
    assert len(log) - 1 == best + 2 < 9
    assert best == 0
    assert not torch.equal(tensors["best.head.weight"], tensors["last.head.weight"])


def test_a_training_until_an_epoch_is_the_whole_one_up_to_there(tmp_path: Path, tiny_encoder: Path, status: Path):
    whole = make_job(tmp_path, tiny_encoder, 1, name="whole")
    part = replace(make_job(tmp_path, tiny_encoder, 1, name="part"), until=2)
    (_, log), (tensors, log_of_part) = train(whole, status), train(part, status)
    assert [row["train_loss"] for row in log_of_part] == [row["train_loss"] for row in log[:3]]
    one_more, _ = train(replace(part, until=3), status)  # as if it had been killed after the second
    assert any((one_more[name] != tensors[name]).any() for name in tensors if name.startswith("last."))
    assert all((one_more[n] == t).all() for n, t in train(whole, status)[0].items() if n.startswith("last."))


def test_frozen_trains_the_head_alone(tmp_path: Path, tiny_encoder: Path, status: Path):
    tensors, _ = train(
        make_job(tmp_path, tiny_encoder, 1, SETTINGS.model_copy(update={"adaptation": Frozen()})), status
    )
    assert {name for name in tensors if name.startswith("last.")} == {"last.head.weight", "last.head.bias"}


def test_a_loss_that_is_not_finite_stops_it_with_the_step(tmp_path: Path, tiny_encoder: Path, status: Path):
    job = make_job(tmp_path, tiny_encoder, 1)
    broken = job.settings.model_copy(update={"objective": Broken()})
    with pytest.raises(FloatingPointError, match=r"not finite at epoch 1, step 1, with item_id i\d+(, i\d+){3,7}$"):
        train(replace(job, lesson=replace(job.lesson, settings=broken)), status)


def test_a_held_out_loss_that_is_not_finite_stops_it_too(tmp_path: Path, tiny_encoder: Path, status: Path):
    job = make_job(tmp_path, tiny_encoder, 1)
    broken = job.settings.model_copy(update={"objective": Broken(least=1)})
    with pytest.raises(FloatingPointError, match=r"the held-out loss is not finite, with item_id i0, i1, i2, i3$"):
        train(replace(job, lesson=replace(job.lesson, settings=broken)), status)


class Broken:
    """Of shares of so many items."""

    def __init__(self, least: int = VALID + 1):
        self.least = least

    def forms(self, targets, gram):
        broken = float("nan") if len(targets.positives_B) >= self.least else 0.0
        return torch.full((len(targets.positives_B), len(gram) + 1, len(gram) + 1), broken)


def test_a_rank_that_looks_at_held_out_examples_moves_on(
    tmp_path: Path, tiny_encoder: Path, status: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else a look at millions of them would count as a rank that stands still."""
    told: list[str] = []
    job, reporter, real = make_job(tmp_path, tiny_encoder, 1), Reporter(str(status), 0), loop.evaluate

    def evaluate(*args):
        told.append("looks")
        found = real(*args)
        told.append("has looked")
        return found

    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setattr(reporter, "update", lambda **_: told.append("moves"))
    loop.train_rank(job, LocalRanks(), reporter)
    assert told[:4] == ["moves", "looks", "moves", "has looked"]


def test_learning_rates_rise_then_fall_to_nothing():
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5, "peak": 0.5}])
    rates = []
    for step in range(10):
        loop.set_learning_rates(optimizer, SETTINGS, step, 10)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:2] == [0.25, 0.5]
    assert rates[-1] == pytest.approx(0.5 / 8)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_shares_that_differ_are_an_error_before_the_first_step(tmp_path: Path, tiny_encoder: Path, status: Path):
    class Two(LocalRanks):
        size = 2

        def sum(self, numbers):
            return numbers * 2 + torch.tensor([1.0, 0, 1]) if len(numbers) == 3 else numbers

    with pytest.raises(RuntimeError, match="the shares differ"):
        loop.train_rank(make_job(tmp_path, tiny_encoder, 1), Two(), Reporter(str(status), 0))
