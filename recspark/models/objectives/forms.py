"""Objectives by item: a loss per item of its vector z, quadratic in z as long as the user vectors are fixed.

An objective makes of an item's users the form Q with loss [z 1] Q [z 1]ᵀ: constant over a training, so it can be kept, and
a step costs one product.
Shapes: B items, K factors, J = K + 1, M rows of the longest root in the batch.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from recspark.config import Settings


@dataclass(frozen=True)
class ItemTargets:
    """What a loss needs of each item's users.

    n (B,), Σ w u (B, K), F (B, M, K) with FᵀF = Σ w u uᵀ, λ (B,), a (B,) the weight of an unobserved pair, weight (B,).
    """

    positives_B: Tensor
    user_sum_BK: Tensor
    user_root_BMK: Tensor
    penalty_B: Tensor
    unobserved_B: Tensor
    weight_B: Tensor

    def double(self) -> "ItemTargets":
        """The same in float64."""
        return ItemTargets(**{name: getattr(self, name).double() for name in self.__dataclass_fields__})


class AllPairs(Settings):
    """The squared error of implicit ALS over an item and every user, the user vectors fixed:

    Σ_positives w (1 − u·z)² + a zᵀ G z  =  n − 2 z·Σ w u + ‖F z‖² + a zᵀ G z

    with G = Σ u uᵀ over all users and a the weight of an unobserved pair of the item (Hu, Koren and Volinsky 2008).
    """

    kind: Literal["all_pairs"] = "all_pairs"
    weight_exponent: float = Field(-0.5, ge=-1, le=0, description="an item's loss is weighted by n to this power")

    def forms(self, targets: ItemTargets, user_gram_KK: Tensor) -> Tensor:
        """(B, J, J), weighted."""
        return packed(
            all_pairs_square(targets, user_gram_KK), targets.user_sum_BK, targets.positives_B, targets.weight_B
        )


class CorrectedAllPairs(Settings):
    """What is left of the all-pairs error once the item's own data have corrected z, as factorize and embed do:

    min_q  Σ_positives w (1 − u·q)² + a qᵀ G q + λ ‖q − z‖²  =  n + λ ‖z‖² − (b + λ z)ᵀ A⁻¹ (b + λ z)

    with b = Σ w u, A = a G + FᵀF + λ I. The item's own vector is solved for inside the loss (variable projection, Golub and
    Pereyra 1973), so the text answers only for what the data leave open: much for an item that few have met, little for a
    popular one. At λ → ∞ it is `AllPairs`.
    """

    kind: Literal["corrected_all_pairs"] = "corrected_all_pairs"
    weight_exponent: float = Field(0.0, ge=-1, le=0, description="an item's loss is weighted by n to this power")

    def forms(self, targets: ItemTargets, user_gram_KK: Tensor) -> Tensor:
        """(B, J, J), weighted: λ z² − (b + λz)ᵀ A⁻¹ (b + λz) is zᵀ (λ A⁻¹ S) z − 2 λ bᵀA⁻¹ z − bᵀA⁻¹b with S = A − λ I.

        In float64, for of large weights little is left of n − bᵀA⁻¹b; the form itself is as exact as the targets are.
        """
        kind = targets.user_sum_BK.dtype
        targets, user_gram_KK = targets.double(), user_gram_KK.double()
        square_BKK = all_pairs_square(targets, user_gram_KK)
        penalty = targets.penalty_B[:, None, None]
        lower = torch.linalg.cholesky(square_BKK + penalty * torch.eye(square_BKK.shape[1]).to(square_BKK))
        right = torch.cat([square_BKK, targets.user_sum_BK.unsqueeze(2)], 2)
        solved = torch.cholesky_solve(right, lower)
        shrunk, own = penalty * solved[..., :-1], solved[..., -1]
        rest = targets.positives_B - (targets.user_sum_BK * own).sum(1)
        linear = targets.penalty_B[:, None] * own
        return packed((shrunk + shrunk.mT) / 2, linear, rest, targets.weight_B).to(kind)


def all_pairs_square(targets: ItemTargets, user_gram_KK: Tensor) -> Tensor:
    """(B, K, K) FᵀF + a G."""
    return targets.user_root_BMK.mT @ targets.user_root_BMK + targets.unobserved_B[:, None, None] * user_gram_KK


def packed(square_BKK: Tensor, linear_BK: Tensor, constant_B: Tensor, weight_B: Tensor) -> Tensor:
    """(B, J, J) of w (zᵀ P z − 2 c·z + d)."""
    upper = torch.cat([square_BKK, -linear_BK.unsqueeze(2)], 2)
    lower = torch.cat([-linear_BK, constant_B.unsqueeze(1)], 1)
    return weight_B[:, None, None] * torch.cat([upper, lower.unsqueeze(1)], 1)


def losses_at(vectors_BK: Tensor, forms_BJJ: Tensor) -> Tensor:
    """(B,) each item's form at its vector."""
    with_one = torch.cat([vectors_BK, vectors_BK.new_ones(len(vectors_BK), 1)], 1)
    half_slope = (forms_BJJ @ with_one.detach().unsqueeze(2)).squeeze(2)
    # The forms are symmetric: this has the value and the slope of the form, and reads the forms once, not again backward.
    return (half_slope * (2 * with_one - with_one.detach())).sum(1)
