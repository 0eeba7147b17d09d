"""How the models of `combine` go together, chosen by nDCG on what is held out."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data import solves
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue
from recspark.data.splits import uniform
from recspark.errors import UserError
from recspark.retrieval.combination import Again, Choice, Crowd, Texts, own_weight
from recspark.stages.combined_world import NOBODY, Sides, World, with_histories
from recspark.stages.lists import NEVER_AGAIN, SEEN_SPLITS, over_blocks, seen_positions, seen_rows
from recspark.stages.reranking import arrays_of

if TYPE_CHECKING:
    from recspark.stages.combine import CombineConfig

Seen = Literal["filtered", "allowed", "chosen"]
Turn = Literal["share", "texts", "sequence", "popularity", "again"]
TURNS: tuple[Turn, ...] = get_args(Turn)
MAY_COME: dict[Seen, tuple[Again, ...]] = {
    "filtered": ("nothing",),
    "allowed": ("newest", "all"),
    "chosen": ("nothing", "newest", "all"),
}
SHARES = tuple(n / 10 for n in range(11))
DECAYS = (1.0, 0.9, 0.8, 0.7, 0.5)
REPEATS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5)
GAINED = "block string, number int, gained array<double>"
USERS_PER_BLOCK = 256


@dataclass(frozen=True)
class Asked:
    """Who is chosen on, kept: users (user_id, vector, history, wanted); seen (user_id, position, never), what they may not get again, and may
    never get; in how many blocks they are gone through; and positions that nobody gets."""

    users: DataFrame
    seen: DataFrame
    blocks: int
    denied: NDArray[np.int64]


@dataclass(frozen=True)
class Chosen:
    """The choice; all that were tried, each with its nDCG; and the turns: what the best of each gained per user over what stood, with the
    standard error of that gain, and whether it was taken."""

    choice: Choice
    tried: list[dict[str, Any]]
    turns: list[dict[str, Any]]


def choose(
    world: World,
    held_out: DataFrame,
    settings: "CombineConfig",
    seed: int,
    scratch: str,
    denied: DataFrame | None = None,
    may_come: tuple[Again, ...] | None = None,
) -> Chosen:
    """How the parts go together best on what is held out.

    held_out: (user_id, item_id). denied: (item_id) of what no list may hold. may_come: what of the history may be chosen to come again, by default as the settings say. From the
    factors alone, by turns until none is taken any more: EASE's share and the decay; the texts in it, with the share; where there is a sequence model, its share with that
    of EASE; popularity's share and half-life; the decay with what may come again and how much having it speaks for it. A turn's best
    is taken where it gains more than the standard error of the gain (over users, in pairs): a part that only seems to help stays out.
    Ties go to what was tried first: the smaller share, the slower decay, no text, then the fine-tuned encoder's;
    all events alike popular, then the longer half-life; nothing again.
    """
    if denied is not None:
        held_out = held_out.join(denied, "item_id", "left_anti")
    asked = asked_of(world, held_out, settings, seed, scratch, denied)
    units = {texts: own_weight(matrix.read()) for texts, matrix in world.similar.items()}
    may_come = may_come or MAY_COME[settings.seen]
    gained: dict[Choice, NDArray[np.float64]] = {}
    chosen, turns = Choice(again=may_come[0]), []
    before = None
    while chosen != before:
        before = chosen
        for turn in TURNS:
            options = [chosen, *options_of(turn, chosen, world, may_come)]
            new = [choice for choice in dict.fromkeys(options) if choice not in gained]
            gained.update(measured(world, asked, new, units, settings.choose_at) if new else {})
            best = max(options, key=lambda choice: math.fsum(gained[choice]))
            if best == chosen:
                continue
            gain, error = paired_gain(gained[best], gained[chosen])
            turns.append({"turn": turn, "gain": gain, "standard_error": error, "taken": gain > error})
            if gain > error:
                chosen = best
    tried = [{**choice.described(), "ndcg": math.fsum(found) / len(found)} for choice, found in gained.items()]
    return Chosen(chosen, tried, turns)


def options_of(turn: Turn, chosen: Choice, world: World, may_come: tuple[Again, ...]) -> list[Choice]:
    """What a turn tries."""
    if turn == "share":
        return [replace(chosen, share=s, decay=d) for d in DECAYS for s in SHARES]
    if turn == "texts":
        return [replace(chosen, share=s, texts=t) for t in world.similar for s in SHARES]
    if turn == "sequence":
        without = world.sides.sequences is None
        return [] if without else [replace(chosen, sequence=q, share=s) for q in SHARES for s in SHARES]
    if turn == "popularity":
        half_lives = world.sides.popularity.half_lives
        return [replace(chosen, popularity=p, half_life_days=h) for h in half_lives for p in SHARES]
    return [replace(chosen, again=a, decay=d, repeat=r) for a in may_come for d in DECAYS for r in strengths(a)]


def paired_gain(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """The mean over users of what they gain, and its standard error; of one user nobody knows it, so it is infinite."""
    gains = ours - theirs
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return float(gains.mean()), float(error)


def strengths(again: Again) -> tuple[float, ...]:
    """What having an item may say for it, where it can come again."""
    return (0.0,) if again == "nothing" else REPEATS


def asked_of(
    world: World,
    held_out: DataFrame,
    settings: "CombineConfig",
    seed: int,
    scratch: str,
    denied: DataFrame | None = None,
) -> Asked:
    """Raises UserError if there is no user."""
    users = keep(questions(world, held_out, settings, seed), f"{scratch}/questions")
    count = users.count()
    if not count:
        raise UserError(NOBODY)
    theirs = world.events.join(users.select("user_id"), "user_id", "left_semi")
    never = seen_positions(theirs, world.catalogue, NEVER_AGAIN).withColumn("never", F.lit(True))
    seen = seen_positions(theirs, world.catalogue).withColumn("never", F.lit(False)).unionByName(never)
    return Asked(
        users, keep(seen, f"{scratch}/seen"), -(-count // USERS_PER_BLOCK), denied_positions(world.catalogue, denied)
    )


def denied_positions(catalogue: Catalogue, denied: DataFrame | None) -> NDArray[np.int64]:
    """Of the catalogue's items that are named, ascending."""
    if denied is None:
        return np.zeros(0, np.int64)
    placed = denied.join(catalogue.positions(denied.sparkSession), "item_id").select("position")
    return np.sort(placed.toArrow()["position"].to_numpy()).astype(np.int64)


