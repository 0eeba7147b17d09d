"""Objectives by pair: a user, known by a history, should score the target above other items.

A user is the weighted sum of the vectors h of the history's items, u = Σ w h. These vectors are kept, not learned through
(they are made anew each epoch), so a step reads the texts of its candidates alone.
Shapes: B examples, N items of the longest history, C candidates, K factors. A history shorter than N has weights 0.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recspark.config import Settings

Scope = Literal["step", "drawn", "catalogue"]
SIMILARITY = "sim, of user and item: of unit vectors (cosine), or of vectors as they are (dot)"
EXPONENT_LIMIT = math.log(1000.0)  # a learned temperature stays within 1/1000 and 1000


@dataclass(frozen=True)
class Candidates:
    """Items that examples are scored against.

    vector (C, K); target (B,): each example's own among them; negative (B, C): which ones count against it, never its target
    or another positive of its user; log_q (C,): log of the probability that the item is among the candidates, of a mined one 0;
    target_log_q (B,): of each example's own target, that it is there as a target, or drawn, whoever has mined it, too.
    """

    vector_CK: Tensor
    target_B: Tensor
    negative_BC: Tensor
    log_q_C: Tensor
    target_log_q_B: Tensor


@dataclass(frozen=True)
class Pairs:
    """What a loss is told of a step's examples.

    history (B, N, K), its weights (B, N) and its ratings less what the biases say (B, N); ratings (B,) and what the biases say
    of the pair (B,), both 0 for objectives that need no ratings.
    """

    candidates: Candidates
    history_BNK: Tensor
    weight_BN: Tensor
    residual_BN: Tensor
    rating_B: Tensor
    bias_B: Tensor


class Scored(Settings):
    """What the ranking objectives have in common: a score s(u, z) = sim(u, z) / τ.

    cosine: vectors have unit length, those of the history before they are summed, too. dot: they are as they are.
    """

    similarity: Literal["cosine", "dot"] = Field("cosine", description=SIMILARITY)
    temperature: float = Field(0.07, gt=0.001, lt=1000, description="τ, or where it starts if it is learned")
    learn_temperature: bool = Field(False, description="one number, learned at the head's rate")

    scope: ClassVar[Scope] = "step"

    def learned(self, size: int) -> nn.ParameterDict:
        """What is learned beside the encoder and the head."""
        start = torch.tensor(math.log(self.temperature))
        return nn.ParameterDict({"log_temperature": nn.Parameter(start)} if self.learn_temperature else {})

    def scores(self, pairs: Pairs, learned: nn.ParameterDict) -> Tensor:
        """(B, C)"""
        history, vectors = pairs.history_BNK, pairs.candidates.vector_CK
        if self.similarity == "cosine":
            history, vectors = (nn.functional.normalize(v, dim=-1) for v in (history, vectors))
        users = weighted(history, pairs.weight_BN)
        if self.similarity == "cosine":
            users = nn.functional.normalize(users, dim=-1)
        return users @ vectors.mT / self.temperature_now(learned)

    def temperature_now(self, learned: nn.ParameterDict) -> Tensor | float:
        if not self.learn_temperature:
            return self.temperature
        return learned["log_temperature"].clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT).exp()


class Corrected(Scored):
    """A softmax over a sample, its scores less log_q where `log_q` is set."""

    log_q: bool = Field(True, description="scores less the log of the probability that the item is a candidate")
    random_negatives: int = Field(0, ge=0, description="items an example draws; all examples of the step share them")

    def losses(self, pairs: Pairs, learned: nn.ParameterDict) -> Tensor:
        """(B,)"""
        scores, chosen = self.scores(pairs, learned), pairs.candidates
        if self.log_q:
            scores = (scores - chosen.log_q_C).scatter_add(
                1,
                chosen.target_B[:, None],
                (chosen.log_q_C[chosen.target_B] - chosen.target_log_q_B)[:, None],
            )
        return softmax_losses(scores, chosen)


class InfoNce(Corrected):
    """Softmax over the items that the step holds (van den Oord et al. 2018): its distinct targets on all ranks, and what was
    mined or drawn. Popular items are targets more often; log_q takes that back (Yi et al. 2019), with the probability
    1 − (1 − p)^B of being among the B targets of a step, as an item counts once however often it is a target.
    """

    kind: Literal["info_nce"] = "info_nce"


class SampledSoftmax(Corrected):
    """Softmax over the target and drawn items, corrected by log_q (Bengio and Senécal 2008; Jean et al. 2015). The targets of
    other examples do not count. log_q of a mined item is 0: it is certain to be there.
    """

    kind: Literal["sampled_softmax"] = "sampled_softmax"
    random_negatives: int = Field(4, ge=1, description="items an example draws; all examples of the step share them")

    scope: ClassVar[Scope] = "drawn"


class FullSoftmax(Scored):
    """Softmax over all items: their kept vectors, those of the step's targets in their places. For catalogues that fit: a
    step makes B · M scores of M items.
    """

    kind: Literal["full_softmax"] = "full_softmax"

    scope: ClassVar[Scope] = "catalogue"
    random_negatives: ClassVar[int] = 0

    def losses(self, pairs: Pairs, learned: nn.ParameterDict) -> Tensor:
        """(B,)"""
        return softmax_losses(self.scores(pairs, learned), pairs.candidates)


class Bpr(Scored):
    """Mean over the drawn items n of −log σ(s(u, z_t) − s(u, z_n)) (Rendle et al. 2009)."""

    kind: Literal["bpr"] = "bpr"
    similarity: Literal["cosine", "dot"] = Field("dot", description=SIMILARITY)
    temperature: float = Field(1.0, gt=0.001, lt=1000, description="τ, or where it starts if it is learned")
    random_negatives: int = Field(1, ge=1, description="items an example draws; all examples of the step share them")

    scope: ClassVar[Scope] = "drawn"

    def losses(self, pairs: Pairs, learned: nn.ParameterDict) -> Tensor:
        """(B,); 0 for an example without negatives."""
        scores, negative = self.scores(pairs, learned), pairs.candidates.negative_BC
        gain = scores.gather(1, pairs.candidates.target_B[:, None]) - scores
        each = nn.functional.softplus(-gain).masked_fill(~negative, 0.0)
        return each.sum(1) / negative.sum(1).clamp(min=1)


def weighted(history_BNK: Tensor, weight_BN: Tensor) -> Tensor:
    """(B, K) Σ w h."""
    return (weight_BN[..., None] * history_BNK).sum(1)


def softmax_losses(scores_BC: Tensor, chosen: Candidates) -> Tensor:
    """(B,) −s_t + log (exp s_t + Σ_negatives exp s_c)."""
    target_B1 = scores_BC.gather(1, chosen.target_B[:, None])
    others = scores_BC.masked_fill(~chosen.negative_BC, -torch.inf)
    return torch.logsumexp(torch.cat([target_B1, others], 1), 1) - target_B1[:, 0]
