"""How the models of `combine` go together, chosen by nDCG on what is held out."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.blocks import keep
from recspark.data.splits import uniform
from recspark.errors import UserError
from recspark.retrieval.combination import Again, Choice, Crowd, Texts, own_weight
from recspark.stages.combined_world import NOBODY, Sides, World, with_histories
from recspark.stages.lists import NEVER_AGAIN, SEEN_SPLITS, over_blocks, seen_positions, seen_rows
from recspark.stages.reranking import arrays_of

if TYPE_CHECKING:
    from recspark.stages.combine import CombineConfig

Seen = Literal["filtered", "allowed", "chosen"]
SHARES = tuple(n / 10 for n in range(11))
DECAYS = (1.0, 0.9, 0.8, 0.7, 0.5)
REPEATS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5)
AGAIN: tuple[Again, ...] = ("newest", "all")
GAINED = "number int, gained double, users bigint"
USERS_PER_BLOCK = 256


def choose(
    world: World, held_out: DataFrame, settings: "CombineConfig", seed: int, scratch: str
) -> tuple[Choice, list[dict[str, Any]]]:
    """The best choice, and all that were tried, with their nDCG.

    held_out: (user_id, item_id). By turns, until none gains any more: the share, the decay and the texts together; where there is a
    sequence model, its share with that of EASE; popularity's share and half-life; and, where items may come again, the decay with what may and how much having it
    speaks for it. Ties go to what was tried first: the smaller share, the slower decay, no text, then the fine-tuned encoder's;
    all events alike popular, then the longer half-life; nothing again.
    """
    users = keep(questions(world, held_out, settings, seed), f"{scratch}/questions")
    units = {texts: own_weight(matrix.read()) for texts, matrix in world.similar.items()}
    may_come = {"filtered": (), "allowed": AGAIN, "chosen": ("nothing", *AGAIN)}[settings.seen]
    tried: dict[Choice, float] = {}

    def best(options: list[Choice]) -> Choice:
        new = [choice for choice in dict.fromkeys(options) if choice not in tried]
        tried.update(measured(world, users, new, units, settings) if new else {})
        return max(options, key=lambda choice: tried[choice])

    chosen, before = Choice(again=may_come[0] if may_come else "nothing"), -1.0
    while before < tried.get(chosen, 0.0):
        before = tried.get(chosen, 0.0)
        chosen = best(
            [replace(chosen, share=s, decay=d, texts=t) for t in world.similar for d in DECAYS for s in SHARES]
        )
        if world.sides.sequences is not None:
            chosen = best([replace(chosen, sequence=q, share=s) for q in SHARES for s in SHARES])
        half_lives = world.sides.popularity.half_lives
        chosen = best([replace(chosen, popularity=p, half_life_days=h) for h in half_lives for p in SHARES])
        if may_come:
            chosen = best(
                [replace(chosen, again=a, decay=d, repeat=r) for a in may_come for d in DECAYS for r in strengths(a)]
            )
    return chosen, [{**choice.described(), "ndcg": value} for choice, value in tried.items()]


def strengths(again: Again) -> tuple[float, ...]:
    """What having an item may say for it, where it can come again."""
    return (0.0,) if again == "nothing" else REPEATS


def questions(world: World, held_out: DataFrame, settings: "CombineConfig", seed: int) -> DataFrame:
    """(user_id, vector, history, wanted): users who have a vector, a history and something held out, as many as are asked for."""
    placed = held_out.join(world.catalogue.positions(held_out.sparkSession), "item_id")
    never = SEEN_SPLITS if settings.seen == "filtered" else NEVER_AGAIN
    placed = placed.join(seen_positions(world.events, world.catalogue, never), ["user_id", "position"], "left_anti")
    wanted = placed.groupBy("user_id").agg(F.sort_array(F.collect_set("position")).alias("wanted"))
    drawn = wanted.orderBy(uniform(seed, "combine", "user_id"), "user_id").limit(settings.choose_users)
    users = world.users.select("user_id", "vector").join(drawn, "user_id")
    return with_histories(users, world.events, world.catalogue, seed).where(F.size("history") > 0)


def measured(
    world: World, users: DataFrame, choices: list[Choice], units: dict[Texts, float], settings: "CombineConfig"
) -> dict[Choice, float]:
    """nDCG of each choice, on average over the users. units: `own_weight` of S by the texts in it.

    Raises UserError if there is no user.
    """
    catalogue, matrices, sides, k = world.catalogue, world.similar, world.sides, settings.choose_at

    def gains(users: pa.Table, seen: pa.Table) -> pa.Table:
        crowd = crowd_of(users, seen, sides)
        similar = {texts: matrix.read() for texts, matrix in matrices.items()}
        totals = [float(crowd.ndcg(c, similar[c.texts], units[c.texts], k).sum()) for c in choices]
        numbers = np.arange(len(choices), dtype=np.int32)
        return pa.table({"number": numbers, "gained": totals, "users": np.full(len(choices), len(users))})

    blocks = max(1, -(-users.count() // USERS_PER_BLOCK))
    theirs = world.events.join(users.select("user_id"), "user_id", "left_semi")
    never = seen_positions(theirs, catalogue, NEVER_AGAIN).withColumn("never", F.lit(True))
    seen = seen_positions(theirs, catalogue).withColumn("never", F.lit(False)).unionByName(never)
    parts = over_blocks(users, seen, blocks, gains, GAINED).collect()
    asked = sum(part["users"] for part in parts if part["number"] == 0)
    if not asked:
        raise UserError(NOBODY)
    gained = [math.fsum(p["gained"] for p in parts if p["number"] == n) / asked for n in range(len(choices))]
    return dict(zip(choices, gained, strict=True))


def crowd_of(users: pa.Table, seen: pa.Table, sides: Sides) -> Crowd:
    """A block of users, their vectors, histories, wants and seen items (user_id, position, never)."""

    def marked(rows: pa.Table) -> NDArray[np.bool_]:
        placed, marks = seen_rows(users["user_id"], rows), np.zeros((len(users), sides.catalogue.items), bool)
        marks[np.repeat(np.arange(len(users)), np.diff(placed.indptr)), placed.indices] = True
        return marks

    popular = {half_life: sides.popularity.of(half_life) for half_life in sides.popularity.half_lives}
    wanted, never = arrays_of(users["wanted"]), marked(seen.filter(seen["never"]))
    return Crowd(sides.personal(users), popular, users["history"], wanted, marked(seen), never)
