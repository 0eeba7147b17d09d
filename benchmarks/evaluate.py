"""Lists judged, against recommenders' Spark evaluation, RePlay's OfflineMetrics and ranx: `make bench-evaluate`.

Every user has a list and some relevant items, about one in ten of which is listed. All go from the same Parquet files; ours and the first
two on Spark with the same session, ranx in memory and on all cores. Ours adds what a peer has not: intervals by a thousand bootstrap
replicates, novelty, popularity and coverage. Answers are the same if each metric that both have agrees.

recommenders and RePlay are in an environment of their own, which `make bench-evaluate` makes; without it they are left out.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from harness import CORES, ROOT, Contender, Line, Side, alternate, arguments, in_seconds, matmul_gflops, tell
from topk import write_files

HERE = Path(__file__).parent
PEERS = ROOT / ".venv-peers"
KS = (10, 20)
AGREE = 1e-6
GOALS = {"recommenders": 10.0, "replay": 10.0, "ranx": 1.0}
THEIRS = PEERS / "bin" / "python"
HANDED = {"ranx": ", its dictionaries made of Parquet each time"}  # what of a peer's seconds is not judging
PYTHONS = {"ours": Path(sys.executable), "recommenders": THEIRS, "replay": THEIRS, "ranx": Path(sys.executable)}


@dataclass(frozen=True)
class Size:
    """relevant: of each user, from one to so many."""

    users: int
    listed: int
    items: int
    relevant: int


FULL, QUICK, AWAKE = Size(200_000, 100, 20_000, 19), Size(200, 20, 500, 9), Size(500, 20, 500, 9)


def main() -> None:
    given = arguments(__doc__)
    size = QUICK if given.quick else FULL
    ready = (PEERS / ".ready").exists()
    there = [name for name, python in PYTHONS.items() if ready or python != THEIRS]
    left_out = [f"{name}: it is not in .venv-peers" for name in PYTHONS if name not in there]
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder, rates = Path(name), matmul_gflops(given.turns)
        for world, what in (("awake", AWAKE), ("lists", size)):
            write_world(folder / world, what)
        sides = {name: stack.enter_context(start(name, folder)) for name in there}
        took = alternate([contender(name, side, folder) for name, side in sides.items()], given.turns, given.quick)
        rates += matmul_gflops(given.turns)
        found = {name: json.loads((folder / f"{name}.json").read_text()) for name in there}
    lines: list[Line] = []
    for peer in there[1:]:
        both = sorted(found["ours"].keys() & found[peer].keys())
        what = (
            f"{peer}{HANDED.get(peer, '')}; {size.users} users x {size.listed} candidates, {len(both)} values compared"
        )
        same = bool(both) and agree([found["ours"][key] for key in both], [found[peer][key] for key in both])
        lines.append(in_seconds(what, took["ours"], took[peer], GOALS[peer], same, compared=both))
    tell("evaluate", lines, left_out, rates, given.quick)


def agree(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return bool(np.abs(np.subtract(ours, theirs)).max() < AGREE)


def start(name: str, folder: Path) -> Side:
    command: list[str | Path] = [PYTHONS[name], HERE / "evaluate_sides.py", name]
    return Side(name, command, folder, CORES if name == "ranx" else None)


def contender(name: str, side: Side, folder: Path) -> Contender:
    def request(world: str) -> dict[str, Any]:
        return {"world": str(folder / world), "ks": KS, "found": str(folder / f"{name}.json")}

    return Contender(name, side, lambda _: request("lists"), request("awake"))


def write_world(folder: Path, size: Size) -> None:
    """lists: (user_id, rank, item_id, score), truth: (user_id, item_id), items: (item_id); numbers all, items being their positions."""
    rng = np.random.default_rng(42)
    drawn_UK = np.argsort(rng.random((size.users, size.listed * 2)), axis=1)[:, : size.listed]  # no number twice
    apart = size.items // (size.listed * 2)  # each stands for so many items, of which a user gets the same one
    lists_UK = drawn_UK * apart + rng.integers(apart, size=(size.users, 1))
    counts = rng.integers(1, size.relevant + 1, size.users)
    owner = np.repeat(np.arange(size.users), counts)
    relevant = rng.integers(size.items, size=len(owner))
    hit = rng.random(len(owner)) < 0.1
    relevant[hit] = lists_UK[owner[hit], rng.integers(size.listed, size=hit.sum())]
    truth = np.unique(np.stack([owner, relevant], 1), axis=0).astype(np.int32)
    ranks = np.tile(np.arange(1, size.listed + 1, dtype=np.int32), size.users)
    rows = {"user_id": np.repeat(np.arange(size.users, dtype=np.int32), size.listed), "rank": ranks}
    rows |= {"item_id": lists_UK.ravel().astype(np.int32), "score": (1.0 / ranks).astype(np.float64)}
    write_files(pa.table(rows), folder / "lists")
    write_files(pa.table({"user_id": truth[:, 0], "item_id": truth[:, 1]}), folder / "truth")
    write_files(pa.table({"item_id": np.arange(size.items, dtype=np.int32)}), folder / "items")


if __name__ == "__main__":
    main()
