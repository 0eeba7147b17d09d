"""The text encoder: a `transformers` model directory, pooled to one unit-length vector a text.

Shapes: B texts, L tokens, H the encoder's hidden size.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from recspark.config import Settings
from recspark.errors import UserError


class EncoderConfig(Settings):
    """Which pre-trained encoder reads the item texts."""

    path: str = Field(description="a transformers model directory with its tokenizer")
    max_length: int = Field(64, ge=4, le=8192, description="tokens a text is truncated to, special tokens included")
    tokens_per_batch: int = Field(2048, ge=1, description="padded tokens of one batch when texts are encoded")


class TextEncoder(nn.Module):
    """Mean-pooled, unit-length text vectors of a transformers encoder."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone: Any = backbone  # a transformers or peft model

    @property
    def embedding_size(self) -> int:
        return int(self.backbone.config.hidden_size)

    def forward(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L) int64 token ids and their 0/1 mask -> (B, H) float32 of unit length."""
        states_BLH = self.backbone(input_ids=token_ids_BL, attention_mask=mask_BL).last_hidden_state
        return mean_pool(states_BLH.float(), mask_BL)


def mean_pool(states_BLH: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean over a text's tokens, scaled to unit length (Reimers and Gurevych 2019, Sentence-BERT)."""
    weights = mask_BL.unsqueeze(-1).to(states_BLH.dtype)
    mean = (states_BLH * weights).sum(1) / weights.sum(1).clamp(min=1)
    return nn.functional.normalize(mean, dim=-1)


def pad(texts: Sequence[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """(B, L) int64 token ids, 0 where padded, and the (B, L) mask: 1 for tokens."""
    longest = max((len(t) for t in texts), default=0)
    token_ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in enumerate(texts):
        token_ids[row, : len(text)] = torch.from_numpy(np.array(text, np.int64))
        mask[row, : len(text)] = 1
    return token_ids, mask


def load_encoder(path: str | Path) -> TextEncoder:
    """The encoder of a model directory, from safetensors, in evaluation mode and float32.

    Raises UserError if the directory holds no readable model.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    require_model_folder(path)
    logging.disable_progress_bar()  # a bar for each worker's 50 ms of loading
    try:
        backbone = AutoModel.from_pretrained(
            str(path),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
    except Exception as error:
        raise UserError(f"encoder {path} cannot be loaded: {str(error).splitlines()[0]}") from error
    return TextEncoder(backbone).eval()


def load_tokenizer(path: str | Path, max_length: int) -> Any:
    """The model directory's own fast tokenizer.

    Raises UserError if there is none, or if max_length is more than the model can read.
    """
    from transformers import AutoTokenizer

    require_model_folder(path)
    limit = json.loads((Path(path) / "config.json").read_text()).get("max_position_embeddings")
    if limit and max_length > limit:
        raise UserError(f"encoder.max_length is {max_length}, but {path} reads at most {limit} tokens")
    try:
        return AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UserError(f"the tokenizer of {path} cannot be loaded: {str(error).splitlines()[0]}") from error


def require_model_folder(path: str | Path) -> None:
    """UserError unless the folder looks like a transformers model with safetensors weights."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"encoder.path {path} is not a folder; give a transformers model directory")
    lacking = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
    if lacking:
        raise UserError(f"encoder.path {path} lacks {' and '.join(lacking)}; weights are read from safetensors only")


def encoder_hash(path: str | Path) -> str:
    """Content hash of what decides the vectors: configuration, weights and tokenizer."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        file = Path(path) / name
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
