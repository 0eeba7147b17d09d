"""How the models of `combine` go together, chosen by nDCG on what is held out."""

import math
from collections.abc import Sequence
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
class Round:
    """One world to choose in, and who is asked there; ids (U,) of these, in the order of what is measured of them; units: `own_weight` of S
    by the texts in it."""

    world: World
    asked: Asked
    ids: NDArray[np.str_]
    units: dict[Texts, float]

    def has(self, choice: Choice) -> bool:
        """Whether all parts of the choice are there: a sequence model may have learned what is held out here."""
        return not choice.sequence or self.world.sides.sequences is not None


@dataclass(frozen=True)
class Chosen:
    """The choice; all that were tried, each with its nDCG and how many hold-outs that is of; and the turns: what the best of each gained per
    question over what stood, with the standard error of that gain, in how many hold-outs, and whether it was taken."""

    choice: Choice
    tried: list[dict[str, Any]]
    turns: list[dict[str, Any]]


def choose(
    held_out: Sequence[tuple[World, DataFrame]],
    settings: "CombineConfig",
    seed: int,
    scratch: str,
    denied: DataFrame | None = None,
    may_come: tuple[Again, ...] | None = None,
) -> Chosen:
    """How the parts go together best on what is held out.

    held_out: worlds, with (user_id, item_id) of what each is without; if any has a sequence model, the first has. denied: (item_id) of what no list may hold.
    may_come: what of the history may be chosen to come again, by default as the settings say. From the
    factors alone, by turns until none is taken any more: EASE's share and the decay; the texts in it, with the share; where there is a sequence model, its share with that
    of EASE; popularity's share and half-life; the decay with what may come again and how much having it speaks for it. A turn's best
    is taken where it gains more than the standard error of the gain (over users, in pairs): a part that only seems to help stays out.
    What is compared is compared in the hold-outs that have all of it, and only what these judge is taken: where not all have a sequence model, a share that suits
    the first better is no reason for one, and the turns do not go back to a choice without, so that they end.
    Ties go to what was tried first: the smaller share, the slower decay, no text, then the fine-tuned encoder's;
    all events alike popular, then the longer half-life; nothing again.
    """
    found = [
        round_of(world, rows, settings, seed, f"{scratch}/{number}", denied)
        for number, (world, rows) in enumerate(held_out)
    ]
    if found[0] is None:
        raise UserError(NOBODY)
    rounds = [one for one in found if one is not None]
    may_come = may_come or MAY_COME[settings.seen]
    gained: dict[Choice, list[NDArray[np.float64]]] = {}
    chosen, turns = Choice(again=may_come[0]), []
    before = None
    while chosen != before:
        before = chosen
        for turn in TURNS:
            options = [chosen, *options_of(turn, chosen, held_out[0][0], may_come)]
            common = min(sum(one.has(choice) for one in rounds) for choice in options)
            measure(rounds, options, settings.choose_at, gained)
            users = np.concatenate([one.ids for one in rounds[:common]])
            here = {choice: np.concatenate(gained[choice][:common]) for choice in options}
            best = max(options, key=lambda choice: math.fsum(here[choice]))
            if best == chosen or len(gained[best]) > common:
                continue
            gain, error = paired_gain(here[best], here[chosen], users)
            told = {"turn": turn, "gain": gain, "standard_error": error, "hold_outs": common}
            turns.append({**told, "taken": gain > error})
            if gain > error:
                chosen = best
    tried = [
        {**choice.described(), "ndcg": float(np.concatenate(values).mean()), **of_first(values)}
        for choice, values in gained.items()
    ]
    return Chosen(chosen, tried, turns)


def of_first(values: list[NDArray[np.float64]]) -> dict[str, Any]:
    """How many hold-outs there are, and the nDCG of the first, in which all choices are judged."""
    return {"hold_outs": len(values), "first": float(values[0].mean())}


def round_of(
    world: World,
    held_out: DataFrame,
    settings: "CombineConfig",
    seed: int,
    scratch: str,
    denied: DataFrame | None,
) -> Round | None:
    """None if there is nobody to ask."""
    if denied is not None:
        held_out = held_out.join(denied, "item_id", "left_anti")
    asked = asked_of(world, held_out, settings, seed, scratch, denied)
    if asked is None:
        return None
    units = {texts: own_weight(matrix.read()) for texts, matrix in world.similar.items()}
    return Round(world, asked, ids_of(asked), units)


def measure(
    rounds: list[Round], choices: list[Choice], k: int, gained: dict[Choice, list[NDArray[np.float64]]]
) -> None:
    """Adds to `gained` what `measured` says of the choices that are not in it, in each hold-out that has them."""
    new = [choice for choice in dict.fromkeys(choices) if choice not in gained]
    for one in rounds:
        able = [choice for choice in new if one.has(choice)]
        if able:
            for choice, found in measured(one, able, k).items():
                gained.setdefault(choice, []).append(found)


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


def paired_gain(ours: NDArray[np.float64], theirs: NDArray[np.float64], users: NDArray[np.str_]) -> tuple[float, float]:
    """The mean gain of all questions, and its standard error over users, whose questions in several hold-outs are not independent (clusters, Liang
    and Zeger 1986; of one question a user, the usual error of a mean). Of one user nobody knows it, so it is infinite."""
    gains = ours - theirs
    people, place = np.unique(users, return_inverse=True)
    if len(people) == 1:
        return float(gains.mean()), math.inf
    off = np.bincount(place, gains - gains.mean())
    return float(gains.mean()), math.sqrt(len(people) / (len(people) - 1) * float(off @ off)) / len(gains)


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
) -> Asked | None:
    """None if there is no user."""
    users = keep(questions(world, held_out, settings, seed), f"{scratch}/questions")
    count = users.count()
    if not count:
        return None
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


def measured(one: Round, choices: list[Choice], k: int) -> dict[Choice, NDArray[np.float64]]:
    """(U,) nDCG@k of each user under each choice, the users always in the same order, that of `ids_of`."""
    world, asked, units = one.world, one.asked, one.units
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


def ids_of(asked: Asked) -> NDArray[np.str_]:
    """(U,) ids of who is asked, as text, in the order of `measured`."""

    def ids(users: pa.Table, _: pa.Table) -> pa.Table:
        found = [str(user) for user in users["user_id"].to_pylist()]
        return pa.table({"block": found[:1], "users": [found]})

    parts = over_blocks(asked.users, asked.seen, asked.blocks, ids, "block string, users array<string>").collect()
    return np.array([user for part in sorted(parts, key=lambda part: part["block"]) for user in part["users"]])


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
