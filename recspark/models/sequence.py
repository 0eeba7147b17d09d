"""A sequence model over item vectors: what it says after a user's newest event is the user's vector.

Where the order tells something, a small causal transformer: SASRec's shape (Kang and McAuley 2018, "Self-attentive sequential
recommendation") with the softmax over the whole catalogue, as it gains by (Petrov and Macdonald 2023, "gSASRec"). Where it does
not, the sum of a second linear map of the item vectors, one tower for what was had and one for what comes (asymmetric factors,
Paterek 2007, "Improving regularized singular value decomposition"). An item's vector is a linear map of what the encoder says of
its text, or one of its own, so what was learned of one item holds for all that read like it, also for those that nobody has met.

Dimensions: B sequences, L events, M items, T length of text vectors, D `size`.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from recspark.config import Settings

Inputs = Literal["texts", "ids", "both"]
Reads = Literal["order", "set"]
SHAPE, WEIGHTS = "sequence.json", "sequence.safetensors"
ITEMS = "items"  # among the saved weights: what the items' vectors were


class SequenceShape(Settings):
    """What the model reads of a history, and its size."""

    reads: Reads = Field(
        "order", description="what came after what, by a transformer; or the set of what was had, by a sum"
    )
    size: int = Field(128, ge=1, description="length of the vectors")
    layers: int = Field(1, ge=1, description="of the transformer")
    heads: int = Field(2, ge=1, description="of the transformer")
    longest: int = Field(50, ge=1, description="events of a user that are read, the newest")

    @model_validator(mode="after")
    def _heads_divide(self) -> "SequenceShape":
        if self.size % self.heads:
            raise ValueError(f"size {self.size} should be a multiple of heads {self.heads}")
        return self


class SequenceEncoder(nn.Module):
    """From the items' vectors and sequences of their positions to a unit vector after every event."""

    def __init__(self, shape: SequenceShape, dropout: float):
        super().__init__()
        self.places = nn.Embedding(shape.longest, shape.size)
        nn.init.normal_(self.places.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            shape.size, shape.heads, 2 * shape.size, dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(shape.size)

    def forward(self, items_MD: Tensor, positions_BL: Tensor) -> Tensor:
        """(B, L, D). What is beyond a sequence's end may be any position: nothing before it looks there."""
        length = positions_BL.shape[1]
        places = torch.arange(length, device=positions_BL.device)
        ahead = torch.ones(length, length, dtype=torch.bool, device=positions_BL.device).triu(1)
        read = self.dropout(items_MD[positions_BL] + self.places(places))
        return normalize(self.norm(self.layers(read, mask=ahead)), dim=-1)


class SetEncoder(nn.Module):
    """From the items' vectors and sequences of their positions to a unit vector after every event: of the sum of what is read up to it."""

    def __init__(self, shape: SequenceShape, dropout: float):
        super().__init__()
        self.read = nn.Linear(shape.size, shape.size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, items_MD: Tensor, positions_BL: Tensor) -> Tensor:
        """(B, L, D). What is beyond a sequence's end may be any position, as nothing before it looks there."""
        read_MD = self.read(self.dropout(items_MD))
        return normalize(read_MD[positions_BL].cumsum(1), dim=-1)


Encoder = SequenceEncoder | SetEncoder


def make_encoder(shape: SequenceShape, dropout: float) -> Encoder:
    """With random weights."""
    return SequenceEncoder(shape, dropout) if shape.reads == "order" else SetEncoder(shape, dropout)


class SequenceModel(nn.Module):
    """The items' vectors and the encoder, as they learn together.

    texts_MT: what is known of the items' texts; None where it reads none. own: whether items have vectors of their own.
    """

    def __init__(self, texts_MT: Tensor | None, items: int, own: bool, shape: SequenceShape, dropout: float):
        super().__init__()
        self.register_buffer("texts", texts_MT, persistent=False)
        self.text_map = None if texts_MT is None else nn.Linear(texts_MT.shape[1], shape.size)
        self.own = nn.Embedding(items, shape.size) if own else None
        if self.own is not None:
            nn.init.normal_(self.own.weight, std=0.02)
        self.encoder = make_encoder(shape, dropout)

    def items(self) -> Tensor:
        """(M, D)"""
        vectors: Tensor | None = None
        if self.text_map is not None:
            vectors = normalize(self.text_map(self.texts), dim=-1)
        if self.own is not None:
            vectors = self.own.weight if vectors is None else vectors + self.own.weight
        assert vectors is not None  # the settings see to it that there is one or the other
        return vectors

    def forward(self, positions_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors: after every event (B, L, D), and of the items (M, D)."""
        items_MD = self.items()
        return self.encoder(items_MD, positions_BL), normalize(items_MD, dim=-1)


def save_sequence(model: SequenceModel, shape: SequenceShape, folder: str | Path) -> None:
    """What it takes to give vectors to users and items: the encoder, and the items' vectors as they came out."""
    with torch.no_grad():
        weights = {ITEMS: model.items().contiguous(), **model.encoder.state_dict()}
    save_file(weights, Path(folder) / WEIGHTS)
    (Path(folder) / SHAPE).write_text(shape.model_dump_json(indent=2))


def load_sequence(folder: str | Path) -> tuple[Encoder, Tensor, SequenceShape]:
    """The encoder, ready to read; the items' vectors (M, D), as it takes them; its shape."""
    shape = SequenceShape(**json.loads((Path(folder) / SHAPE).read_text()))
    weights = load_file(Path(folder) / WEIGHTS)
    items_MD = weights.pop(ITEMS)
    encoder = make_encoder(shape, 0.0)
    encoder.load_state_dict(weights)
    return encoder.eval(), items_MD, shape
