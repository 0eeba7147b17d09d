"""A bottleneck behind a linear map, and its place in a model's folder: it has its own files, beside a plain backbone's."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SETTINGS, TENSORS, BACKBONE = "adapter.json", "adapter.safetensors", "backbone"


class Bottleneck(nn.Module):
    """y + up(gelu(down(y))) of the inner map's y. New ones add nothing: `up` is zero."""

    def __init__(self, inner: nn.Module, hidden_size: int, size: int):
        super().__init__()
        self.inner, self.down, self.up = inner, nn.Linear(hidden_size, size), nn.Linear(size, hidden_size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + self.up(nn.functional.gelu(self.down(y)))


def bottlenecks(backbone: nn.Module) -> dict[str, Bottleneck]:
    """By the names of the maps that they stand behind."""
    return {name: module for name, module in backbone.named_modules() if isinstance(module, Bottleneck)}


def save_with_bottlenecks(backbone: Any, folder: Path) -> None:
    """Write the backbone as it is without them into a sub-folder, and them beside it."""
    found = bottlenecks(backbone)
    tensors = {
        f"{name}.{part}": tensor.detach().cpu().contiguous()
        for name, module in found.items()
        for part, tensor in module.state_dict().items()
        if not part.startswith("inner.")
    }
    save_file(tensors, folder / TENSORS)
    (folder / SETTINGS).write_text(
        json.dumps({name: module.down.out_features for name, module in found.items()}, indent=2)
    )
    for name, module in found.items():
        backbone.set_submodule(name, module.inner)
    backbone.save_pretrained(folder / BACKBONE, safe_serialization=True)
    for name, module in found.items():
        backbone.set_submodule(name, module)


def restore_bottlenecks(backbone: Any, folder: Path) -> None:
    """Put those of the folder, if it has any, into its backbone."""
    if not (folder / SETTINGS).is_file():
        return
    tensors = load_file(folder / TENSORS)
    for name, size in json.loads((folder / SETTINGS).read_text()).items():
        module = Bottleneck(backbone.get_submodule(name), backbone.config.hidden_size, size)
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        module.load_state_dict({**{f"inner.{k}": v for k, v in module.inner.state_dict().items()}, **own})
        backbone.set_submodule(name, module)
