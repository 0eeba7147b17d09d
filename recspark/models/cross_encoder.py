"""The cross-encoder: a language model that reads a user's history and an item in one text, and gives them a score.

The text is the history's tokens, the newest event first, and the item's, with the tokenizer's own marks before, between and
after. Its folder is a transformers model with the head beside. Shapes: B pairs, L tokens, H the encoder's hidden size.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recspark.models.adaptation import BitFit, Full, LastLayers, Lora, layer_stack
from recspark.models.encoder import EncoderConfig, TextEncoder, load_encoder, load_tokenizer
from recspark.models.pooling import FILE, pooling_config

Tokens = NDArray[np.int32]
PairAdaptation = Annotated[
    Full | LastLayers | Lora | BitFit, Field(discriminator="kind")
]  # what merges into a plain model


@dataclass(frozen=True)
class PairFormat:
    """The tokenizer's marks around one text and around a pair."""

    lead: int  # marks before a text that stands alone
    trail: int
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> "PairFormat":
        """Read off a text and a pair of one word; where the tokenizer puts nothing between two texts, its end of text does."""
        alone, both = (tokenizer(*texts, return_special_tokens_mask=True) for texts in (("a",), ("a", "a")))
        words = [[n for n, mark in enumerate(t["special_tokens_mask"]) if not mark] for t in (alone, both)]
        half, ids = len(words[0]), both["input_ids"]
        end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        first, second = words[1][:half], words[1][half:]
        return cls(
            words[0][0],
            len(alone["input_ids"]) - words[0][-1] - 1,
            tuple(ids[: first[0]]),
            tuple(ids[first[-1] + 1 : second[0]]) or end,
            tuple(ids[second[-1] + 1 :]),
        )

    @property
    def marks(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def bare(self, text: Tokens) -> Tokens:
        """A text that stood alone, without its marks."""
        return text[self.lead : len(text) - self.trail]

    def history(self, texts: Sequence[Tokens], each: int, most: int) -> Tokens:
        """At most `most` tokens of bare texts, the newest first, at most `each` of one."""
        joined = [piece for text in texts for piece in (text[:each], np.asarray(self.between[:1], np.int32))]
        return np.concatenate([*joined[:-1], np.empty(0, np.int32)])[:most].astype(np.int32)

    def pair(self, history: Tokens, item: Tokens) -> Tokens:
        return np.concatenate([self.before, history, self.between, item, self.after]).astype(np.int32)


class CrossEncoder(nn.Module):
    """A pair's score: a linear head on the pooled text."""

    def __init__(self, encoder: TextEncoder):
        """The head starts at zero, so that all pairs start alike."""
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.embedding_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L) token ids and mask -> (B,) scores."""
        return self.head(self.encoder(token_ids_BL, mask_BL)).squeeze(-1)


def lowest_layers(encoder: TextEncoder, layers: int | None) -> TextEncoder:
    """The encoder without the layers above the lowest `layers`; all of it, if None or if it has no more."""
    stack = layer_stack(encoder.backbone)
    if layers is not None and layers < len(stack):
        del stack[layers:]
        config = encoder.backbone.config
        config.num_hidden_layers = layers
        for name in ("layer_types", "mlp_layer_types"):  # of models whose layers are of several kinds: one entry each
            if kinds := getattr(config, name, None):
                setattr(config, name, kinds[:layers])
    return encoder


def save_cross_encoder(model: CrossEncoder, base: EncoderConfig, folder: str | Path) -> None:
    """Write the folder; the tokenizer comes from the base encoder's."""
    target = Path(folder)
    model.encoder.backbone.save_pretrained(target, safe_serialization=True)
    load_tokenizer(base.path, 1, base.trust_remote_code).save_pretrained(target)
    (target / FILE).parent.mkdir(exist_ok=True)
    (target / FILE).write_text(json.dumps(pooling_config(model.encoder.pooling, model.encoder.embedding_size)))
    save_file({n: t.detach().contiguous() for n, t in model.head.state_dict().items()}, target / "head.safetensors")


def load_cross_encoder(folder: str | Path, trust_remote_code: bool = False) -> CrossEncoder:
    """In evaluation mode."""
    model = CrossEncoder(load_encoder(folder, trust_remote_code=trust_remote_code))
    model.head.load_state_dict(load_file(Path(folder) / "head.safetensors"))
    return model.eval()
