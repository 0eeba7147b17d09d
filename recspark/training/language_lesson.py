"""The pre-training's lesson: the language of a corpus, in blocks of tokens."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recspark.lake import local_folder
from recspark.models.language import LanguageObjective, Start, base_of, block_losses, token_losses
from recspark.training.launcher import Ranks
from recspark.training.learner import Losses, mixed_precision, set_dropout
from recspark.training.reader import Columns, Shard, Step


@dataclass(frozen=True)
class LanguageLesson:
    """tokenizer: its folder, in the lake. peak: the learning rate."""

    start: Start
    objective: LanguageObjective
    tokenizer: str
    block_length: int
    dropout: float
    peak: float
    seed: int

    @property
    def columns(self) -> Columns:
        return Columns("block", ("block",), {"tokens": np.dtype("<i4"), "words": np.dtype("<i4")})

    def make_model(self) -> nn.Module:
        """Random weights and all: the same on every rank."""
        model = self.start.make(tokenizer_in(self.tokenizer), self.objective.both_ways, self.block_length, self.seed)
        set_dropout(model, self.dropout)
        return model

    def learning_rate(self, parameter: str) -> float:
        return self.peak

    def losses(self, model: nn.Module, shard: Shard, device: torch.device, ranks: Ranks) -> Losses:
        tokenizer = tokenizer_in(self.tokenizer)
        mixed = mixed_precision(device)
        base = base_of(model)
        others = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)

        def losses(called: nn.Module, step: Step, epoch: int) -> Tensor:
            examples = []
            for block, tokens, words in zip(
                step.numbers["block"], step.arrays["tokens"], step.arrays["words"], strict=True
            ):
                draw = np.random.default_rng([self.seed, epoch, int(block)])
                examples.append(self.objective.example(tokens, words, draw, tokenizer.mask_token_id, others))
            read, wanted = zip(*examples, strict=True)
            with torch.autocast(device.type, torch.bfloat16, mixed):
                if step.key[0] == "valid":  # a perplexity is of tokens: the last block of a corpus may hold one
                    return token_losses(called, read, wanted, device, base)[0]
                return block_losses(called, read, wanted, device, base)

        return losses


@cache
def tokenizer_in(folder: str) -> Any:
    """The tokenizer, loaded once a process."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(local_folder(folder)), local_files_only=True)
