"""The objective for ratings: a user's rating of the target, told from the ratings of the history and the texts."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recspark.config import Settings
from recspark.models.objectives.pairs import Pairs, Scope, weighted


class Mse(Settings):
    """(r − f(u·z + v·z + c + b + b_u + b_i))² with u = Σ w (r_j − b − b_u − b_j) h_j over the history (the user factors of
    SVD++'s kin, Koren 2008: what the user thought of each, not that it was met). b is the mean rating, b_u and b_i are means of
    what is left, shrunken by `shrinkage` (they are columns of the tables), v and c are learned: what the text says of b_i.

    f: identity, or the sigmoid between `low` and `high`, low + (high − low) σ(4 (x − m) / (high − low)), m their middle, where
    it has slope 1.
    """

    kind: Literal["mse"] = "mse"
    link: Literal["identity", "sigmoid"] = Field("identity", description="f")
    low: float = Field(1.0, description="lowest rating, of the sigmoid")
    high: float = Field(5.0, description="highest rating, of the sigmoid")
    shrinkage: float = Field(5.0, ge=0, description="a bias of n ratings is their mean times n / (n + shrinkage)")

    scope: ClassVar[Scope] = "step"
    random_negatives: ClassVar[int] = 0

    @model_validator(mode="after")
    def has_a_scale(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} should be below high {self.high}")
        return self

    def learned(self, size: int) -> nn.ParameterDict:
        """What is learned beside the encoder and the head: v (K,) and c."""
        return nn.ParameterDict({"item": nn.Parameter(torch.zeros(size)), "constant": nn.Parameter(torch.zeros(()))})

    def losses(self, pairs: Pairs, learned: nn.ParameterDict) -> Tensor:
        """(B,)"""
        return (pairs.rating_B - self.predicted(pairs, learned)).square()

    def predicted(self, pairs: Pairs, learned: nn.ParameterDict) -> Tensor:
        """(B,)"""
        target_BK = pairs.candidates.vector_CK[pairs.candidates.target_B]
        users = weighted(pairs.history_BNK, pairs.weight_BN * pairs.residual_BN)
        told = ((users + learned["item"]) * target_BK).sum(1) + learned["constant"] + pairs.bias_B
        if self.link == "identity":
            return told
        middle, span = (self.low + self.high) / 2, self.high - self.low
        return self.low + span * torch.sigmoid(4 * (told - middle) / span)
