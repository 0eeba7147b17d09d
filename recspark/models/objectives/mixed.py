"""Several objectives by pair at once."""

from typing import Annotated, Literal

from pydantic import Field

from recspark.config import Settings
from recspark.models.objectives.pairs import Bpr, FullSoftmax, InfoNce, SampledSoftmax
from recspark.models.objectives.ratings import Mse

Single = InfoNce | SampledSoftmax | FullSoftmax | Bpr | Mse


class Part(Settings):
    """One of several objectives."""

    objective: Annotated[Single, Field(discriminator="kind")]
    weight: float = Field(1.0, gt=0, description="factor of its loss")


class Mixed(Settings):
    """Σ weight · loss over the parts, each with a temperature of its own; what one part draws, all that draw may see.

    Objectives by item (all_pairs, corrected_all_pairs) are no parts: their steps are made of items, not of examples.
    """

    kind: Literal["mixed"] = "mixed"
    parts: tuple[Part, ...] = Field(min_length=1)


PairObjective = Single | Mixed


def parts_of(objective: PairObjective) -> tuple[Part, ...]:
    """The objective as parts."""
    return objective.parts if isinstance(objective, Mixed) else (Part(objective=objective),)
