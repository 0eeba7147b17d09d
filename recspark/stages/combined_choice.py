"""How the two models of `combine` go together, chosen by nDCG on what is held out."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.catalogue import Catalogue, vectors_of
from recspark.data.splits import uniform
from recspark.errors import UserError
from recspark.retrieval.combination import Choice, Crowd, own_weight
from recspark.stages.combined_world import World, with_histories
from recspark.stages.lists import over_blocks, seen_positions, seen_rows
from recspark.stages.reranking import arrays_of

if TYPE_CHECKING:
    from recspark.stages.combine import CombineConfig

Seen = Literal["filtered", "allowed", "chosen"]
SHARES = tuple(n / 10 for n in range(11))
DECAYS = (1.0, 0.9, 0.8, 0.7, 0.5)
REPEATS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5)
GAINED = "number int, gained double, users bigint"
USERS_PER_BLOCK = 256


def choose(
    world: World, held_out: DataFrame, settings: "CombineConfig", seed: int
) -> tuple[Choice, list[dict[str, Any]]]:
    """The best choice, and all that were tried, with their nDCG.

    held_out: (user_id, item_id). First the share, the decay and the texts together, then the decay again with whether and how much
    having an item speaks for it. Ties go to what was tried first: the smaller share, the slower decay, no text.
    """
    users = questions(world, held_out, settings, seed)
    first = None if settings.seen == "filtered" else 0.0
    grid = [Choice(s, d, t, first) for t in world.similar for d in DECAYS for s in SHARES]
    tried = measured(world, users, grid, settings)
    if settings.seen != "filtered":
        best = max(grid, key=lambda c: tried[c])
        options = ((None,) if settings.seen == "chosen" else ()) + REPEATS[1:]
        tried |= measured(world, users, [replace(best, decay=d, repeat=r) for d in DECAYS for r in options], settings)
    chosen = max(tried, key=lambda c: tried[c])
    return chosen, [{**choice.described(), "ndcg": value} for choice, value in tried.items()]


def questions(world: World, held_out: DataFrame, settings: "CombineConfig", seed: int) -> DataFrame:
    """(user_id, vector, history, wanted): users who have a vector, a history and something held out, as many as are asked for."""
    placed = held_out.join(world.catalogue.positions(held_out.sparkSession), "item_id")
    if settings.seen == "filtered":
        placed = placed.join(seen_positions(world.events, world.catalogue), ["user_id", "position"], "left_anti")
    wanted = placed.groupBy("user_id").agg(F.sort_array(F.collect_set("position")).alias("wanted"))
    drawn = wanted.orderBy(uniform(seed, "combine", "user_id"), "user_id").limit(settings.choose_users)
    users = world.users.select("user_id", "vector").join(drawn, "user_id")
    return with_histories(users, world.events, world.catalogue, seed).where(F.size("history") > 0)


def measured(world: World, users: DataFrame, choices: list[Choice], settings: "CombineConfig") -> dict[Choice, float]:
    """nDCG of each choice, on average over the users.

    Raises UserError if there is no user.
    """
    catalogue, matrices, k = world.catalogue, world.similar, settings.choose_at
    units = {weight: own_weight(matrices[weight].read()) for weight in {c.text_weight for c in choices}}

    def gains(users: pa.Table, seen: pa.Table) -> pa.Table:
        crowd = crowd_of(users, seen, catalogue)
        similar = {weight: matrices[weight].read() for weight in units}
        totals = [float(crowd.ndcg(c, similar[c.text_weight], units[c.text_weight], k).sum()) for c in choices]
        numbers = np.arange(len(choices), dtype=np.int32)
        return pa.table({"number": numbers, "gained": totals, "users": np.full(len(choices), len(users))})

    blocks = max(1, -(-users.count() // USERS_PER_BLOCK))
    seen = seen_positions(world.events, catalogue).join(users.select("user_id"), "user_id", "left_semi")
    parts = over_blocks(users, seen, blocks, gains, GAINED).collect()
    asked = sum(part["users"] for part in parts if part["number"] == 0)
    if not asked:
        raise UserError(
            "combine: nobody to choose on: no user has something to recommend from and, held out, something to find; set "
            "preprocess.split so that valid rows or a test can be drawn, or leave out the section combine"
        )
    gained = [math.fsum(p["gained"] for p in parts if p["number"] == n) / asked for n in range(len(choices))]
    return dict(zip(choices, gained, strict=True))


def crowd_of(users: pa.Table, seen: pa.Table, catalogue: Catalogue) -> Crowd:
    """A block of users, their vectors, histories, wants and seen items."""
    rows = seen_rows(users["user_id"], seen)
    had = np.zeros((len(users), catalogue.items), bool)
    had[np.repeat(np.arange(len(users)), np.diff(rows.indptr)), rows.indices] = True
    vectors = vectors_of(users["vector"])
    return Crowd(vectors, catalogue.array("vector"), users["history"], arrays_of(users["wanted"]), had)
