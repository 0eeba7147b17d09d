"""The frozen lower layers of an encoder: run once for the texts of a step and kept, so an epoch costs the layers above.

The steps of a shard are the same texts in every epoch, and what frozen layers make of them never changes. B texts, L
tokens, H the encoder's hidden size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recspark.errors import UserError
from recspark.models.adaptation import layer_stack, linear_maps, trainable
from recspark.models.encoder import TextEncoder
from recspark.training.kept import KeptSteps

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
        self.embeddings: nn.Module | None = None  # what gives the lowest layer its states, if one module does
        self.frozen = [m for m in linear_maps(self.above).values() if not trainable(m)]

    def states(self, token_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L, H) what the layers make of the texts."""

        def stop(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            raise Reached(args[0] if args else kwargs["hidden_states"])

        def look(module: nn.Module, args: tuple, output: Any) -> None:
            self.gives_tuple = isinstance(output, tuple)

        def enter(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            self.embeddings = next((m for m, output in reversed(outputs) if output is states), None)

        outputs: list[tuple[nn.Module, Any]] = []
        hooks = [
            *(m.register_forward_hook(lambda m, _, out: outputs.append((m, out))) for m in self.encoder.modules()),
            self.above.register_forward_pre_hook(stop, with_kwargs=True),
            self.lower[0].register_forward_pre_hook(enter, with_kwargs=True),
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
    def given(self, states_BLH: Tensor, first: dict[int, Tensor] | None = None) -> Iterator[dict[int, Tensor]]:
        """Within it, a call of the encoder with the same texts starts from these states; the layers below cost nothing.

        The dictionary gets what frozen maps of the layer above make of the states as they are, as query, key and value of
        BERT do under lora, by their number among the frozen maps. Given back as `first`, it saves these maps too.
        """

        def take(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            if args:
                return (states_BLH, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": states_BLH}

        def note(number: int, module: nn.Module, args: tuple, output: Tensor) -> None:
            if args and args[0] is states_BLH:
                noted[number] = output.detach()

        noted: dict[int, Tensor] = {}
        passed: Any = (states_BLH,) if self.gives_tuple else states_BLH
        outputs: dict[nn.Module, Any] = dict.fromkeys(self.lower, passed)
        outputs |= {self.frozen[number]: output for number, output in (first or {}).items()}
        if self.embeddings is not None:
            outputs[self.embeddings] = states_BLH
        hooks = [m.register_forward_hook(partial(note, number)) for number, m in enumerate(self.frozen)]
        hooks.append(self.above.register_forward_pre_hook(take, with_kwargs=True))
        for module, output in outputs.items():
            module.forward = partial(always, output)
        try:
            yield noted
        finally:
            for hook in hooks:
                hook.remove()
            for module in outputs:
                del module.forward

    def is_exact(self, token_ids_BL: Tensor, mask_BL: Tensor) -> bool:
        """Whether the encoder gives the same vectors by this way; not so where layers hand on more than their states."""
        with torch.no_grad():
            try:
                states = self.states(token_ids_BL, mask_BL)
                with self.given(states) as noted:
                    once = self.encoder(token_ids_BL, mask_BL)
                with self.given(states, noted):
                    again = self.encoder(token_ids_BL, mask_BL)
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
                return False
            plain = self.encoder(token_ids_BL, mask_BL)
            return all(torch.allclose(found, plain, atol=CLOSE) for found in (once, again))


def always(output: Any, *_: Any, **__: Any) -> Any:
    return output


class KeptStates:
    """The prefix's states by step, kept up to a number of bytes; in what they leave, what the first layer's frozen maps make of them."""

    def __init__(self, prefix: Prefix, limit: int):
        self.prefix, self.kept = prefix, KeptSteps(limit)
        self.widths: dict[int, int] = {}  # of the frozen maps that read the states

    @contextmanager
    def under(self, step: Any, token_ids_BL: Tensor, mask_BL: Tensor) -> Iterator[None]:
        """Within it, the encoder's call with a step's texts starts from what is kept; `step` must name the same texts each time."""
        device, again = token_ids_BL.device, step in self.kept
        states = self.kept.of(step, partial(self.prefix.states, token_ids_BL, mask_BL), device)
        first = self.kept.found((step, "first"), device)
        if first is not None:
            outputs = dict(zip(self.widths, first.split(list(self.widths.values()), -1), strict=True))
            with self.prefix.given(states, outputs):
                yield
            return
        with self.prefix.given(states) as noted:
            yield
        if again and noted:  # by now all states are kept that will be, so these take no room from them
            self.widths = {number: output.shape[-1] for number, output in noted.items()}
            self.kept.keep((step, "first"), torch.cat(list(noted.values()), -1))


def keep_prefix(encoder: TextEncoder, limit: int, sample: Callable[[], tuple[Tensor, Tensor]]) -> KeptStates | None:
    """Where the lower layers learn nothing and draw nothing: their states, kept up to `limit` bytes; else None.

    sample: token ids and mask of a few texts, to see that the model allows it.
    """
    depth = frozen_depth(encoder) if limit else 0
    if depth == 0 or any(isinstance(m, nn.Dropout) and m.p for m in encoder.modules()):
        return None
    prefix = Prefix(encoder, depth)
    return KeptStates(prefix, limit) if prefix.is_exact(*sample()) else None