def questions(world: World, held_out: DataFrame, settings: "CombineConfig", seed: int) -> DataFrame:
    """(user_id, vector, history, wanted): users who have a vector, a history and something held out, as many as are asked for."""
    placed = held_out.join(world.catalogue.positions(held_out.sparkSession), "item_id")
    never = SEEN_SPLITS if settings.seen == "filtered" else NEVER_AGAIN
    placed = placed.join(seen_positions(world.events, world.catalogue, never), ["user_id", "position"], "left_anti")
    for could_be_asked in (world.users, seen_positions(world.events, world.catalogue, solves.FOLDED)):
        placed = placed.join(could_be_asked.select("user_id"), "user_id", "left_semi")
    wanted = placed.groupBy("user_id").agg(F.sort_array(F.collect_set("position")).alias("wanted"))
    drawn = wanted.orderBy(uniform(seed, "combine", "user_id"), "user_id").limit(settings.choose_users)
    users = world.users.select("user_id", "vector").join(drawn, "user_id")
    return with_histories(users, world.events, world.catalogue, seed)


def measured(
    world: World, asked: Asked, choices: list[Choice], units: dict[Texts, float], k: int
) -> dict[Choice, NDArray[np.float64]]:
    """(U,) nDCG@k of each user under each choice, the users always in the same order. units: `own_weight` of S by the texts in it."""
    matrices, sides, denied = world.similar, world.sides, asked.denied

    def gains(users: pa.Table, seen: pa.Table) -> pa.Table:
        crowd = crowd_of(users, seen, sides, denied)
        similar = {texts: matrix.read() for texts, matrix in matrices.items()}
        found = [crowd.ndcg(c, similar[c.texts], units[c.texts], k).astype(np.float64) for c in choices]
        first = [str(users["user_id"][0].as_py())] * len(choices)
        return pa.table({"block": first, "number": np.arange(len(choices), dtype=np.int32), "gained": found})

    parts = over_blocks(asked.users, asked.seen, asked.blocks, gains, GAINED).collect()
    by_choice: dict[int, list[NDArray[np.float64]]] = {}
    for part in sorted(parts, key=lambda part: part["block"]):
        by_choice.setdefault(part["number"], []).append(np.array(part["gained"]))
    return {choice: np.concatenate(by_choice[number]) for number, choice in enumerate(choices)}


def crowd_of(users: pa.Table, seen: pa.Table, sides: Sides, denied: NDArray[np.int64]) -> Crowd:
    """A block of users, their vectors, histories, wants and seen items (user_id, position, never). denied: positions that nobody gets."""

    def marked(rows: pa.Table) -> NDArray[np.bool_]:
        placed, marks = seen_rows(users["user_id"], rows), np.zeros((len(users), sides.catalogue.items), bool)
        marks[np.repeat(np.arange(len(users)), np.diff(placed.indptr)), placed.indices] = True
        marks[:, denied] = True
        return marks

    popular = {half_life: sides.popularity.of(half_life) for half_life in sides.popularity.half_lives}
    wanted, never = arrays_of(users["wanted"]), marked(seen.filter(seen["never"]))
    return Crowd(sides.personal(users), popular, users["history"], wanted, marked(seen), never)
