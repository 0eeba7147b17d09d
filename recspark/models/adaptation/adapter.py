"""Bottleneck adapters."""

from typing import Literal

from pydantic import Field
from torch import nn

from recspark.config import Settings
from recspark.errors import UserError
from recspark.models.adaptation.layers import freeze, layer_stack, linear_maps, top_layers
from recspark.models.bottleneck import Bottleneck
from recspark.models.encoder import TextEncoder

# Ends of a layer's attention and of its feed-forward net, by the names that families of models give them.
ENDS = (
    ("attention.output.dense", "output.dense"),  # BERT, RoBERTa, ELECTRA, DeBERTa
    ("attention.attn.o", "output.dense"),  # MPNet
    ("attention.out_lin", "ffn.lin2"),  # DistilBERT
    ("attn.Wo", "mlp.Wo"),  # ModernBERT
    ("attn.c_proj", "mlp.c_proj"),  # GPT-2
    ("self_attn.o_proj", "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma
    ("attention.dense", "mlp.dense_4h_to_h"),  # GPT-NeoX
)


class Adapter(Settings):
    """Small nets put in after the frozen layers' outputs, before they are added to what went in.

    houlsby: after attention and after the feed-forward net (Houlsby et al. 2019); pfeiffer: after the feed-forward net alone
    (Pfeiffer et al. 2021). They are not linear, so no weights can take them in: the published model keeps them beside the
    backbone, in a folder that other libraries refuse (`models.retriever`).
    """

    kind: Literal["adapter"] = "adapter"
    learning_rate: float = Field(1e-3, gt=0, description="peak, of the encoder")
    size: int = Field(64, ge=1, description="width of the bottleneck")
    placement: Literal["houlsby", "pfeiffer"] = Field(
        "houlsby", description="after attention and feed-forward net, or after the latter alone"
    )
    layers: int | None = Field(None, ge=1, description="how many layers from the top have adapters; all if not set")

    def apply(self, encoder: TextEncoder) -> None:
        """Raises UserError, with the names there are, if it is not known where this kind of layer ends."""
        freeze(encoder)
        stack = layer_stack(encoder.backbone)
        for number in top_layers(encoder.backbone, self.layers or len(stack)):
            attention, feed_forward = ends_of(stack[number])
            for name in (attention, feed_forward) if self.placement == "houlsby" else (feed_forward,):
                inner, hidden_size = stack[number].get_submodule(name), encoder.embedding_size
                stack[number].set_submodule(name, Bottleneck(inner, hidden_size, self.size))

    def merge(self, encoder: TextEncoder) -> None:
        """It stays as it is."""


def ends_of(layer: nn.Module) -> tuple[str, str]:
    """Names of the linear maps that end the layer's attention and its feed-forward net."""
    there = linear_maps(layer)
    for ends in ENDS:
        if all(name in there for name in ends):
            return ends
    raise UserError(
        f"finetune.adaptation adapter: no known ends of attention and feed-forward net in {type(layer).__name__}; "
        f"its linear maps are {list(there)}; use lora"
    )
