"""Losses of a user's scores by hand, and a step of ragged lists."""

import numpy as np
import pytest
import torch

from recspark.models.adaptation import Full
from recspark.models.encoder import EncoderConfig
from recspark.training.launcher import LocalRanks
from recspark.training.reader import Step
from recspark.training.rerank_lesson import Bce, Listwise, RerankLesson

SCORES = torch.log(torch.tensor([2.0, 1.0, 1.0]))


def test_twice_the_odds_of_two_others_are_a_half():
    assert Listwise().loss(SCORES).item() == pytest.approx(np.log(2))


def test_binary_losses_are_averaged_over_the_items():
    # σ(ln 2) = 2/3 for the one that was taken, 1 - σ(0) = 1/2 for each other.
    assert Bce().loss(SCORES).item() == pytest.approx((np.log(1.5) + 2 * np.log(2)) / 3)


def test_a_step_of_lists_of_two_and_three_pairs_starts_at_the_logarithms_of_their_lengths(tiny_encoder):
    lesson = RerankLesson(EncoderConfig(path=str(tiny_encoder)), None, Full(), Listwise(), 1e-3, 0.0)
    model = lesson.make_model()
    lengths = [np.array([3, 4], "<i4"), np.array([2, 5, 3], "<i4")]
    tokens = [np.arange(5, 5 + int(cuts.sum()), dtype="<i4") for cuts in lengths]
    step = Step({}, {"tokens": tokens, "lengths": lengths}, 2, ("train", 0))
    losses = lesson.losses(model, None, torch.device("cpu"), LocalRanks())(model, step, 1)
    assert losses.tolist() == pytest.approx([np.log(2), np.log(3)], abs=1e-6)
    losses.sum().backward()
    assert model.head.weight.grad.abs().sum() > 0
