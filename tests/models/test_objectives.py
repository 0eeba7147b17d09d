import numpy as np
import torch

from recspark.models.objectives import AllPairs, ItemTargets

USERS, ITEMS, K, A = 7, 3, 4, 0.15


def world() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(users (7, 4), item vectors (3, 4), weights of the positives (3, 7), 0 where there is none), in float64."""
    draw = np.random.default_rng(0)
    weights = draw.integers(0, 2, (ITEMS, USERS)) * draw.uniform(0.5, 2, (ITEMS, USERS))
    return torch.tensor(draw.normal(size=(USERS, K))), torch.tensor(draw.normal(size=(ITEMS, K))), torch.tensor(weights)


def targets(users: torch.Tensor, weights: torch.Tensor, item_weight: torch.Tensor) -> ItemTargets:
    return ItemTargets(weights.sum(1), weights @ users, weights.sqrt()[:, :, None] * users[None], item_weight)


def test_all_pairs_is_the_sum_over_every_user_written_out():
    users, items, weights = world()
    item_weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    found = AllPairs().loss(items, targets(users, weights, item_weight), users.T @ users, A)
    scores = items @ users.T
    spelt = item_weight * ((weights * (1 - scores) ** 2).sum(1) + A * (scores**2).sum(1))
    torch.testing.assert_close(found, spelt)


def test_gradient_agrees_with_finite_differences():
    users, items, weights = world()
    given = targets(users, weights, torch.ones(ITEMS, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda z: AllPairs().loss(z, given, users.T @ users, A), items.requires_grad_())
