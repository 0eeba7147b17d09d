"""The sequence model's lesson: after each event of a user, which item came next.

Shapes: B windows, L events of the longest, M items, D length of vectors, W wanted places of all windows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from recspark.data.catalogue import Catalogue
from recspark.models.sequence import SequenceModel, SequenceShape
from recspark.training.launcher import Ranks
from recspark.training.learner import Losses
from recspark.training.reader import Columns, Shard, Step


@dataclass(frozen=True)
class SequenceLesson:
    """catalogue: with the columns `texts` of text vectors, none if it reads none. own: items have vectors of their own.
    temperature: of the softmax over all items. peak: the learning rate."""

    catalogue: Catalogue
    texts: tuple[str, ...]
    own: bool
    shape: SequenceShape
    dropout: float
    temperature: float
    peak: float
    seed: int

    @property
    def columns(self) -> Columns:
        return Columns("window", ("weight",), {"positions": np.dtype("<i4"), "wanted": np.dtype("<i4")})

    def make_model(self) -> SequenceModel:
        """Random weights, the same on every rank."""
        torch.manual_seed(self.seed)
        columns = [centred(self.catalogue.array(name)) for name in self.texts]
        texts_MT = torch.from_numpy(np.hstack(columns)) if columns else None
        return SequenceModel(texts_MT, self.catalogue.items, self.own, self.shape, self.dropout)

    def learning_rate(self, parameter: str) -> float:
        return self.peak

    def losses(self, model: nn.Module, shard: Shard, device: torch.device, ranks: Ranks) -> Losses:
        mixed = device.type == "cuda" and torch.cuda.is_bf16_supported()

        def losses(called: nn.Module, step: Step, epoch: int) -> Tensor:
            # A window's last event is wanted, and never read; of the others, each is what comes after the one before.
            rows = step.arrays["positions"]
            longest = max(map(len, rows)) - 1
            read = np.zeros((len(rows), longest), np.int64)
            for row, positions in enumerate(rows):
                read[row, : len(positions) - 1] = positions[:-1]
            of_row, place, target = wanted_places(rows, step.arrays["wanted"])
            with torch.autocast(device.type, torch.bfloat16, mixed):
                after_BLD, items_MD = called(torch.from_numpy(read).to(device))
                scores_WM = after_BLD[of_row, place] @ items_MD.T / self.temperature
            found_W = cross_entropy(scores_WM.float(), torch.from_numpy(target).to(device), reduction="none")
            sums = torch.zeros(len(rows), device=device).index_add(0, torch.from_numpy(of_row).to(device), found_W)
            return sums * torch.from_numpy(step.numbers["weight"].astype(np.float32)).to(device)

        return losses


def wanted_places(positions: list[np.ndarray], wanted: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(W,) each: the window, the event before the one that is wanted, and that one's position in the catalogue."""
    places = [np.flatnonzero(row) for row in wanted]
    of_row = np.repeat(np.arange(len(places)), [len(p) for p in places])
    target = np.concatenate([own[p] for own, p in zip(positions, places, strict=True)])
    return of_row, np.concatenate(places) - 1, target.astype(np.int64)


def centred(vectors_MT: np.ndarray) -> np.ndarray:
    """Text vectors less their mean over the catalogue, of unit length again; what is alike everywhere says nothing."""
    moved = vectors_MT - vectors_MT.mean(0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return (moved / np.maximum(lengths, 1e-6)).astype(np.float32)
