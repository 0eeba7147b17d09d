"""From the states of a text's tokens to one vector, and how a model folder says which way is its own.

Shapes: B texts, L tokens, H hidden size.
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from recspark.errors import UserError

Pooling = Literal["mean", "cls", "max", "last_token"]
FILE = "1_Pooling/config.json"  # where sentence-transformers keeps it
# sentence-transformers' older names of the same, which it still reads.
MODES = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "last_token": "pooling_mode_lasttoken",
}


def pool(kind: Pooling, states_BLH: Tensor, mask_BL: Tensor) -> Tensor:
    """(B, H): the mean or maximum over a text's tokens, or the state of its first or last one. Texts may be padded on either side."""
    if kind == "cls":
        return states_BLH[torch.arange(len(mask_BL)), mask_BL.argmax(1)]  # the first 1: past padding on the left
    if kind == "last_token":
        last = mask_BL.shape[1] - 1 - mask_BL.flip(1).argmax(1)
        return states_BLH[torch.arange(len(mask_BL)), last]
    if kind == "max":
        return states_BLH.masked_fill(mask_BL.unsqueeze(-1) == 0, -torch.inf).amax(1)
    weights = mask_BL.unsqueeze(-1).to(states_BLH.dtype)
    return (states_BLH * weights).sum(1) / weights.sum(1).clamp(min=1)


def pooling_of(folder: Path) -> Pooling:
    """What the folder says, in sentence-transformers' words; `mean` where it says nothing.

    Raises UserError for a way that is not one of `Pooling`.
    """
    if not (folder / FILE).is_file():
        return "mean"
    try:
        said: dict[str, Any] = json.loads((folder / FILE).read_text())
    except ValueError as error:
        raise UserError(f"encoder {folder}: {FILE} is not JSON ({error}); set encoder.pooling") from None
    newer = str(said.get("pooling_mode", "")).replace("lasttoken", "last_token")
    found = [newer] if newer else [kind for kind, mode in MODES.items() if said.get(mode)]
    others = [
        mode for mode, on in said.items() if mode.startswith("pooling_mode_") and on and mode not in MODES.values()
    ]
    if len(found) == 1 and found[0] in get_args(Pooling) and not others:
        return found[0]  # type: ignore[return-value]
    raise UserError(
        f"encoder {folder} pools by {[*found, *others] or 'nothing'} ({FILE}), which is not one of {', '.join(MODES)}; "
        "set encoder.pooling"
    )


def pooling_config(kind: Pooling, embedding_size: int) -> dict[str, Any]:
    """What goes into FILE."""
    return {"word_embedding_dimension": embedding_size, **{mode: kind == k for k, mode in MODES.items()}}
