"""The fine-tuning's other lesson: from a user's history to the target, under an objective by pair.

The history's side comes from vectors of all items that are kept, and made anew before each epoch and each look at the held-out
examples; texts are read of the step's distinct items alone. Shapes: B examples, N items of the longest history, K factors.
"""

import shutil
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recspark.models.encoder import EncoderConfig, pad
from recspark.models.objectives import Mse, PairObjective, Pairs, parts_of
from recspark.models.retriever import Retriever
from recspark.training.item_lesson import ItemLesson, ItemSettings
from recspark.training.kept import SPARE
from recspark.training.launcher import Gathered, Ranks
from recspark.training.learner import Losses, mixed_precision
from recspark.training.pair_items import ItemStates, KeptVectors, PairItems, PairUsers, Positions, spread_over
from recspark.training.pair_step import Draws, PairSettings, StepItems, candidates_of
from recspark.training.prefix import keep_prefix
from recspark.training.reader import Columns, Shard, Step

ENCODED = 128  # texts of one batch when all items are encoded


class PairModel(nn.Module):
    """A retriever and what the parts of the objective learn beside it."""

    def __init__(self, retriever: Retriever, objective: PairObjective):
        super().__init__()
        self.retriever = retriever
        size = retriever.head.out_features
        self.learned = nn.ModuleList([part.objective.learned(size) for part in parts_of(objective)])

    def forward(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, K) item vectors."""
        return self.retriever(token_ids_BL, mask_BL)


@dataclass(frozen=True)
class PairLesson:
    """factors: the model `factors` in the lake; items, users: the tables pair_items and pair_users of the run date."""

    settings: ItemSettings
    objective: PairObjective
    pairs: PairSettings
    base: EncoderConfig
    factors: str
    items: str
    users: str
    seed: int

    @property
    def rated(self) -> bool:
        return any(isinstance(part.objective, Mse) for part in parts_of(self.objective))

    @property
    def columns(self) -> Columns:
        arrays = {"history": "<i4"}
        arrays |= {"mined": "<i4"} if self.pairs.hard_negatives else {}
        arrays |= {"history_ratings": "<f4"} if self.rated else {}
        numbers = ("key", "user", "target", "weight", *(("rating", "user_bias") if self.rated else ()))
        return Columns("example", numbers, {name: np.dtype(kind) for name, kind in arrays.items()})

    def make_model(self) -> PairModel:
        """The base encoder, adapted, under the head that the factorization fitted."""
        return PairModel(ItemLesson(self.settings, self.base, self.factors).make_model(), self.objective)

    def learning_rate(self, parameter: str) -> float:
        inside = parameter.startswith("retriever.encoder.")
        return self.settings.adaptation.learning_rate if inside else self.settings.head_learning_rate

    def losses(self, model: nn.Module, shard: Shard, device: torch.device, ranks: Ranks) -> Losses:
        assert isinstance(model, PairModel)
        items, parts = PairItems(self.items), parts_of(self.objective)
        users = PairUsers(self.users, shard.plain["user"])
        draws = Draws(items, max(part.objective.random_negatives for part in parts), self.pairs, self.seed)
        limit = int(self.settings.prefix_gib * 2**30)
        reading = Reading(model, items, limit, self.pairs.refresh_steps, device, ranks)

        def losses(called: nn.Module, step: Step, epoch: int) -> Tensor:
            reading.keep_up(step, epoch)
            step = users.beside(step)
            drawn, mined = draws.of(step, epoch)
            found = StepItems.of(step.numbers["target"].astype(np.int64), drawn, mined, ranks)
            fresh_DK = spread_over(found.positions, lambda p: reading.vectors(called, p), ranks, Gathered.apply)
            kept_MK = reading.kept.vectors
            sides, scopes = self.history_of(step, kept_MK, items), {part.objective.scope for part in parts}
            chosen = {scope: candidates_of(scope, step, found, fresh_DK, kept_MK, items, draws) for scope in scopes}
            total = torch.zeros(len(step), device=device)
            for part, learned in zip(parts, model.learned, strict=True):
                assert isinstance(learned, nn.ParameterDict)
                total = total + part.weight * part.objective.losses(
                    Pairs(chosen[part.objective.scope], *sides), learned
                )
            return total * torch.from_numpy(step.numbers["weight"]).to(device)

        return losses

    def history_of(self, step: Step, kept_MK: Tensor, items: PairItems) -> tuple[Tensor, ...]:
        """history (B, N, K), weights (B, N), residuals (B, N), ratings (B,), biases (B,)."""
        history = padded(step.arrays["history"]).astype(np.int64)
        there = np.arange(history.shape[1]) < np.array([len(h) for h in step.arrays["history"]])[:, None]
        weights = there * self.pairs.history_decay ** np.arange(history.shape[1])
        weights /= weights.sum(1, keepdims=True)
        residuals, ratings, biases = np.zeros(history.shape), np.zeros(len(step)), np.zeros(len(step))
        if self.rated:
            of_user, target = step.numbers["user_bias"], step.numbers["target"]
            told = of_user[:, None] + items.bias[history]
            residuals = there * (padded(step.arrays["history_ratings"]) - told)
            ratings, biases = step.numbers["rating"], of_user + items.bias[target]
        vectors = kept_MK[torch.from_numpy(history).to(kept_MK.device)]
        numbers = (torch.from_numpy(np.asarray(a, np.float32)) for a in (weights, residuals, ratings, biases))
        return vectors, *(number.to(kept_MK.device) for number in numbers)


class Reading:
    """Reads items' texts, and keeps the vectors of all of them."""

    def __init__(
        self,
        model: PairModel,
        items: PairItems,
        limit: int,
        refresh_steps: int | None,
        device: torch.device,
        ranks: Ranks,
    ):
        """limit: bytes for what frozen layers make of the items. refresh_steps: see `PairSettings`."""
        self.model, self.items, self.device, self.ranks = model, items, device, ranks
        self.refresh_steps = refresh_steps
        self.kept = KeptVectors(len(items), model.retriever.head.out_features, device)
        self.mixed = mixed_precision(device)
        self.states = self.keep_states(limit)
        self.learned, self.epoch = 0, -1  # steps learned since the vectors were made; the epoch they are for

    def keep_states(self, limit: int) -> ItemStates | None:
        """What frozen lower layers make of each item, kept by item, where the model allows it and the limit is enough for all."""

        def sample() -> tuple[Tensor, Tensor]:
            token_ids, mask = pad(self.items.texts(np.arange(min(4, len(self.items)))))
            return token_ids.to(self.device), mask.to(self.device)

        kept = keep_prefix(self.model.retriever.encoder, limit, sample)
        free = shutil.disk_usage(tempfile.gettempdir()).free - SPARE
        if kept is None or ItemStates.size(kept.prefix, self.items) > min(limit, free):
            return None
        try:
            return ItemStates(kept.prefix, self.items)
        except OSError:  # another rank of this machine has taken the room meanwhile
            return None

    def vectors(self, called: nn.Module, positions: Positions) -> Tensor:
        """(n, K) of items, by the model to call."""
        token_ids, mask = (t.to(self.device) for t in pad(self.items.texts(positions)))
        with torch.autocast(self.device.type, torch.bfloat16, self.mixed), self.below(positions):
            return called(token_ids, mask).float()

    def below(self, positions: Positions) -> AbstractContextManager[object]:
        """Within it, what the frozen layers make of the items is taken from where it is kept, if it is."""
        return (
            nullcontext() if self.states is None else self.states.prefix.given(self.states.of(positions, self.device))
        )

    def keep_up(self, step: Step, epoch: int) -> None:
        """Make all vectors anew if the model has learned since, and an epoch or a look at held-out examples begins, or it is time."""
        learns = step.key[0] == "train"
        begins = not learns or epoch != self.epoch
        if self.epoch < 0 or (self.learned and (begins or self.learned == self.refresh_steps)):
            self.refresh()
            self.learned = 0
        self.epoch = epoch
        self.learned += learns

    def refresh(self) -> None:
        was = self.model.training
        self.model.eval()
        with torch.no_grad():
            self.kept.refresh(self.items.lengths(np.arange(len(self.items))), self.encode, self.ranks)
        self.model.train(was)

    def encode(self, positions: Positions) -> Tensor:
        """(n, K) in batches, by the model itself."""
        cuts = range(0, len(positions), ENCODED)
        return torch.cat([self.vectors(self.model, positions[cut : cut + ENCODED]) for cut in cuts])


def padded(rows: list[NDArray]) -> NDArray:
    """(B, N), 0 beyond a row's end."""
    out = np.zeros((len(rows), max(map(len, rows))), rows[0].dtype)
    for position, row in enumerate(rows):
        out[position, : len(row)] = row
    return out
