"""The vectors that the lists are made of: embed's, or, where the configuration has a section combine, what that made of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data.next_event import newest_items
from recspark.data.solves import FOLDED
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.retrieval.combination import Again, Choice
from recspark.stages.lists import NEVER_AGAIN, SEEN_SPLITS
from recspark.stages.provenance import require_made_from
from recspark.tables import (
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    INTERACTIONS,
    ITEM_VECTORS,
    ITEMS,
    USER_VECTORS,
    USERS,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

# In the manifests of the combined vectors: what combine chose, which run of it wrote them, and its seed.
CHOICE, COMBINATION, SEED = "choice", "combination", "seed"


@dataclass(frozen=True)
class ListVectors:
    """items (item_id, vector, model_hash) and users (user_id, vector, model_hash); what a user may get again of what he had.

    seed: orders events of one moment. half_life_days: by which combine has popularity fade, if it does.
    """

    items: DataFrame
    users: DataFrame
    again: Again
    seed: int
    half_life_days: float | None = None

    @property
    def repeats(self) -> bool:
        return self.again != "nothing"

    def popularity(self) -> DataFrame:
        """(item_id, vector of one number) of combine's vectors: an item's popularity, which comes before its column of EASE."""
        before = F.size("vector") - F.lit(self.items.count())
        return self.items.select("item_id", F.slice("vector", before, F.lit(1)).alias("vector"))

    def seen(self, interactions: DataFrame) -> DataFrame:
        """(user_id, item_id), each once, of what a user may not get."""
        had = interactions.where(F.col("split").isin(*SEEN_SPLITS)).select("user_id", "item_id").distinct()
        if not self.repeats:
            return had
        never = interactions.where(F.col("split").isin(*NEVER_AGAIN)).select("user_id", "item_id").distinct()
        if self.again == "all":
            return never
        newest = newest_items(interactions.where(F.col("split").isin(*FOLDED)), self.seed)
        return had.join(newest, ["user_id", "item_id"], "left_anti").unionByName(never).distinct()


def list_vectors(spark: SparkSession, lake: Lake, config: "Deployment") -> ListVectors:
    """The tables of this run date.

    Raises UserError if the vectors were made from another log, catalogue or users than are there now, or the combined ones from others than those that are there
    now, or are of two runs.
    """
    require_made_from(lake, ITEM_VECTORS, (INTERACTIONS, ITEMS), "embed")
    require_made_from(lake, USER_VECTORS, (INTERACTIONS, USERS), "embed")
    if config.combine is None:
        return ListVectors(lake.read(spark, ITEM_VECTORS), lake.read(spark, USER_VECTORS), "nothing", config.seed)
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
    about = manifests[0]
    if about[CHOICE].keys() != Choice.__dataclass_fields__.keys() or SEED not in about:
        raise UserError(
            f"the combined vectors of run date {lake.run_date} were made by another release of recspark; run again from combine"
        )
    chosen = about[CHOICE]
    return ListVectors(items, users, chosen["again"], about[SEED], chosen["half_life_days"])


def require_one_model(items: DataFrame, users: DataFrame) -> None:
    """UserError unless both tables have rows, of one model and one vector length. A row tells of all: model_hash is constant."""
    found = {}
    for name, frame in (("item_vectors", items), ("user_vectors", users)):
        row = frame.select("model_hash", F.size("vector").alias("size")).first()
        if row is None:
            raise UserError(f"table {name} is empty; run the stage embed again")
        found[name] = (row["model_hash"], row["size"])
    if len(set(found.values())) > 1:
        shown = "; ".join(f"{name}: model {model}, length {size}" for name, (model, size) in found.items())
        raise UserError(
            f"item_vectors and user_vectors do not come from one model ({shown}); run the stage embed again"
        )
