"""The text encoder: a `transformers` model directory, pooled to one unit-length vector a text.

Shapes: B texts, L tokens, H the encoder's hidden size.
"""

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
from recspark.models.bottleneck import restore_bottlenecks
from recspark.models.model_folder import backbone_folder, load_weights, model_folder
from recspark.models.pooling import Pooling, pool, pooling_of
from recspark.models.prompted import prompt_of, without_prompt

PRETRAINED = "lake:pretrained"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")


class EncoderConfig(Settings):
    """Which pre-trained model reads the item texts, and how."""

    path: str = Field(
        PRETRAINED,
        description="a transformers model directory with its tokenizer, a URI of one, or a hub name (org/model); if not set, "
        "the newest model that the stage pretrain made",
    )
    max_length: int = Field(64, ge=4, le=8192, description="tokens a text is truncated to, special tokens included")
    tokens_per_batch: int = Field(2048, ge=1, description="padded tokens of one batch when texts are encoded")
    pooling: Pooling | None = Field(
        None, description="mean | cls | max | last_token; if not set, what the model's folder says, else mean"
    )
    passage_prefix: str = Field(
        "", description="put before every item text, where the model wants it, such as 'passage: '"
    )
    query_prefix: str = Field(
        "", description="put before every search query, where the model wants it, such as 'query: '"
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")


class TextEncoder(nn.Module):
    """Pooled, unit-length text vectors of a transformers model: an encoder like BERT or a decoder like GPT-2."""

    def __init__(self, backbone: nn.Module, pooling: Pooling = "mean", prompt_ids: tuple[int, ...] = ()):
        """prompt_ids: tokens that are put before every text."""
        super().__init__()
        self.backbone: Any = backbone  # a transformers or peft model
        self.pooling = pooling
        self.prompt_ids = prompt_ids

    @property
    def embedding_size(self) -> int:
        return int(self.backbone.config.hidden_size)

    def forward(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L) int64 token ids and their 0/1 mask -> (B, H) float32 of unit length."""
        if self.prompt_ids:
            prompt_BP = token_ids_BL.new_tensor(self.prompt_ids).expand(len(token_ids_BL), -1)
            token_ids_BL = torch.cat([prompt_BP, token_ids_BL], 1)
            mask_BL = torch.cat([torch.ones_like(prompt_BP), mask_BL], 1)
        states_BLH = self.backbone(input_ids=token_ids_BL, attention_mask=mask_BL).last_hidden_state
        return nn.functional.normalize(pool(self.pooling, states_BLH.float(), mask_BL), dim=-1)


def pad(texts: Sequence[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """(B, L) int64 token ids, 0 where padded, and the (B, L) mask: 1 for tokens."""
    lengths = np.fromiter((len(t) for t in texts), np.int64, len(texts))
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    token_ids = np.zeros(mask.shape, np.int64)
    if len(texts):
        token_ids[mask] = np.concatenate(texts)
    return torch.from_numpy(token_ids), torch.from_numpy(mask.astype(np.int64))


def load_encoder(path: str | Path, pooling: Pooling | None = None, trust_remote_code: bool = False) -> TextEncoder:
    """The encoder of a model directory, from safetensors, in evaluation mode and float32.

    pooling: as the folder says, if None. Raises UserError if the directory holds no readable model, or not all its weights.
    """
    from transformers import AutoModel

    folder = model_folder(path)
    backbone, missing = load_weights(AutoModel, path, backbone_folder(folder), trust_remote_code, "encoder")
    if lacking := [name for name in missing if not name.startswith("pooler.")]:
        raise UserError(
            f"encoder {path} lacks {len(lacking)} weights of its kind, such as {lacking[0]}; they would be random"
        )
    if missing:
        backbone.pooler = None  # it would be random, and no pooling here reads it
    restore_bottlenecks(backbone, folder)
    return TextEncoder(backbone, pooling or pooling_of(folder), prompt_of(folder)).eval()


def load_tokenizer(path: str | Path, max_length: int, trust_remote_code: bool = False) -> Any:
    """The model directory's own fast tokenizer, without the prompt that `TextEncoder` puts before the texts.

    Raises UserError if there is none, or if max_length and the prompt are more than the model can read.
    """
    from transformers import AutoTokenizer

    folder = model_folder(path)
    if not any((folder / name).is_file() for name in TOKENIZERS) and not list(folder.glob("*.model")):
        raise UserError(f"encoder {path} has no tokenizer; its folder lacks {', '.join(TOKENIZERS)}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        raise UserError(f"the tokenizer of {path} cannot be loaded: {str(error).splitlines()[0]}") from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer of {path} ({type(tokenizer).__name__}) has no fast form, which is needed here")
    prompt_ids = prompt_of(folder)
    check_length(folder, max_length, len(prompt_ids))
    return without_prompt(tokenizer, prompt_ids) if prompt_ids else tokenizer


def check_length(folder: Path, max_length: int, prompt: int) -> None:
    """UserError if the model has too few positions for the longest text behind a prompt of so many tokens."""
    limit = longest_text(folder)
    if limit and max_length + prompt > limit:
        behind = f" and the prompt has {prompt} tokens" if prompt else ""
        raise UserError(f"encoder.max_length is {max_length}{behind}, but {folder} reads at most {limit} tokens")


def longest_text(folder: Path) -> int | None:
    """Tokens that the model has positions for, if their number is fixed. RoBERTa and its kin count them from behind the padding id."""
    said = json.loads((backbone_folder(folder) / "config.json").read_text())
    limit = said.get("max_position_embeddings") or said.get("n_positions")
    shifted = any(kind in said.get("model_type", "") for kind in ("roberta", "camembert", "mpnet"))
    before = (said.get("pad_token_id") or 1) + 1 if shifted else 0
    return limit - before if limit else None
