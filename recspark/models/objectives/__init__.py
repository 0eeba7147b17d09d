"""What the encoder learns. Each objective is its settings, with the loss beside them.

By item (`forms`): the all-pairs squared error, one row an item. By pair (`pairs`, `ratings`, or several at once, `mixed`): a
user's history against a target item, one row an example. To add one: write the class in its file and add its name to the
union `ItemObjective` here, or `Single` in `mixed`.
"""

from typing import Annotated

from pydantic import Field

from recspark.models.objectives.forms import AllPairs, CorrectedAllPairs, ItemTargets, losses_at
from recspark.models.objectives.mixed import Mixed, PairObjective, Part, parts_of
from recspark.models.objectives.pairs import Bpr, Candidates, FullSoftmax, InfoNce, Pairs, SampledSoftmax
from recspark.models.objectives.ratings import Mse

__all__ = [
    "AllPairs",
    "Bpr",
    "Candidates",
    "CorrectedAllPairs",
    "FullSoftmax",
    "InfoNce",
    "ItemObjective",
    "ItemTargets",
    "Mixed",
    "Mse",
    "Objective",
    "PairObjective",
    "Pairs",
    "Part",
    "SampledSoftmax",
    "losses_at",
    "parts_of",
]

ItemObjective = CorrectedAllPairs | AllPairs
Objective = Annotated[ItemObjective | PairObjective, Field(discriminator="kind")]
