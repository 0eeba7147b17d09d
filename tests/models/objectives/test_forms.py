from typing import get_args

import numpy as np
import pytest
import torch

from recspark.models.objectives import AllPairs, CorrectedAllPairs, ItemObjective, ItemTargets, losses_at

USERS, ITEMS, K = 7, 3, 4
UNOBSERVED = torch.tensor([0.15, 0.05, 0.3], dtype=torch.float64)


def world() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(users (7, 4), item vectors (3, 4), weights of the positives (3, 7), 0 where there is none), in float64."""
    draw = np.random.default_rng(0)
    weights = draw.integers(0, 2, (ITEMS, USERS)) * draw.uniform(0.5, 2, (ITEMS, USERS))
    return torch.tensor(draw.normal(size=(USERS, K))), torch.tensor(draw.normal(size=(ITEMS, K))), torch.tensor(weights)


def targets(
    users: torch.Tensor, weights: torch.Tensor, item_weight: torch.Tensor, penalty: torch.Tensor
) -> ItemTargets:
    roots = weights.sqrt()[:, :, None] * users[None]
    return ItemTargets(weights.sum(1), weights @ users, roots, penalty, UNOBSERVED, item_weight)


def losses(objective, items: torch.Tensor, given: ItemTargets, users: torch.Tensor) -> torch.Tensor:
    return losses_at(items, objective.forms(given, users.T @ users))


def squared_error(users: torch.Tensor, items: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(3,) the sum over every user, written out."""
    scores = items @ users.T
    return (weights * (1 - scores) ** 2).sum(1) + UNOBSERVED * (scores**2).sum(1)


ITEM_WEIGHT = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
PENALTY = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)


def test_all_pairs_is_the_sum_over_every_user_written_out():
    users, items, weights = world()
    found = losses(AllPairs(), items, targets(users, weights, ITEM_WEIGHT, PENALTY), users)
    torch.testing.assert_close(found, ITEM_WEIGHT * squared_error(users, items, weights))


def test_corrected_all_pairs_is_the_least_of_the_error_and_the_pull():
    users, items, weights = world()
    found = losses(CorrectedAllPairs(), items, targets(users, weights, ITEM_WEIGHT, PENALTY), users)
    own = items.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([own], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def total() -> torch.Tensor:
        optimizer.zero_grad()
        value = squared_error(users, own, weights) + PENALTY * (own - items).square().sum(1)
        value.sum().backward()
        return value.sum()

    optimizer.step(total)
    least = squared_error(users, own, weights) + PENALTY * (own - items).square().sum(1)
    torch.testing.assert_close(found, ITEM_WEIGHT * least.detach())


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e9])
def test_of_large_weights_the_corrected_error_is_as_exact_as_of_small_ones(scale: float):
    users, _, weights = world()
    users[:, 3] = users[:, 2]  # a direction that only λ decides
    exact = CorrectedAllPairs().forms(targets(users, weights * scale, ITEM_WEIGHT, PENALTY), users.T @ users)
    given = targets(users.float(), (weights * scale).float(), ITEM_WEIGHT.float(), PENALTY.float())
    found = CorrectedAllPairs().forms(given, users.float().T @ users.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, :-1, :-1].double(), exact[:, :-1, :-1], rtol=1e-3, atol=1e-3)


def test_with_a_pull_beyond_all_data_the_corrected_error_is_the_error():
    users, items, weights = world()
    given = targets(users, weights, ITEM_WEIGHT, torch.full((ITEMS,), 1e8, dtype=torch.float64))
    corrected, plain = (losses(o, items, given, users) for o in (CorrectedAllPairs(), AllPairs()))
    torch.testing.assert_close(corrected, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", [part() for part in get_args(ItemObjective)], ids=lambda o: o.kind)
def test_gradient_agrees_with_finite_differences(objective):
    users, items, weights = world()
    given = targets(users, weights, ITEM_WEIGHT, PENALTY)
    assert torch.autograd.gradcheck(lambda z: losses(objective, z, given, users), items.requires_grad_())
