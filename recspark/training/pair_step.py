"""From the examples of a step to what the objectives by pair see: candidates, masks, and the probability of each candidate.

All ranks agree on the step's items, each encodes its share of them, and all get all, so the losses of an example are the same
whatever the number of ranks. Shapes: b this rank's examples, D distinct items of the step, M all items, n drawn an example.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from recspark.config import Settings
from recspark.models.objectives import Candidates
from recspark.models.objectives.pairs import Scope
from recspark.training.launcher import Ranks
from recspark.training.pair_items import PairItems, Positions
from recspark.training.reader import Step

TARGET, DRAWN, MINED = range(3)


class PairSettings(Settings):
    """What an example is made of, where the objective is one by pair."""

    history: Literal["before", "others"] = Field(
        "before",
        description="the user's items before the target, or all others; `others` suits a split within the log's own time",
    )
    history_size: int = Field(50, ge=1, description="newest items of the history that count")
    history_decay: float = Field(0.9, gt=0, le=1, description="weight of an item over that of the next newer one")
    refresh_steps: int | None = Field(
        None,
        ge=1,
        description="steps after which the histories' vectors are made anew within an epoch; never, if not set",
    )
    max_examples_per_user: int | None = Field(
        None, ge=1, description="targets a user may have, drawn by a hash of the ids; all if not set"
    )
    known_positives: int = Field(
        1000, ge=1, description="a user's newest items that are looked at, as history and so that none is a negative"
    )
    popularity_exponent: float = Field(
        0.0,
        ge=0,
        le=1,
        description="random negatives are drawn as often as items are targets, to this power; 0: uniformly",
    )
    hard_negatives: int = Field(
        0, ge=0, description="items an example draws anew each epoch of those mined from the last earlier candidates"
    )
    hard_ranks: tuple[int, int] = Field((10, 100), description="ranks, first and last, that are mined")

    @model_validator(mode="after")
    def _ranks_in_order(self) -> Self:
        first, last = self.hard_ranks
        if not 1 <= first <= last:
            raise ValueError(f"hard_ranks are the first and the last that are mined, from 1; found [{first}, {last}]")
        return self


@dataclass(frozen=True)
class StepItems:
    """The distinct items of a step over all ranks, ascending, and what each is there as; (D,)."""

    positions: Positions
    drawn: NDArray[np.bool_]
    mined: NDArray[np.bool_]

    @classmethod
    def of(cls, targets: Positions, drawn: Positions, mined: Positions, ranks: Ranks) -> "StepItems":
        """From what this rank's examples ask for."""
        codes = np.concatenate([3 * np.unique(p) + kind for kind, p in enumerate((targets, drawn, mined))])
        together = np.unique(ranks.gather(torch.from_numpy(codes)).cpu().numpy())
        positions, kinds = together // 3, together % 3
        found = np.unique(positions)
        return cls(found, *(np.isin(found, positions[kinds == kind]) for kind in (DRAWN, MINED)))

    def columns(self, positions: Positions) -> Positions:
        """Places in `positions`; -1 of items that are not there."""
        places = np.searchsorted(self.positions, positions).clip(max=len(self.positions) - 1)
        return np.where(self.positions[places] == positions, places, -1)


class Draws:
    """Negatives of examples, from generators that know the seed, the epoch and the example alone."""

    def __init__(self, items: PairItems, random: int, settings: PairSettings, seed: int):
        self.random, self.hard, self.seed = random, settings.hard_negatives, seed
        share = items.share**settings.popularity_exponent if settings.popularity_exponent else np.ones(len(items))
        self.probability = share / share.sum()
        self.cumulated = np.cumsum(self.probability)

    def of(self, step: Step, epoch: int) -> tuple[Positions, Positions]:
        """(drawn, mined) of all examples of the share."""
        drawn, mined = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for row, key in enumerate(step.numbers["key"]):
            draw = np.random.default_rng([self.seed, epoch, int(key) % 2**63])
            places = np.searchsorted(self.cumulated, draw.random(self.random) * self.cumulated[-1], side="right")
            drawn.append(places.clip(max=len(self.cumulated) - 1))
            if self.hard:
                pool = step.arrays["mined"][row]
                mined.append(draw.choice(pool, min(self.hard, len(pool)), replace=False).astype(np.int64))
        return np.concatenate(drawn), np.concatenate(mined)


def log_q(scope: Scope, found: StepItems, items: PairItems, draws: Draws, size: int) -> NDArray[np.float64]:
    """(D,) log of the probability that an item is a candidate of a step of `size` examples, as a target or drawn.

    1 − (1 − p)^size (1 − q)^(n size), p the share of targets (0 in the scope `drawn`) and q the probability of a draw.
    """
    with np.errstate(divide="ignore"):
        missed = np.zeros(len(found.positions))
        if draws.random:
            missed = size * draws.random * np.log1p(-draws.probability[found.positions])
        if scope == "step":
            missed = missed + size * np.log1p(-items.share[found.positions])
    return np.log(np.maximum(-np.expm1(missed), 1e-12))


def candidates_of(
    scope: Scope, step: Step, found: StepItems, fresh_DK: Tensor, kept_MK: Tensor, items: PairItems, draws: Draws
) -> Candidates:
    """What an objective of the scope scores the examples against."""
    device, targets = fresh_DK.device, step.numbers["target"].astype(np.int64)
    positives = [positions.astype(np.int64) for positions in step.arrays["positives"]]
    owner = np.repeat(np.arange(len(step)), [len(p) for p in positives])
    of_users = np.concatenate(positives)
    if scope == "catalogue":
        negative = np.ones((len(step), len(items)), bool)
        negative[owner, of_users] = False
        vectors = kept_MK.index_copy(0, torch.from_numpy(found.positions).to(device), fresh_DK)
        columns, logs = targets, np.zeros(len(items))
        own = np.zeros(len(step))
    else:
        allowed = np.ones(len(found.positions), bool) if scope == "step" else found.drawn | found.mined
        negative, places = np.tile(allowed, (len(step), 1)), found.columns(of_users)
        negative[owner[places >= 0], places[places >= 0]] = False
        vectors, columns, there = fresh_DK, found.columns(targets), log_q(scope, found, items, draws, step.size)
        logs, own = np.where(found.mined, 0.0, there), there[columns]  # what was mined is certain to be there
    negative[np.arange(len(step)), columns] = False
    arrays = columns, negative, logs.astype(np.float32), own.astype(np.float32)
    return Candidates(vectors, *(torch.from_numpy(array).to(device) for array in arrays))
