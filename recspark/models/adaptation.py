"""How an encoder is adapted: which of its parameters learn, and how what was added is merged away for inference.

Each way is its settings. To add one: write the class here and add its name to `Adaptation`.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from recspark.config import Settings
from recspark.errors import UserError
from recspark.models.encoder import TextEncoder


class Frozen(Settings):
    """Nothing of the encoder learns; the head alone does."""

    kind: Literal["frozen"] = "frozen"
    learning_rate: float = Field(1e-3, gt=0, description="unused but for the seam: nothing of the encoder learns")

    def apply(self, encoder: TextEncoder) -> None:
        freeze(encoder)

    def merge(self, encoder: TextEncoder) -> None:
        """Nothing was added."""


class Full(Settings):
    """Every parameter learns. Word embeddings make up half of a small encoder, and their gradients travel densely."""

    kind: Literal["full"] = "full"
    learning_rate: float = Field(1e-4, gt=0, description="peak, of the encoder")
    embeddings: bool = Field(True, description="whether the input embeddings learn too")

    def apply(self, encoder: TextEncoder) -> None:
        for parameter in encoder.parameters():
            parameter.requires_grad = True
        if not self.embeddings:
            freeze(encoder.backbone.get_input_embeddings())
        freeze_pooler(encoder)

    def merge(self, encoder: TextEncoder) -> None:
        """Nothing was added."""


class LastLayers(Settings):
    """The top layers learn."""

    kind: Literal["last_layers"] = "last_layers"
    learning_rate: float = Field(2e-4, gt=0, description="peak, of the encoder")
    layers: int = Field(2, ge=1, description="how many, from the top")

    def apply(self, encoder: TextEncoder) -> None:
        """Raises UserError if the encoder has fewer layers."""
        freeze(encoder)
        stack = layer_stack(encoder.backbone)
        for number in top_layers(encoder.backbone, self.layers):
            for parameter in stack[number].parameters():
                parameter.requires_grad = True

    def merge(self, encoder: TextEncoder) -> None:
        """Nothing was added."""


class Lora(Settings):
    """Low-rank updates of linear maps (Hu et al. 2022), by the peft library; merged into the weights for inference."""

    kind: Literal["lora"] = "lora"
    learning_rate: float = Field(2e-3, gt=0, description="peak, of the encoder")
    rank: int = Field(8, ge=1)
    alpha: int = Field(16, gt=0, description="updates are scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        ("query", "key", "value", "attention.output.dense"),
        min_length=1,
        description="ends of the names of the linear maps",
    )
    layers: int | None = Field(None, ge=1, description="how many layers from the top have updates; all if not set")

    def apply(self, encoder: TextEncoder) -> None:
        """Raises UserError, with the names there are, if the targets match no linear map."""
        from peft import LoraConfig, get_peft_model

        linear = [name for name, module in encoder.backbone.named_modules() if isinstance(module, nn.Linear)]
        chosen = [name for name in linear if any(name == t or name.endswith(f".{t}") for t in self.targets)]
        if self.layers:
            stack = layer_stack(encoder.backbone)
            top = {id(m) for number in top_layers(encoder.backbone, self.layers) for m in stack[number].modules()}
            chosen = [name for name in chosen if id(encoder.backbone.get_submodule(name)) in top]
        if not chosen:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise UserError(
                f"finetune.adaptation.targets {list(self.targets)} match no linear map; names end in {ends}"
            )
        settings = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=chosen, lora_dropout=0.0)
        encoder.backbone = get_peft_model(encoder.backbone, settings)

    def merge(self, encoder: TextEncoder) -> None:
        encoder.backbone = encoder.backbone.merge_and_unload()


class BitFit(Settings):
    """The bias terms learn, a thousandth of the parameters (Ben Zaken et al. 2022)."""

    kind: Literal["bitfit"] = "bitfit"
    learning_rate: float = Field(2e-3, gt=0, description="peak, of the encoder")

    def apply(self, encoder: TextEncoder) -> None:
        """Raises UserError if the encoder has no bias terms."""
        for name, parameter in encoder.backbone.named_parameters():
            parameter.requires_grad = name.endswith("bias")
        freeze_pooler(encoder)
        if not trainable(encoder):
            raise UserError(f"finetune.adaptation bitfit: {type(encoder.backbone).__name__} has no bias terms")

    def merge(self, encoder: TextEncoder) -> None:
        """Nothing was added."""


Adaptation = Annotated[Frozen | Full | LastLayers | Lora | BitFit, Field(discriminator="kind")]


def freeze(module: nn.Module) -> None:
    """None of the module's parameters learn."""
    for parameter in module.parameters():
        parameter.requires_grad = False


def freeze_pooler(encoder: TextEncoder) -> None:
    """Mean pooling goes round a model's pooler: it never gets a gradient, and ranks would wait for one."""
    if isinstance(pooler := getattr(encoder.backbone, "pooler", None), nn.Module):
        freeze(pooler)


def layer_stack(backbone: nn.Module) -> nn.ModuleList:
    """The transformer layers, bottom first: the longest ModuleList of the model."""
    stacks = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    if not stacks:
        raise UserError(
            f"finetune.adaptation: {type(backbone).__name__} has no stack of layers to take the last ones of"
        )
    return max(stacks, key=len)


def top_layers(backbone: nn.Module, layers: int) -> range:
    """Numbers of so many layers from the top; UserError if there are fewer."""
    there = len(layer_stack(backbone))
    if layers > there:
        raise UserError(f"finetune.adaptation.layers is {layers}, but the encoder has {there} layers")
    return range(there - layers, there)


def trainable(module: nn.Module) -> dict[str, torch.nn.Parameter]:
    """Names and parameters that learn."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
