"""The retriever: a text encoder and a linear head that maps its vectors into the space of the user factors.

Its folder is a transformers and sentence-transformers model as it stands, with the head and the fold-in's settings beside. Not
so with adapters, which those libraries do not know: then the plain transformers model is in the sub-folder `backbone`, the
adapters' sizes and tensors are in adapter.json and adapter.safetensors, and as there is neither config.json nor modules.json,
the others refuse the folder. `load_encoder` and `load_tokenizer` read either.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from recspark.models.bottleneck import bottlenecks, save_with_bottlenecks
from recspark.models.encoder import EncoderConfig, TextEncoder, load_encoder, load_tokenizer
from recspark.models.factors import FactorSettings
from recspark.models.pooling import pooling_config
from recspark.models.prompted import with_prompt


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
    target, encoder = Path(folder), retriever.encoder
    max_length = base.max_length + len(encoder.prompt_ids)
    files = {
        "1_Pooling/config.json": pooling_config(encoder.pooling, encoder.embedding_size),
        "recspark.json": {
            "factors": settings.model_dump(),
            "max_length": base.max_length,
            "prompt_ids": encoder.prompt_ids,
            "query_prefix": base.query_prefix,
        },
    }
    target.mkdir(parents=True, exist_ok=True)
    if bottlenecks(encoder.backbone):
        save_with_bottlenecks(encoder.backbone, target)
    else:
        encoder.backbone.save_pretrained(target, safe_serialization=True)
        files |= for_sentence_transformers(base, max_length)
    save_tokenizer(base, encoder.prompt_ids, target)
    for name, content in files.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text(json.dumps(content, indent=2))
    head = {"weight": retriever.head.weight, "bias": retriever.head.bias}
    save_file(
        {n: np.ascontiguousarray(t.detach().cpu().numpy(), np.float32) for n, t in head.items()},
        target / "head.safetensors",
    )


def for_sentence_transformers(base: EncoderConfig, max_length: int) -> dict[str, Any]:
    """Files by which it loads the folder: the model, its pooling, unit length."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    described = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    prompts = {"query": base.query_prefix, "document": base.passage_prefix}
    return {
        "modules.json": described,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": None},
        "2_Normalize/config.json": {},
    }


def save_tokenizer(base: EncoderConfig, prompt_ids: tuple[int, ...], target: Path) -> None:
    """The base encoder's own, with a token to pad with: GPT-2 has none, and others pad in batches."""
    tokenizer = load_tokenizer(base.path, base.max_length, base.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if prompt_ids:
        tokenizer = with_prompt(tokenizer, prompt_ids)
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(target)


def load_retriever(folder: str | Path, trust_remote_code: bool = False) -> Retriever:
    """The retriever of a folder, in evaluation mode; code in the folder runs only if it is trusted."""
    head = load_file(Path(folder) / "head.safetensors")
    return Retriever(load_encoder(folder, trust_remote_code=trust_remote_code), head["weight"], head["bias"]).eval()


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
