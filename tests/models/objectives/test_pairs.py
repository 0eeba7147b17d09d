"""Two users and three items in two dimensions: every score is 0, 1 or 2, so every loss can be worked out by hand."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recspark.config import ConfigError, parse
from recspark.models.objectives import (
    Bpr,
    Candidates,
    FullSoftmax,
    InfoNce,
    Mixed,
    Mse,
    PairObjective,
    Pairs,
    SampledSoftmax,
    parts_of,
)
from recspark.stages.finetune import FinetuneConfig

REAL = torch.float64
VECTORS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=REAL)
# The first user has one item, (1, 0); the second (1, 0) and (0, 2) at half weight each: u = (1, 0) and (.5, 1).
HISTORY = torch.tensor([[[1.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [0.0, 2.0]]], dtype=REAL)
WEIGHT = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=REAL)
SCORES = [[1.0, 0.0, 1.0], [0.5, 2.0, 1.5]]  # of the users and items, by inner product
TARGET, NEGATIVE = [0, 1], [[False, True, True], [True, False, True]]
DOT = {"similarity": "dot", "temperature": 1.0}


def pairs(
    negative: list[list[bool]] = NEGATIVE,
    log_q: tuple[float, float, float] = (0.0, 0.0, 0.0),
    target_log_q: tuple[float, float] | None = None,
) -> Pairs:
    """target_log_q: that of the targets as candidates, if not set."""
    target, logs = torch.tensor(TARGET), torch.tensor(log_q, dtype=REAL)
    own = logs[target] if target_log_q is None else torch.tensor(target_log_q, dtype=REAL)
    chosen = Candidates(VECTORS, target, torch.tensor(negative), logs, own)
    residual = torch.tensor([[2.0, 0.0], [1.0, -1.0]], dtype=REAL)
    return Pairs(chosen, HISTORY, WEIGHT, residual, *torch.tensor([[4.0, 3.0], [3.0, 2.0]], dtype=REAL))


def losses(objective, given: Pairs) -> list[float]:
    return objective.losses(given, objective.learned(2).double()).tolist()


def softmax(scores: list[float], target: int) -> float:
    return -math.log(math.exp(scores[target]) / sum(map(math.exp, scores)))


@pytest.mark.parametrize("kind", [InfoNce, SampledSoftmax, FullSoftmax])
def test_softmaxes_are_the_log_of_the_targets_share(kind):
    expected = [softmax(row, target) for row, target in zip(SCORES, TARGET, strict=True)]
    assert losses(kind(**DOT), pairs()) == pytest.approx(expected)


def test_what_is_no_negative_does_not_enter():
    # The first user's other positive is item 2, the second's item 0.
    found = losses(InfoNce(**DOT), pairs([[False, True, False], [False, False, True]]))
    assert found == pytest.approx([math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(-0.5))])
    assert losses(InfoNce(**DOT), pairs([[False] * 3] * 2)) == [0.0, 0.0]


def test_log_q_takes_the_frequency_out_of_a_score():
    # Item 0 is always among the candidates, item 1 half the time, item 2 a quarter: e^s is doubled and made fourfold.
    given = pairs(log_q=(0.0, math.log(0.5), math.log(0.25)))
    e = math.exp(1)
    assert losses(InfoNce(**DOT), given)[0] == pytest.approx(math.log((e + 2 + 4 * e) / e))
    assert losses(InfoNce(log_q=False, **DOT), given)[0] == pytest.approx(math.log((e + 1 + e) / e))


def test_a_target_that_somebody_mined_is_no_more_certain_for_its_own_example():
    # Item 0 is the first user's target a quarter of the time; as the second's negative it is mined, and so always there.
    given = pairs(log_q=(0.0, 0.0, 0.0), target_log_q=(math.log(0.25), 0.0))
    e = math.exp(1)
    assert losses(InfoNce(**DOT), given)[0] == pytest.approx(math.log((4 * e + 1 + e) / (4 * e)))
    assert losses(InfoNce(**DOT), given)[1] == losses(InfoNce(**DOT), pairs())[1]


def test_the_cosine_has_unit_vectors_before_the_history_is_summed():
    # The second user is ((1, 0) + (0, 1)) / 2: 45 degrees from items 0 and 1, none from item 2.
    root = math.sqrt(0.5)
    assert losses(InfoNce(temperature=0.5), pairs())[1] == pytest.approx(softmax([2 * root, 2 * root, 2.0], 1))


def test_bpr_is_the_mean_of_minus_log_sigmoid_of_the_differences():
    def gain(difference: float) -> float:
        return -math.log(1 / (1 + math.exp(-difference)))

    assert losses(Bpr(), pairs()) == pytest.approx([(gain(1) + gain(0)) / 2, (gain(1.5) + gain(0.5)) / 2])
    assert losses(Bpr(), pairs([[False] * 3] * 2)) == [0.0, 0.0]


def test_mse_adds_what_the_history_says_to_the_biases():
    # Tastes are 2 (1, 0) and .5 (1, 0) - .5 (0, 2); targets (1, 0) and (0, 2): 3 + 2 and 2 - 2 against ratings 4 and 3.
    assert losses(Mse(), pairs()) == pytest.approx([1.0, 9.0])


def test_the_sigmoid_has_slope_one_at_the_middle_and_stays_within_the_scale():
    objective = Mse(link="sigmoid", low=1, high=5)
    learned = objective.learned(2).double()
    for told, expected in ((3.0, 3.0), (3.01, 3.01), (1e6, 5.0), (-1e6, 1.0)):
        zero = replace(pairs(), residual_BN=torch.zeros(2, 2, dtype=REAL), bias_B=torch.full((2,), told, dtype=REAL))
        assert objective.predicted(zero, learned).tolist() == pytest.approx([expected] * 2, abs=1e-6)


def test_a_learned_temperature_starts_where_it_is_set():
    fixed, learned = (InfoNce(temperature=0.3, learn_temperature=learn) for learn in (False, True))
    assert losses(fixed, pairs()) == pytest.approx(losses(learned, pairs()), rel=1e-6)
    assert [p.numel() for p in learned.learned(2).values()] == [1]
    assert not list(fixed.learned(2).values())


# ---- what holds for every member of the union

LEARNING = {"temperature": 0.5, "learn_temperature": True}
MEMBERS = [
    *(kind() for kind in get_args(PairObjective) if kind is not Mixed),
    *(kind(**LEARNING) for kind in (InfoNce, SampledSoftmax, FullSoftmax, Bpr)),
    Mse(link="sigmoid"),
    Mixed.model_validate(
        {"parts": [{"objective": {"kind": "bpr"}, "weight": 0.5}, {"objective": {"kind": "info_nce"}}]}
    ),
]


@pytest.mark.parametrize("objective", MEMBERS, ids=lambda o: o.kind)
def test_gradients_agree_with_finite_differences(objective):
    generator, parts = torch.Generator().manual_seed(0), parts_of(objective)
    history, vectors = (torch.randn(*size, generator=generator, dtype=REAL) for size in ((2, 2, 2), (3, 2)))
    learned = [part.objective.learned(2).double() for part in parts]
    names = [(number, name) for number, own in enumerate(learned) for name in own]

    def total(vectors, *values):
        for (number, name), value in zip(names, values, strict=True):
            learned[number][name] = value
        given = pairs(log_q=(-0.1, -0.7, -2.0))
        given = replace(given, history_BNK=history, candidates=replace(given.candidates, vector_CK=vectors))
        parted = zip(parts, learned, strict=True)
        return sum(part.weight * part.objective.losses(given, own) for part, own in parted)

    # A ParameterDict takes tensors only as plain values: gradcheck then sees them as its inputs.
    values = [learned[number][name].detach().requires_grad_() for number, name in names]
    learned = [dict(own.items()) for own in learned]
    assert torch.autograd.gradcheck(total, (vectors.requires_grad_(), *values))


@pytest.mark.parametrize("objective", [m for m in MEMBERS if m.kind != "mixed"], ids=lambda o: o.kind)
def test_a_loss_an_example_that_falls_as_the_model_gets_it_right(objective):
    given, learned = pairs(), objective.learned(2).double()
    vectors = VECTORS.clone().requires_grad_()
    given = replace(given, candidates=replace(given.candidates, vector_CK=vectors))
    before = objective.losses(given, learned)
    assert before.shape == (2,)
    assert bool((before >= 0).all())
    (slope,) = torch.autograd.grad(before.sum(), vectors)
    better = replace(given, candidates=replace(given.candidates, vector_CK=(vectors - 1e-3 * slope).detach()))
    assert objective.losses(better, learned).sum() < before.sum()


@pytest.mark.parametrize("objective", MEMBERS, ids=lambda o: o.kind)
def test_each_is_read_from_the_configuration(objective):
    assert parse({"objective": objective.model_dump(mode="json")}, FinetuneConfig, []).objective == objective


def test_objectives_by_item_are_no_parts_of_a_mixture():
    with pytest.raises(ConfigError, match=r"parts.0.objective: .*'all_pairs'.*'info_nce'"):
        parse({"objective": {"kind": "mixed", "parts": [{"objective": {"kind": "all_pairs"}}]}}, FinetuneConfig, [])


@pytest.mark.parametrize("kind", ["bpr", "sampled_softmax"])
def test_those_that_need_negatives_say_so(kind: str):
    with pytest.raises(ConfigError, match=r"random_negatives: Input should be greater than or equal to 1"):
        parse({"objective": {"kind": kind, "random_negatives": 0}}, FinetuneConfig, [])


def test_a_scale_has_a_low_and_a_high_end():
    with pytest.raises(ValidationError, match=r"low 5.0 should be below high 1.0"):
        Mse(low=5, high=1)
    assert np.isfinite(losses(Mse(low=-1, high=1, link="sigmoid"), pairs())).all()
