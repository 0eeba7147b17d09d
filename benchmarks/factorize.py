"""Implicit matrix factorization, against Spark MLlib's ALS and the library `implicit`: `make bench-factorize`.

Each side goes from a log in Parquet (user_id, item_id, weight) to factors in Parquet: as many iterations of alternating least
squares, 64 factors. Ours and Spark's run in a session of the same settings; `implicit` uses all cores, from arrays to arrays in
memory, and its own default, three steps of conjugate gradients in place of a solve. The logs: amazon-games (of the folder named by
RECSPARK_DATASETS), and a made-up one with the long tails of real ones.

The three minimise losses that differ in how an event's weight counts, so factors are not compared with each other: an
answer is right if the user factors solve the side's own normal equations for the item factors beside them; for the peer that
steps towards it, if its loss is near that of the solve.
"""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from harness import Contender, Line, Side, Turns, alternate, arguments, data_set, in_seconds, matmul_gflops, tell
from numpy.typing import NDArray

from recspark.data.catalogue import vectors_of

HERE = Path(__file__).parent
ALS_GOAL, IMPLICIT_GOAL = 4.0, 1 / 3
FACTORS, ITERATIONS = 64, 3
REGULARIZATION, ALPHA = 0.1, 1.0
FILES = 8
CHECKED = 200  # users whose equations are set up anew
ROUNDING = 1e-3  # of a solution, beside its length
STEPPED = 0.02  # of the least loss of all rows looked at, how far one who steps towards it may lie above
SIDES = {
    "ours": None,
    "als": None,
    "implicit": 1,
}  # threads of BLAS that each is told; implicit starts its own, and wants one of BLAS's each
AWAKE_EVENTS = 2000

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Log:
    """Events of whole numbers: user and item of each pair, once; each of weight 1."""

    name: str
    pairs_N2: NDArray[np.int32]

    def described(self) -> str:
        users, items = (len(np.unique(column)) for column in self.pairs_N2.T)
        return f"{self.name}: {len(self.pairs_N2)} pairs of {users} users and {items} items"


