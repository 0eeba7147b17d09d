"""The retriever: a text encoder and a linear head that maps its vectors into the space of the user factors.

Its folder is a transformers and sentence-transformers model as it stands, with the head and the fold-in's settings beside.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from recspark.models.encoder import EncoderConfig, TextEncoder, load_encoder, load_tokenizer
from recspark.models.factors import FactorSettings
from recspark.models.pooling import pooling_config


@dataclass(frozen=True)
class Factors:
    """The model `factors` of the factorize stage: head (k, H), bias (k,), Gram matrix of the users (k, k), settings."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    user_gram: NDArray[np.float64]
    settings: FactorSettings

    @classmethod
    def load(cls, folder: str | Path) -> "Factors":
        tensors = load_file(f"{folder}/factors.safetensors")
        settings = FactorSettings.model_validate_json((Path(folder) / "settings.json").read_text())
        return cls(tensors["weight"], tensors["bias"], tensors["user_gram"], settings)


class Retriever(nn.Module):
    """Text to item vector: head(encoder(text))."""

    def __init__(self, encoder: TextEncoder, weight: NDArray[np.float64], bias: NDArray[np.float64]):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight))
            self.head.bias.copy_(torch.from_numpy(bias))

    def forward(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L) token ids and mask -> (B, K) item vectors."""
        return self.head(self.encoder(token_ids_BL, mask_BL))


def save_retriever(retriever: Retriever, base: EncoderConfig, settings: FactorSettings, folder: str | Path) -> None:
    """Write the folder; the tokenizer comes from the base encoder's."""
    target = Path(folder)
    retriever.encoder.backbone.save_pretrained(target, safe_serialization=True)
    save_tokenizer(base, target)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    described = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    prompts = {"query": base.query_prefix, "document": base.passage_prefix}
    files = {
        "modules.json": described,
        "sentence_bert_config.json": {"max_seq_length": base.max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": None},
        "1_Pooling/config.json": pooling_config(retriever.encoder.pooling, retriever.encoder.embedding_size),
        "recspark.json": {
            "factors": settings.model_dump(),
            "max_length": base.max_length,
            "query_prefix": base.query_prefix,
        },
    }
    for name in ("1_Pooling", "2_Normalize"):
        (target / name).mkdir(exist_ok=True)
    for name, content in files.items():
        (target / name).write_text(json.dumps(content, indent=2))
    head = {"weight": retriever.head.weight, "bias": retriever.head.bias}
    save_file(
        {n: np.ascontiguousarray(t.detach().cpu().numpy(), np.float32) for n, t in head.items()},
        target / "head.safetensors",
    )


def save_tokenizer(base: EncoderConfig, target: Path) -> None:
    """The base encoder's own, with a token to pad with: GPT-2 has none, and others pad in batches."""
    tokenizer = load_tokenizer(base.path, base.max_length, base.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(target)


def load_retriever(folder: str | Path) -> Retriever:
    """The retriever of a folder, in evaluation mode."""
    head = load_file(Path(folder) / "head.safetensors")
    return Retriever(load_encoder(folder), head["weight"], head["bias"]).eval()


def load_head(folder: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float32], FactorSettings]:
    """(weight (k, H), bias (k,), settings of the solves) without the encoder."""
    head = load_file(Path(folder) / "head.safetensors")
    settings = json.loads((Path(folder) / "recspark.json").read_text())["factors"]
    return head["weight"], head["bias"], FactorSettings(**settings)


def query_prefix_of(folder: str | Path) -> str:
    """What the retriever wants before a query."""
    return str(json.loads((Path(folder) / "recspark.json").read_text()).get("query_prefix", ""))


def max_length_of(folder: str | Path) -> int:
    """Tokens that the retriever's texts were cut to when it was trained."""
    return int(json.loads((Path(folder) / "recspark.json").read_text())["max_length"])
