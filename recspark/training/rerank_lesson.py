"""The cross-encoder's lesson: of the items that a user was offered, which one was taken.

Shapes: B users of a step, P pairs of them all, L tokens.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from recspark.config import Settings
from recspark.models.cross_encoder import CrossEncoder, PairAdaptation, lowest_layers
from recspark.models.encoder import EncoderConfig, load_encoder, pad
from recspark.training.launcher import Ranks
from recspark.training.learner import Losses, mixed_precision, set_dropout
from recspark.training.reader import Columns, Shard, Step


class Listwise(Settings):
    """-log softmax over the user's items, at the one that was taken."""

    kind: Literal["listwise"] = "listwise"

    def loss(self, scores: Tensor) -> Tensor:
        """Of one user's scores; the first is of the item that was taken."""
        return cross_entropy(scores[None], scores.new_zeros(1, dtype=torch.long))


class Bce(Settings):
    """Mean over the user's items of the binary cross-entropy, each by itself."""

    kind: Literal["bce"] = "bce"

    def loss(self, scores: Tensor) -> Tensor:
        """Of one user's scores; the first is of the item that was taken."""
        taken = torch.zeros_like(scores)
        taken[0] = 1
        return binary_cross_entropy_with_logits(scores, taken)


RerankObjective = Annotated[Listwise | Bce, Field(discriminator="kind")]


@dataclass(frozen=True)
class RerankLesson:
    """layers: of the base encoder, the lowest; all if None. dropout: of the encoder."""

    base: EncoderConfig
    layers: int | None
    adaptation: PairAdaptation
    objective: RerankObjective
    head_learning_rate: float
    dropout: float

    @property
    def columns(self) -> Columns:
        return Columns("user_id", (), {"tokens": np.dtype("<i4"), "lengths": np.dtype("<i4")})

    def make_model(self) -> CrossEncoder:
        encoder = load_encoder(self.base.path, self.base.pooling, self.base.trust_remote_code)
        encoder = lowest_layers(encoder, self.layers)
        set_dropout(encoder, self.dropout)
        self.adaptation.apply(encoder)
        return CrossEncoder(encoder)

    def learning_rate(self, parameter: str) -> float:
        return self.head_learning_rate if parameter.startswith("head.") else self.adaptation.learning_rate

    def losses(self, model: nn.Module, shard: Shard, device: torch.device, ranks: Ranks) -> Losses:
        mixed = mixed_precision(device)

        def losses(called: nn.Module, step: Step, epoch: int) -> Tensor:
            lengths = step.arrays["lengths"]
            pairs = [
                pair
                for tokens, cuts in zip(step.arrays["tokens"], lengths, strict=True)
                for pair in np.split(tokens, np.cumsum(cuts)[:-1])
            ]
            token_ids, mask = pad(pairs)
            with torch.autocast(device.type, torch.bfloat16, mixed):
                scores_P = called(token_ids.to(device), mask.to(device)).float()
            return torch.stack([self.objective.loss(own) for own in scores_P.split([len(cuts) for cuts in lengths])])

        return losses
