"""The sequence model's lesson: after each event of a user, which item came next; or, of what a user had, the one half from the other.

Shapes: B windows, L events of the longest, M items, D length of vectors, W wanted places of all windows.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from recspark.data.catalogue import Catalogue
from recspark.models.sequence import SequenceModel, SequenceShape
from recspark.training.launcher import Ranks
from recspark.training.learner import Losses, mixed_precision
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
        asked = self.in_order if self.shape.reads == "order" else self.of_sets
        mixed = mixed_precision(device)

        def losses(called: nn.Module, step: Step, epoch: int) -> Tensor:
            weights = torch.from_numpy(step.numbers["weight"].astype(np.float32)).to(device)
            with torch.autocast(device.type, torch.bfloat16, mixed):
                return asked(called, step, epoch, device) * weights

        return losses

    def in_order(self, called: nn.Module, step: Step, epoch: int, device: torch.device) -> Tensor:
        """(B,) Sums over the wanted events. A window's last event is wanted, and never read."""
        rows = step.arrays["positions"]
        of_row, place, target = wanted_places(rows, step.arrays["wanted"])
        after_BLD, items_MD = called(padded([row[:-1] for row in rows], device))
        scores_WM = self.scores(after_BLD[of_row, place], items_MD)
        found_W = cross_entropy(scores_WM, torch.from_numpy(target).to(device), reduction="none")
        return torch.zeros(len(rows), device=device).index_add(0, torch.from_numpy(of_row).to(device), found_W)

    def scores(self, after_XD: Tensor, items_MD: Tensor) -> Tensor:
        """(X, M) in float32 whatever the model ran in: of a cosine near 1 bf16 keeps two digits, and the temperature makes much of the third."""
        with torch.autocast(after_XD.device.type, enabled=False):
            return after_XD.float() @ items_MD.float().T / self.temperature

    def of_sets(self, called: nn.Module, step: Step, epoch: int, device: torch.device) -> Tensor:
        """(B,) Means over the items that are asked for, times the wanted events. What is read cannot be meant."""
        learned = step.key[0] == "train"
        halves = [
            drawn_halves(row, self.seed, epoch) if learned else (row[wanted == 0], row[wanted == 1])
            for row, wanted in zip(step.arrays["positions"], step.arrays["wanted"], strict=True)
        ]
        after_BLD, items_MD = called(padded([read for read, _ in halves], device))
        counts = torch.tensor([len(read) for read, _ in halves], device=device)
        after_BD = (
            after_BLD[torch.arange(len(halves), device=device), (counts - 1).clamp(min=0)] * (counts > 0)[:, None]
        )
        scores_BM = self.scores(after_BD, items_MD)
        read_BM, asked_BM = (marked([half[side] for half in halves], items_MD.shape[0], device) for side in (0, 1))
        asked_BM &= ~read_BM
        # Not -inf: of one who read all that there is, the gradient would be NaN.
        lowest = torch.finfo(scores_BM.dtype).min
        likely_BM = scores_BM.masked_fill(read_BM, lowest).log_softmax(-1).masked_fill(~asked_BM, 0)
        means_B = -likely_BM.sum(1) / asked_BM.sum(1).clamp(min=1)
        return means_B * torch.tensor([float(w.sum()) for w in step.arrays["wanted"]], device=device)


def drawn_halves(positions: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items in two halves, the greater first, drawn anew each epoch by what the window holds."""
    items = np.unique(positions)
    order = np.random.default_rng((seed, epoch, zlib.crc32(positions.tobytes()))).permutation(len(items))
    greater = (len(items) + 1) // 2
    return items[order[:greater]], items[order[greater:]]


def padded(rows: list[np.ndarray], device: torch.device) -> Tensor:
    """(B, L) positions, 0 beyond a row's end."""
    filled = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
    for number, row in enumerate(rows):
        filled[number, : len(row)] = row
    return torch.from_numpy(filled).to(device)


def marked(rows: list[np.ndarray], items: int, device: torch.device) -> Tensor:
    """(B, M) whether the item is in the row."""
    there = np.zeros((len(rows), items), bool)
    for number, row in enumerate(rows):
        there[number, row] = True
    return torch.from_numpy(there).to(device)


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
