"""What the encoder learns: a loss per item of its vector z.

Each objective is its settings. To add one: write the class here and add its name to `Objective`.
Shapes: B items, K factors, M rows of the longest root in the batch.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

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


class AllPairs(Settings):
    """The squared error of implicit ALS over an item and every user, the user vectors fixed:

    Σ_positives w (1 − u·z)² + a zᵀ G z  =  n − 2 z·Σ w u + ‖F z‖² + a zᵀ G z

    with G = Σ u uᵀ over all users and a the weight of an unobserved pair of the item (Hu, Koren and Volinsky 2008).
    """

    kind: Literal["all_pairs"] = "all_pairs"
    weight_exponent: float = Field(-0.5, ge=-1, le=0, description="an item's loss is weighted by n to this power")

    def loss(self, vectors_BK: Tensor, targets: ItemTargets, user_gram_KK: Tensor) -> Tensor:
        """(B,) weighted loss of each item."""
        fit = targets.positives_B - 2 * (vectors_BK * targets.user_sum_BK).sum(1)
        fit = fit + (targets.user_root_BMK @ vectors_BK.unsqueeze(2)).square().sum((1, 2))
        spread = ((vectors_BK @ user_gram_KK) * vectors_BK).sum(1)
        return targets.weight_B * (fit + targets.unobserved_B * spread)


class CorrectedAllPairs(Settings):
    """What is left of the all-pairs error once the item's own data have corrected z, as factorize and embed do:

    min_q  Σ_positives w (1 − u·q)² + a qᵀ G q + λ ‖q − z‖²  =  n + λ ‖z‖² − (b + λ z)ᵀ A⁻¹ (b + λ z)

    with b = Σ w u, A = a G + FᵀF + λ I. The item's own vector is solved for inside the loss (variable projection, Golub and
    Pereyra 1973), so the text answers only for what the data leave open: much for an item that few have met, little for a
    popular one. At λ → ∞ it is `AllPairs`.
    """

    kind: Literal["corrected_all_pairs"] = "corrected_all_pairs"
    weight_exponent: float = Field(0.0, ge=-1, le=0, description="an item's loss is weighted by n to this power")

    def loss(self, vectors_BK: Tensor, targets: ItemTargets, user_gram_KK: Tensor) -> Tensor:
        """(B,) weighted loss of each item."""
        penalty = targets.penalty_B.unsqueeze(1)
        left = targets.user_root_BMK.mT @ targets.user_root_BMK + targets.unobserved_B[:, None, None] * user_gram_KK
        lower = torch.linalg.cholesky(left + torch.diag_embed(penalty.expand_as(vectors_BK)))
        right = targets.user_sum_BK + penalty * vectors_BK
        half = torch.linalg.solve_triangular(lower, right.unsqueeze(2), upper=False).squeeze(2)
        rest = targets.positives_B + (penalty * vectors_BK.square() - half.square()).sum(1)
        return targets.weight_B * rest


Objective = Annotated[CorrectedAllPairs | AllPairs, Field(discriminator="kind")]