def synthetic(events: int, rng: np.random.Generator) -> Log:
    """A tenth as many users, a hundredth as many items: Pareto activity of users, Zipf popularity of items; pairs once each."""
    users, items = max(20, events // 10), max(20, events // 100)
    activity = rng.pareto(1.5, users) + 1
    chosen = rng.choice(users, events, p=activity / activity.sum())
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    met = rng.choice(items, events, p=popularity / popularity.sum())
    pairs = np.unique(chosen.astype(np.int64) * items + met)
    return Log("synthetic", np.stack([pairs // items, pairs % items], 1).astype(np.int32))


def games(folder: Path) -> Log:
    """Every user and item of amazon-games' events, numbered."""
    events = ds.dataset(folder / "events.parquet").to_table(["user_id", "item_id"])
    numbers = [pc.dictionary_encode(events[c]).combine_chunks().indices.to_numpy() for c in ("user_id", "item_id")]
    return Log("amazon-games", np.unique(np.stack(numbers, 1), axis=0).astype(np.int32))


def main() -> None:
    given = arguments(__doc__)
    rng = np.random.default_rng(42)
    logs, left_out = [synthetic(3000 if given.quick else 10_000_000, rng)], []
    if data_sets := os.environ.get("RECSPARK_DATASETS"):
        logs.insert(0, games(data_set(data_sets, "amazon-games")))
    else:
        left_out.append("amazon-games: RECSPARK_DATASETS names no folder that has it")
    with TemporaryDirectory() as name:
        folder, rates, lines = Path(name), matmul_gflops(given.turns), []
        write(Log("awake", logs[0].pairs_N2[:AWAKE_EVENTS]), folder)
        for number, log in enumerate(logs, 1):
            write(log, folder)
            lines += compare(log, folder, given.turns, given.quick)
            rates += matmul_gflops(given.turns)
            tell("factorize", lines, left_out, rates, given.quick, to_come=[later.name for later in logs[number:]])


def write(log: Log, folder: Path) -> None:
    columns = {"user_id": log.pairs_N2[:, 0], "item_id": log.pairs_N2[:, 1]}
    table = pa.table(
        {**columns, "weight": np.ones(len(log.pairs_N2), np.float32), "split": ["train"] * len(log.pairs_N2)}
    )
    (folder / log.name).mkdir()
    rows = max(1, -(-len(table) // FILES))
    for number in range(FILES):
        pq.write_table(table.slice(number * rows, rows), folder / log.name / f"part-{number:05}.parquet")


def compare(log: Log, folder: Path, turns: int, quick: bool) -> list[Line]:
    with ExitStack() as stack:
        sides = {name: stack.enter_context(start(name, threads, folder)) for name, threads in SIDES.items()}
        took = alternate([contender(name, side, log, folder) for name, side in sides.items()], turns, quick)
    what = f"{log.described()}, {FACTORS} factors, {ITERATIONS} iterations"
    right = {name: solved(folder / f"{log.name}-{name}", log, name) for name in SIDES}

    def line(name: str, peer: str, goal: float) -> Line:
        ours: Turns = took["ours"]
        return in_seconds(f"{name}; {what}", ours, took[peer], goal, right["ours"] and right[peer])

    return [line("Spark's ALS", "als", ALS_GOAL), line("implicit", "implicit", IMPLICIT_GOAL)]


def start(name: str, threads: int | None, folder: Path) -> Side:
    return Side(name, [sys.executable, HERE / "factorize_sides.py", name], folder, threads)


def contender(name: str, side: Side, log: Log, folder: Path) -> Contender:
    def request(data: str) -> dict[str, Any]:
        settings = {"factors": FACTORS, "iterations": ITERATIONS, "regularization": REGULARIZATION, "alpha": ALPHA}
        return {"log": str(folder / data), "factors_to": str(folder / f"{data}-{name}"), **settings}

    return Contender(name, side, lambda _: request(log.name), request("awake"))


def solved(folder: Path, log: Log, side: str) -> bool:
    """Whether what was solved for last, users or with `implicit` items, solves its equations, A x = b, beside the other side's factors;
    by steps, whether the rows have together nearly the least loss, Σ xᵀAx - 2 bᵀx."""
    rows, columns = ("item", "user") if side == "implicit" else ("user", "item")
    solutions, vectors = (read(folder / f"{name}s", f"{name}_id") for name in (rows, columns))
    pairs = log.pairs_N2[:, ::-1] if rows == "item" else log.pairs_N2
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    met = vectors[np.unique(pairs[:, 1])].astype(np.float64)
    gram, known, losses, least = met.T @ met, np.unique(pairs[:, 0]), 0.0, 0.0
    for row in known[np.linspace(0, len(known) - 1, min(CHECKED, len(known))).astype(int)]:
        had = vectors[pairs[slice(*np.searchsorted(pairs[:, 0], [row, row + 1])), 1]].astype(np.float64)
        left, right = equations(side, gram, had)
        best, found = np.linalg.solve(left, right), solutions[row].astype(np.float64)
        losses, least = losses + found @ left @ found - 2 * right @ found, least - right @ best
        if side != "implicit" and not np.linalg.norm(found - best) <= ROUNDING * np.linalg.norm(best):
            return False
    return side != "implicit" or losses <= least + STEPPED * abs(least)


def equations(
    side: str, gram: NDArray[np.float64], had: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k, k) A and (k,) b of one row. Ours: recspark.models.row_solves, where an event adds α to the weight of its pair. The peers': Hu, Koren
    and Volinsky (2008), where a pair's confidence is 1 + α; Spark scales λ by the number of events."""
    penalty = REGULARIZATION * (len(had) if side == "als" else 1)
    left = gram + ALPHA * had.T @ had + penalty * np.eye(len(gram))
    return left, (ALPHA if side == "ours" else 1 + ALPHA) * had.sum(0)


def read(folder: Path, id_column: str) -> Floats:
    """(largest id + 1, k), zero where an id has no factors."""
    table = ds.dataset(folder).to_table()
    ids, vectors = table[id_column].to_numpy(), vectors_of(table["vector"])
    placed = np.zeros((ids.max() + 1, vectors.shape[1]), np.float32)
    placed[ids] = vectors
    return placed


if __name__ == "__main__":
    main()
