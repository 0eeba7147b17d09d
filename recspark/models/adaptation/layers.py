"""A model's transformer layers, and which of its parameters learn."""

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from recspark.errors import UserError
from recspark.models.encoder import TextEncoder


def freeze(module: nn.Module) -> None:
    """None of the module's parameters learn."""
    for parameter in module.parameters():
        parameter.requires_grad = False


def freeze_pooler(encoder: TextEncoder) -> None:
    """No pooling here reads a model's pooler: it never gets a gradient, and ranks would wait for one."""
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


def linear_maps(module: nn.Module) -> dict[str, nn.Module]:
    """Names and modules of the linear maps; GPT-2 has its own kind of them."""
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear | Conv1D)}
