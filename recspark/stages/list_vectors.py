"""The vectors that the lists are made of: embed's, or, where the configuration has a section combine, what that made of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages.lists import SEEN_SPLITS
from recspark.tables import COMBINED_ITEM_VECTORS, COMBINED_USER_VECTORS, INTERACTIONS, ITEM_VECTORS, USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

# In the manifests of the combined vectors: what combine chose, and which run of it wrote them.
CHOICE, COMBINATION = "choice", "combination"
NEVER_AGAIN = ("masked",)  # of SEEN_SPLITS: held out so that nobody learns from it, not a taste that may come back


@dataclass(frozen=True)
class ListVectors:
    """items (item_id, vector, model_hash) and users (user_id, vector, model_hash); whether a user may get again what he had."""

    items: DataFrame
    users: DataFrame
    repeats: bool

    @property
    def seen_splits(self) -> tuple[str, ...]:
        """Events of these splits keep their items off the user's list."""
        return NEVER_AGAIN if self.repeats else SEEN_SPLITS

    def seen(self, interactions: DataFrame) -> DataFrame:
        """(user_id, item_id) of what a user may not get."""
        return interactions.where(F.col("split").isin(*self.seen_splits)).select("user_id", "item_id")


def list_vectors(spark: SparkSession, lake: Lake, config: "Deployment") -> ListVectors:
    """The tables of this run date.

    Raises UserError if the combined vectors are of two runs, or were made from others than those that are there now.
    """
    if config.combine is None:
        return ListVectors(lake.read(spark, ITEM_VECTORS), lake.read(spark, USER_VECTORS), repeats=False)
    items, users = lake.read(spark, COMBINED_ITEM_VECTORS), lake.read(spark, COMBINED_USER_VECTORS)
    manifests = [lake.manifest(table) for table in (COMBINED_ITEM_VECTORS, COMBINED_USER_VECTORS)]
    if len({m.get(COMBINATION) for m in manifests}) > 1:
        raise UserError(
            f"combined_item_vectors and combined_user_vectors of run date {lake.run_date} are of different runs, one of them cut "
            "short; run again from combine"
        )
    for table in (INTERACTIONS, ITEM_VECTORS, USER_VECTORS):
        now = lake.manifest(table).get("fingerprint")
        if any(m.get("inputs", {}).get(table.name, {}).get("fingerprint") != now for m in manifests):
            raise UserError(
                f"the combined vectors of run date {lake.run_date} were made from another {table.name} than is there now; "
                "run again from combine"
            )
    return ListVectors(items, users, repeats=manifests[0][CHOICE]["repeat"] is not None)
