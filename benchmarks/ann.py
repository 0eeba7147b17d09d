"""Lists by the index, against the exact ones and FAISS's inverted file: `make bench-ann`.

Items lie around topics, and their norms differ, as those of implicit factors do: factors of amazon-games (16,859 items, 64 numbers, by implicit ALS) were
looked at, and what is drawn here is, at that size, as hard to search: the lists (520 of k-means) that hold 95 % of the exact answer have 3.4 %
of the items here, 3.3 % there. The number of topics grows with the square root of the items'. Users are two tastes of unequal weight.

Ours is the stage candidates, lake to lake with its checks, with an index and without. The index is made before, once; what that takes is told. FAISS has the
arrays in memory, as many lists as the index, and probes the fewest that reach the recall. Then, unless quick, the two stages once more for five times as many
users: what the items alone take is the same. The same answer: RECALL of the exact lists, a hundredth less at most, as how many lists are probed was
chosen on a sample of the users.
"""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from harness import CORES, Contender, Line, Side, Turns, alternate, arguments, in_seconds, matmul_gflops, tell
from numpy.typing import NDArray
from topk import ours_of, write_files

from recspark.data.catalogue import vector_column

HERE = Path(__file__).parent
RECALL = 0.95
SLACK = 0.01  # of all users' recall: how many lists are probed was chosen on a sample of them
EXACT_GOAL, FAISS_GOAL = 10.0, 0.5
TOPICS = 300 / 16_859**0.5  # times the square root of the items
NOISE = 0.6  # of an item beside its topic, a dimension
NORMS = 0.795  # deviation of the norms' logarithm: a variation of .94
DATE = "2026-01-02"

Positions = NDArray[np.integer]


@dataclass(frozen=True)
class Size:
    """awake: users of a lake that is there only to keep the workers awake. many: users of the larger of the two others."""

    awake: int
    many: int
    users: int
    items: int
    dimension: int
    top_k: int


FULL = Size(awake=100, many=100_000, users=20_000, items=1_000_000, dimension=64, top_k=100)
QUICK = Size(awake=0, many=0, users=300, items=2_000, dimension=16, top_k=20)


def main() -> None:
    given = arguments(__doc__)
    size = QUICK if given.quick else FULL
    rates = matmul_gflops(given.turns)
    with TemporaryDirectory() as name:
        folder = Path(name)
        many = replace(size, users=size.many)
        worlds = {"whole": size}
        if not given.quick:
            worlds |= {"awake": replace(QUICK, users=size.awake), "many": many}
        for world, shape in worlds.items():
            write_world(folder / world, shape)
        about = prepare(folder, size, list(worlds))
        turns, turns_of_many, left_out = take_turns(folder, given.turns, given.quick)
        lines = [line_of(folder, "whole", size, "exact", turns, about["whole"])]
        if "many" in worlds:
            lines.append(line_of(folder, "many", many, "exact", turns_of_many, about["many"]))
        if "faiss" in turns:
            lines.append(
                line_of(folder, "whole", size, "faiss", turns, json.loads((folder / "faiss.json").read_text()))
            )
    tell("ann", lines, left_out, rates + matmul_gflops(given.turns), given.quick, index=about)


def shape_of(size: Size) -> str:
    return f"{size.users} users x {size.items} items x {size.dimension}, top {size.top_k}"


def write_world(folder: Path, size: Size) -> None:
    """items and users as Parquet (id, vector) and as arrays; see above for how they are drawn."""
    rng = np.random.default_rng(42)
    topics = rng.standard_normal((round(TOPICS * size.items**0.5), size.dimension))
    share = 1 / np.arange(1, len(topics) + 1) ** 0.8
    of = rng.choice(len(topics), size.items, p=share / share.sum())
    drawn = topics[of] + NOISE * rng.standard_normal((size.items, size.dimension))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    items = (drawn * rng.lognormal(0, NORMS, (size.items, 1))).astype(np.float32)
    tastes = drawn[rng.integers(size.items, size=(size.users, 2))]
    users = (tastes * rng.exponential(size=(size.users, 2, 1))).sum(1).astype(np.float32)
    for name, rows in (("items", items), ("users", users)):
        ids = np.arange(len(rows), dtype=np.int64)
        write_files(pa.table({"id": ids, "vector": vector_column(rows)}), folder / name)
        np.save(folder / f"{name}.npy", rows)


def prepare(folder: Path, size: Size, worlds: list[str]) -> dict[str, Any]:
    """A lake a side and world with these vectors and an index over them; returns by world what the index's manifest says, and the seconds it took."""
    command = [sys.executable, HERE / "ann_sides.py", "prepare", folder, str(size.top_k), *worlds]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for world in worlds:
        shutil.copytree(folder / "index" / world, folder / "exact" / world)
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(folder: Path, turns: int, quick: bool) -> tuple[dict[str, Turns], dict[str, Turns], list[str]]:
    """What each side took, and, unless quick, those on Spark with many users; and what was left out."""
    there = find_spec("faiss") is not None
    with ExitStack() as stack:
        sides = {}
        for name in ("index", "exact", *(["faiss"] if there else [])):
            command: list[str | Path] = [sys.executable, HERE / "ann_sides.py", name, folder, str(RECALL)]
            sides[name] = stack.enter_context(Side(name, command, folder, CORES if name == "faiss" else None))

        def take(world: str, *names: str) -> dict[str, Turns]:
            asked = [Contender(n, sides[n], lambda _: {"world": world}, {"world": "awake"}) for n in names]
            return alternate(asked, turns, quick, warm=world == "many")

        found = take("whole", *sides), {} if quick else take("many", "index", "exact")
    return *found, [] if there else ["FAISS: it is not installed"]


def line_of(folder: Path, world: str, size: Size, peer: str, turns: dict[str, Turns], more: dict[str, Any]) -> Line:
    """The index beside a peer, with the recall of all users: of the index's lists, or of the peer's where it is approximate too."""
    exact, ours = (ours_of(lists_in(folder / name / world), size.users, size.top_k) for name in ("exact", "index"))
    recalls = {"recall_of_all_users": recall_of(ours, exact)}
    against, goal = "the exact lists", EXACT_GOAL
    if peer == "faiss":
        recalls["peer_recall_of_all_users"] = recall_of(np.load(folder / "faiss.npy"), exact)
        against, goal = f"FAISS IVF alone, {more['lists']} lists, {more['probes']} probed", FAISS_GOAL
    same = min(recalls.values()) >= RECALL - SLACK
    told = {name: round(value, 4) for name, value in recalls.items()}
    return in_seconds(f"{against}, {shape_of(size)}", turns["index"], turns[peer], goal, same, **more, **told)


def lists_in(lake: Path) -> Path:
    return lake / "candidates" / f"run_date={DATE}"


def recall_of(found_UK: Positions, exact_UK: Positions) -> float:
    """The share of the exact lists that the lists hold; 0 if any is short or has an item twice."""
    held = [len(np.intersect1d(found, exact)) for found, exact in zip(found_UK, exact_UK, strict=True)]
    full = found_UK.min() >= 0 and (np.diff(np.sort(found_UK, axis=1), axis=1) > 0).all()
    return float(np.mean(held)) / exact_UK.shape[1] if full else 0.0


if __name__ == "__main__":
    main()
