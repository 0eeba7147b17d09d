"""How an encoder is adapted: which of its parameters learn, and how what was added is merged away for inference.

Each way is its settings. To add one: write the class in this folder and add its name to `Adaptation`.
"""

from typing import Annotated

from pydantic import Field

from recspark.models.adaptation.adapter import Adapter
from recspark.models.adaptation.chosen import BitFit, Frozen, Full, LastLayers
from recspark.models.adaptation.layers import layer_stack, linear_maps, trainable
from recspark.models.adaptation.lora import Lora
from recspark.models.adaptation.prompt import Prompt

__all__ = [
    "Adaptation",
    "Adapter",
    "BitFit",
    "Frozen",
    "Full",
    "LastLayers",
    "Lora",
    "Prompt",
    "layer_stack",
    "linear_maps",
    "trainable",
]

Adaptation = Annotated[
    Frozen | Full | LastLayers | Lora | BitFit | Adapter | Prompt,
    Field(discriminator="kind"),
]
