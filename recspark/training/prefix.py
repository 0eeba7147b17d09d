"""The frozen lower layers of an encoder: run once for the texts of a step and kept, so an epoch costs the layers above.

The steps of a shard are the same texts in every epoch, and what frozen layers make of them never changes. B texts, L
tokens, H the encoder's hidden size.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recspark.errors import UserError
from recspark.models.adaptation import layer_stack, trainable
from recspark.models.encoder import TextEncoder

SPARE = 2**30  # bytes of the disk that are left to others
CLOSE = 1e-4  # how near a text's vector by way of the kept states must be to the plain one


class Reached(Exception):
    """Carries the states that the first layer above the prefix was called with."""

    def __init__(self, states: Tensor):
        super().__init__()
        self.states = states


def frozen_depth(encoder: TextEncoder) -> int:
    """Layers below the first that learns; 0 if anything outside the stack of layers learns, as it may come before them.

    At least the last layer stays above, also where nothing learns.
    """
    try:
        stack = layer_stack(encoder.backbone)
    except UserError:
        return 0
    within = {id(p) for p in stack.parameters()}
    if any(id(p) not in within for p in trainable(encoder).values()):
        return 0
    learning = [number for number, layer in enumerate(stack) if trainable(layer)]
    return min(learning, default=len(stack) - 1)


class Prefix:
    """The lowest `depth` layers of an encoder, in whatever model it stands."""

    def __init__(self, encoder: TextEncoder, depth: int):
        self.encoder = encoder
        self.lower, self.above = list(layer_stack(encoder.backbone)[:depth]), layer_stack(encoder.backbone)[depth]
        self.gives_tuple = False  # whether a layer returns a tuple that begins with its states

    def states(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L, H) what the layers make of the texts."""

        def stop(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            raise Reached(args[0] if args else kwargs["hidden_states"])

        def look(module: nn.Module, args: tuple, output: Any) -> None:
            self.gives_tuple = isinstance(output, tuple)

        hooks = [
            self.above.register_forward_pre_hook(stop, with_kwargs=True),
            self.lower[0].register_forward_hook(look),
        ]
        try:
            with torch.no_grad():
                self.encoder(token_ids_BL, mask_BL)
        except Reached as reached:
            return reached.states
        finally:
            for hook in hooks:
                hook.remove()
        raise RuntimeError("the encoder never called its layers")

    @contextmanager
    def given(self, states_BLH: Tensor) -> Iterator[None]:
        """Within it, a call of the encoder with the same texts starts from these states; the layers below cost nothing."""

        def take(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            if args:
                return (states_BLH, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": states_BLH}

        def passing(*args: Any, **kwargs: Any) -> Any:
            return (states_BLH,) if self.gives_tuple else states_BLH

        hook = self.above.register_forward_pre_hook(take, with_kwargs=True)
        for layer in self.lower:
            layer.forward = passing
        try:
            yield
        finally:
            hook.remove()
            for layer in self.lower:
                del layer.forward

    def is_exact(self, token_ids_BL: Tensor, mask_BL: Tensor) -> bool:
        """Whether the encoder gives the same vectors by this way; not so where layers hand on more than their states."""
        with torch.no_grad():
            try:
                with self.given(self.states(token_ids_BL, mask_BL)):
                    found = self.encoder(token_ids_BL, mask_BL)
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
                return False
            return torch.allclose(found, self.encoder(token_ids_BL, mask_BL), atol=CLOSE)


class KeptStates:
    """The prefix's states by step, in temporary files that are mapped, up to a number of bytes; further steps are computed anew."""

    def __init__(self, prefix: Prefix, limit: int):
        self.prefix, self.left = prefix, limit
        self.folder = TemporaryDirectory(prefix="recspark-prefix-")
        self.kept: dict[Any, Path] = {}

    def of(self, step: Any, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L, H) the states of a step's texts; `step` must name the same texts each time."""
        if step in self.kept:
            mapped = np.load(self.kept[step], mmap_mode="c")
            return torch.from_numpy(mapped).to(token_ids_BL.device, non_blocking=True)
        states = self.prefix.states(token_ids_BL, mask_BL)
        size = states.numel() * 4
        if size <= min(self.left, shutil.disk_usage(self.folder.name).free - SPARE):
            self.left -= size
            path = Path(self.folder.name) / f"{len(self.kept)}.npy"
            try:
                np.save(path, states.float().cpu().numpy())
                self.kept[step] = path
            except OSError:  # the disk is full after all; what is not kept is computed anew
                path.unlink(missing_ok=True)
                self.left = 0
        return states


def keep_prefix(encoder: TextEncoder, limit: int, sample: Callable[[], tuple[Tensor, Tensor]]) -> KeptStates | None:
    """Where the lower layers learn nothing and draw nothing: their states, kept up to `limit` bytes; else None.

    sample: token ids and mask of a few texts, to see that the model allows it.
    """
    depth = frozen_depth(encoder) if limit else 0
    if depth == 0 or any(isinstance(m, nn.Dropout) and m.p for m in encoder.modules()):
        return None
    prefix = Prefix(encoder, depth)
    return KeptStates(prefix, limit) if prefix.is_exact(*sample()) else None
