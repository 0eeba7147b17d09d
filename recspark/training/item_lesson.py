"""The fine-tuning's lesson: from an item's text to its vector, under a loss that needs of its users only sums.

Shapes: B items, L tokens, K factors, M rows of the longest root in the batch.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from recspark.lake import local_folder
from recspark.models.adaptation import Adaptation, LastLayers
from recspark.models.encoder import EncoderConfig, check_length, load_encoder, pad
from recspark.models.model_folder import model_folder
from recspark.models.objectives import CorrectedAllPairs, ItemTargets, Objective, PairObjective, losses_at
from recspark.models.retriever import Factors, Retriever
from recspark.training.kept import KeptSteps
from recspark.training.launcher import Ranks
from recspark.training.learner import Losses, TrainingSettings, mixed_precision, set_dropout
from recspark.training.prefix import KeptStates, keep_prefix
from recspark.training.reader import Columns, Shard, Step

NUMBERS = ("positives", "penalty", "unobserved", "weight")


class ItemSettings(TrainingSettings):
    """What of the encoder learns, and under which loss."""

    adaptation: Adaptation = LastLayers()
    objective: Objective = CorrectedAllPairs()
    head_learning_rate: float = Field(
        1e-3, gt=0, description="peak, of the linear head; the encoder's is the adaptation's"
    )
    prefix_gib: float = Field(
        4.0, ge=0, description="disk a rank may take to keep what frozen lower layers make of the texts; 0: never kept"
    )
    forms_gib: float = Field(
        4.0, ge=0, description="disk a rank may take to keep the losses' forms, 4 (k + 1)² bytes an item; 0: never kept"
    )


@dataclass(frozen=True)
class ItemLesson:
    """factors: the model `factors` in the lake. dropout: of the encoder."""

    settings: ItemSettings
    base: EncoderConfig
    factors: str

    @property
    def columns(self) -> Columns:
        arrays = {"tokens": "<i4", "user_sum": "<f4", "user_root": "<f4"}
        return Columns("item_id", NUMBERS, {name: np.dtype(kind) for name, kind in arrays.items()})

    def make_model(self) -> Retriever:
        """The base encoder, adapted, under the head that the factorization fitted."""
        factors = Factors.load(local_folder(self.factors))
        encoder = load_encoder(self.base.path, self.base.pooling, self.base.trust_remote_code)
        set_dropout(encoder, self.settings.dropout)
        self.settings.adaptation.apply(encoder)
        check_length(model_folder(self.base.path), self.base.max_length, len(encoder.prompt_ids))
        return Retriever(encoder, factors.weight, factors.bias)

    def learning_rate(self, parameter: str) -> float:
        settings = self.settings
        return settings.head_learning_rate if parameter.startswith("head.") else settings.adaptation.learning_rate

    def losses(self, model: nn.Module, shard: Shard, device: torch.device, ranks: Ranks) -> Losses:
        factors, objective = Factors.load(local_folder(self.factors)), self.settings.objective
        gram_KK = torch.from_numpy(factors.user_gram).float().to(device)
        kept, forms = self.keep_prefix(model, shard, device), KeptSteps(int(self.settings.forms_gib * 2**30))
        mixed = mixed_precision(device)

        def forms_of(step: Step) -> Tensor:
            assert not isinstance(objective, PairObjective)
            return objective.forms(targets_of(step, len(gram_KK), device), gram_KK)

        def losses(called: nn.Module, step: Step, epoch: int) -> Tensor:
            token_ids, mask = (t.to(device) for t in pad(step.arrays["tokens"]))
            with torch.autocast(device.type, torch.bfloat16, mixed), below(kept, step, token_ids, mask):
                vectors = called(token_ids, mask)
            return losses_at(vectors.float(), forms.of(step.key, lambda: forms_of(step), device))

        return losses

    def keep_prefix(self, model: nn.Module, shard: Shard, device: torch.device) -> KeptStates | None:
        """What the frozen layers make of the shard's texts, kept from the first epoch on, where the settings and the model allow it."""

        def sample() -> tuple[Tensor, Tensor]:
            token_ids, mask = pad(shard.step("train", 0).arrays["tokens"][:4])
            return token_ids.to(device), mask.to(device)

        return keep_prefix(model.encoder, int(self.settings.prefix_gib * 2**30), sample)  # type: ignore[arg-type]


def below(kept: KeptStates | None, step: Step, token_ids: Tensor, mask: Tensor) -> AbstractContextManager[None]:
    """Within it, what the frozen layers make of the step is taken from where it is kept, if it is."""
    return nullcontext() if kept is None else kept.under(step.key, token_ids, mask)


def targets_of(step: Step, factors: int, device: torch.device) -> ItemTargets:
    """What the loss needs of the step's items, roots padded with rows of zeros."""
    positives, *others = (step.numbers[name] for name in NUMBERS)
    numbers = (positives, np.stack(step.arrays["user_sum"]), padded_roots(step.arrays["user_root"], factors), *others)
    return ItemTargets(*(torch.from_numpy(np.asarray(n, np.float32)).to(device) for n in numbers))


def padded_roots(roots: Sequence[NDArray[np.float32]], factors: int) -> NDArray[np.float32]:
    """(B, M, K)"""
    matrices = [root.reshape(-1, factors) for root in roots]
    padded = np.zeros((len(roots), max((len(m) for m in matrices), default=0), factors), np.float32)
    for position, matrix in enumerate(matrices):
        padded[position, : len(matrix)] = matrix
    return padded
