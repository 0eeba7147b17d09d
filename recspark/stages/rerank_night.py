"""The tables of a night as rerank asks of them: lists with what is known of their users, from before and from now."""

from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue
from recspark.data.next_event import first_after, hold_out_last, newest_histories
from recspark.data.splits import uniform
from recspark.lake import Lake, local_folder
from recspark.models.retriever import load_head
from recspark.session import task_threads
from recspark.stages.candidates import ALLOWED, denied_items, mark_denied
from recspark.stages.embed import correct_items
from recspark.stages.lists import Ranking, blocks_for, recommend, seen_positions
from recspark.stages.pair_reranker import CrossEncoderReranker
from recspark.stages.provenance import require_vectors_of
from recspark.stages.reranking import World, ask, make_world
from recspark.stages.versions import RETRIEVER, require_factors_of, retriever_behind
from recspark.tables import CANDIDATES, INTERACTIONS, ITEM_VECTORS, ITEMS, TEXT_VECTORS, USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment
    from recspark.stages.rerank import RerankConfig


class Night:
    """The tables of one night, and the questions that are made of them."""

    def __init__(self, spark: SparkSession, lake: Lake, config: "Deployment", settings: "RerankConfig"):
        """Raises UserError if the tables are of different models."""
        self.spark, self.lake, self.config, self.settings = spark, lake, config, settings
        self.version = retriever_behind(lake, ITEM_VECTORS)
        require_factors_of(lake, "rerank", self.version)
        self.path, self.model_hash = lake.read_version(RETRIEVER, self.version)
        self.interactions, self.items, self.users = (
            lake.read(spark, table) for table in (INTERACTIONS, ITEM_VECTORS, USER_VECTORS)
        )
        for table, frame in ((ITEM_VECTORS, self.items), (USER_VECTORS, self.users)):
            row = frame.select("model_hash").first()
            require_vectors_of(lake, "rerank", table, row["model_hash"] if row else None, self.model_hash)
        texts = lake.read(spark, TEXT_VECTORS).select("text_hash", F.col("vector").alias("text"))
        self.texts = self.items.select("item_id", "text_hash").join(texts, "text_hash").drop("text_hash")
        self.train = self.interactions.where("split = 'train'")
        self.denied = denied_items(spark, config, self.items)

    def scratch(self, name: str) -> str:
        return self.lake.scratch(f"rerank/{name}")

    def offered(self, targets: DataFrame) -> DataFrame:
        """Those that a list may hold."""
        return targets if self.denied is None else targets.join(self.denied, "item_id", "left_anti")

    def lessons(self) -> tuple[DataFrame, World]:
        """Rows of `ask` with `target`, for users whose last train event was held out, and the world before those events."""
        events, targets = hold_out_last(self.interactions, self.config.seed)
        before = keep(events, self.scratch("before"))
        drawn = self.offered(targets).orderBy(uniform(self.config.seed, "lesson", "user_id"), "user_id")
        some = keep(drawn.limit(self.settings.model.max_users), self.scratch("targets"))
        priors = self.items.select("item_id", "prior")
        solved = correct_items(
            self.spark, self.lake, self.config, before, priors, self.version, self.scratch("before_items")
        )
        items = keep(solved, self.scratch("before_vectors"))
        world = self.world(before, items, "world_before")
        return self.retrieved(some, before, items, world, "lessons"), world

    def world_now(self) -> World:
        """The items as the night has them."""
        return self.world(self.train, self.items, "world")

    def validation(self, now: World) -> tuple[DataFrame | None, World]:
        """As `lessons`, for users' first valid events after all of train; None where there are none."""
        targets = keep(self.offered(first_after(self.interactions, self.config.seed)), self.scratch("valid"))
        if targets.first() is None:
            return None, now
        return self.retrieved(targets, self.train, self.items, now, "validation"), now

    def questions(self, now: World) -> DataFrame:
        """Rows of `ask` for the night's own candidates."""
        events = self.interactions.where(F.col("split").isin(*solves.FOLDED))
        return ask(self.lake.read(self.spark, CANDIDATES), self.users, self.histories(events, now.catalogue), now)

    def world(self, events: DataFrame, items: DataFrame, name: str) -> World:
        known = items.select("item_id", "vector", "prior").join(self.texts, "item_id")
        if isinstance(self.settings.model, CrossEncoderReranker):
            known = known.join(self.tokens(), "item_id")
        if self.denied is not None:
            known = mark_denied(known, self.denied)
        return make_world(events, known, self.settings.cooccurrence, self.config.seed, self.scratch(name))

    def tokens(self) -> DataFrame:
        """(item_id, tokens array<float>): of equal length, as the catalogue wants it; ids below 2^24 are exact as floats."""
        places = F.sequence(F.lit(0), F.lit(self.config.encoder.max_length - 1))
        padded = F.transform(
            places, lambda n: F.coalesce(F.get("token_ids", n).cast("float"), F.lit(-1.0).cast("float"))
        )
        return self.lake.read(self.spark, ITEMS).select("item_id", padded.alias("tokens"))

    def histories(self, events: DataFrame, catalogue: Catalogue) -> DataFrame:
        return newest_histories(events, catalogue, self.settings.history, self.config.seed)

    def retrieved(self, targets: DataFrame, events: DataFrame, items: DataFrame, world: World, name: str) -> DataFrame:
        """Rows of `ask` with `target`, for (user_id, item_id): lists retrieved for the users as the events left them; like the night's own
        they hold nothing denied, nothing seen and nothing masked.
        """
        config, threads = self.config, task_threads(self.spark)
        theirs = events.join(targets.select("user_id"), "user_id", "left_semi")
        pairs = keep(solves.interaction_pairs(theirs, ("train",)), self.scratch(f"{name}/pairs"))
        solve = load_head(local_folder(self.path))[2]
        folded = solves.fold_in(
            pairs,
            items.select("item_id", "vector", "interactions", "exposure"),
            solve,
            config.embed.blocks,
            self.scratch(f"{name}/fold_in"),
        )
        users = keep(folded, self.scratch(f"{name}/users"))
        allowed = () if self.denied is None else (ALLOWED,)
        ranking = Ranking("vector", "vector", self.settings.model.depth, allowed)
        blocks = blocks_for(users.count(), self.settings)
        masked = self.interactions.where("split = 'masked'").join(targets.select("user_id"), "user_id", "left_semi")
        seen = seen_positions(theirs.unionByName(masked), world.catalogue)
        lists = recommend(users, seen, world.catalogue, ranking, blocks, self.settings, threads)
        positions = world.catalogue.positions(self.spark)
        wanted = targets.join(positions, "item_id").select("user_id", F.col("position").alias("target"))
        rows = ask(lists, users, self.histories(theirs, world.catalogue), world).join(wanted, "user_id")
        return keep(rows, self.scratch(f"{name}/rows"))
