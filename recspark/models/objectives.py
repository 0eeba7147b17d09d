"""What the encoder learns: a loss per item of its vector z.

Each objective is its settings. To add one: write the class here and add its name to `Objective`.
Shapes: B items, K factors, M rows of the longest root in the batch.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from recspark.config import Settings


@dataclass(frozen=True)
class ItemTargets:
    """What a loss needs of each item's users: n (B,), Σ w u (B, K), F (B, M, K) with FᵀF = Σ w u uᵀ, weight (B,)."""

    positives_B: Tensor
    user_sum_BK: Tensor
    user_root_BMK: Tensor
    weight_B: Tensor


class AllPairs(Settings):
    """The squared error of implicit ALS over an item and every user, the user vectors fixed:

    Σ_positives w (1 − u·z)² + a zᵀ G z  =  n − 2 z·Σ w u + ‖F z‖² + a zᵀ G z

    with G = Σ u uᵀ over all users and a the weight of an unobserved pair (Hu, Koren and Volinsky 2008).
    """

    kind: Literal["all_pairs"] = "all_pairs"

    def loss(self, vectors_BK: Tensor, targets: ItemTargets, user_gram_KK: Tensor, unobserved_weight: float) -> Tensor:
        """(B,) weighted loss of each item."""
        fit = targets.positives_B - 2 * (vectors_BK * targets.user_sum_BK).sum(1)
        fit = fit + (targets.user_root_BMK @ vectors_BK.unsqueeze(2)).square().sum((1, 2))
        spread = ((vectors_BK @ user_gram_KK) * vectors_BK).sum(1)
        return targets.weight_B * (fit + unobserved_weight * spread)


Objective = AllPairs  # a union discriminated by `kind` as soon as there is a second
