"""Prompt tuning."""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recspark.config import Settings
from recspark.errors import UserError
from recspark.models.adaptation.layers import freeze
from recspark.models.encoder import TextEncoder


class Prompt(Settings):
    """Virtual tokens before every text learn, and nothing else (Lester et al. 2021).

    They are ids past the vocabulary. Merging puts their rows at the end of the embedding matrix: they are real tokens then,
    which the published tokenizer puts before every text, so that other libraries give the same vectors. A new prompt does
    change the vectors.
    """

    kind: Literal["prompt"] = "prompt"
    learning_rate: float = Field(1e-2, gt=0, description="peak, of the prompt")
    tokens: int = Field(8, ge=1, description="virtual tokens; they take positions from the model's longest text")

    def apply(self, encoder: TextEncoder) -> None:
        """They begin as rows of the vocabulary, drawn by the sizes alone: the same on every rank.

        Raises UserError for embeddings that are not a plain table, and for cls pooling, which would read a virtual token.
        """
        freeze(encoder)
        plain = encoder.backbone.get_input_embeddings()
        if type(plain) is not nn.Embedding:
            raise UserError(
                f"finetune.adaptation prompt: embeddings are {type(plain).__name__}, not a plain table; use lora"
            )
        if encoder.pooling == "cls":
            raise UserError(
                "finetune.adaptation prompt: pooling cls would read a virtual token; use mean, or another way"
            )
        drawn = np.random.default_rng([plain.num_embeddings, self.tokens]).integers(
            plain.num_embeddings, size=self.tokens
        )
        encoder.backbone.set_input_embeddings(PromptedEmbedding(plain, plain.weight[torch.from_numpy(drawn)]))
        first = plain.num_embeddings
        encoder.prompt_ids = (*range(first, first + self.tokens), *encoder.prompt_ids)

    def merge(self, encoder: TextEncoder) -> None:
        prompted: PromptedEmbedding = encoder.backbone.get_input_embeddings()
        rows = torch.cat([prompted.plain.weight, prompted.prompt_PH]).detach()
        merged = nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=prompted.plain.padding_idx)
        encoder.backbone.set_input_embeddings(merged)
        encoder.backbone.config.vocab_size = len(rows)


class PromptedEmbedding(nn.Module):
    """A table of V rows, frozen, and a prompt of P rows for the ids from V on."""

    def __init__(self, plain: nn.Embedding, rows_PH: Tensor):
        super().__init__()
        self.plain: Any = plain
        self.prompt_PH = nn.Parameter(rows_PH.detach().clone())

    def forward(self, token_ids_BL: Tensor) -> Tensor:
        """(B, L, H)"""
        past = token_ids_BL - self.plain.num_embeddings
        words_BLH = self.plain(torch.where(past < 0, token_ids_BL, 0))
        return torch.where((past >= 0).unsqueeze(-1), self.prompt_PH[past.clamp(min=0)], words_BLH)
