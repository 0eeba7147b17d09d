"""Ways in which some of the encoder's own parameters learn; nothing is added, so nothing is merged."""

from typing import Literal

from pydantic import Field

from recspark.config import Settings
from recspark.errors import UserError
from recspark.models.adaptation.layers import freeze, freeze_pooler, layer_stack, top_layers, trainable
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
