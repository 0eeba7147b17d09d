"""Exact lists for all users, against Spark's ALSModel.recommendForAllUsers and FAISS's flat index: `make bench-topk`.

Factors are normal random numbers. Ours is the Spark job from Parquet to Parquet, by the code of the stage candidates less
the lake's checks; so is Spark's, from the same files with the same session. FAISS has the arrays in memory and keeps its answer there.
Two answers are the same if each user's scores, computed anew in float64, agree rank by rank but for float32's rounding.
"""

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from harness import CORES, Contender, Line, Side, alternate, arguments, in_seconds, matmul_gflops, tell
from numpy.typing import NDArray

from recspark.data.catalogue import vector_column

HERE = Path(__file__).parent
FILES = 8  # of each table, so that the cores share the reading
ROUNDING = 1e-5  # of a score in float32, beside the largest
CHECKED = 4096  # users a time when answers are compared
SORTED = 400  # users whose whole row of scores is sorted to check the filter, most of them among the first
ALS_GOAL, FAISS_GOAL, SEEN_GOAL, MEMORY_GOAL = 10.0, 1 / 2, 1 / 1.15, 1 / 1.1

Floats = NDArray[np.float32]
Positions = NDArray[np.integer]


@dataclass(frozen=True)
class Size:
    """many: users of the larger world, whose first are the smaller's; awake: of one that is there only to keep the workers awake.

    seen: items a user has seen; but the first `heavy` users have seen heavy_seen.
    """

    awake: int
    users: int
    many: int
    items: int
    dimension: int
    top_k: int
    seen: int
    heavy: int
    heavy_seen: int


FULL = Size(
    awake=8192,
    users=40_000,
    many=200_000,
    items=20_000,
    dimension=64,
    top_k=100,
    seen=100,
    heavy=50,
    heavy_seen=15_000,
)
QUICK = Size(awake=100, users=300, many=600, items=500, dimension=16, top_k=20, seen=10, heavy=5, heavy_seen=400)


def main() -> None:
    given = arguments(__doc__)
    size, rng = QUICK if given.quick else FULL, np.random.default_rng(42)
    users = rng.standard_normal((size.many, size.dimension), np.float32)
    items = rng.standard_normal((size.items, size.dimension), np.float32)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lists").mkdir()
        for world, count in (("awake", size.awake), ("few", size.users), ("many", size.many)):
            write_world(folder / world, users[:count], items)
        seen = seen_items(size, rng)
        for table, pairs in (("seen", seen), ("nothing", seen[:0])):
            write_interactions(pairs, folder / table)
        rates = matmul_gflops(given.turns)
        bench = Bench(folder, users, items, seen, size, given.turns, given.quick)
        lines, peaks = bench.few()
        more, left_out = bench.many(peaks)
        rates += matmul_gflops(given.turns)
    tell("topk", [*lines, *more], left_out, rates, given.quick)


@dataclass(frozen=True)
class Bench:
    """The worlds in a folder, their arrays, and what was seen in the smaller one: (pairs, 2) users and items."""

    folder: Path
    users: Floats
    items: Floats
    seen: Positions
    size: Size
    turns: int
    quick: bool

    @property
    def lists(self) -> Path:
        """Where each contender writes, under its name."""
        return self.folder / "lists"

    def few(self) -> tuple[list[Line], list[float]]:
        """Against Spark's ALS, and with what was seen left out against without; and the peaks of memory without."""
        size = self.size
        # A process each, so that no memory is counted that another's work has left behind.
        with self.spark_side("ours") as ours, self.spark_side("ours-seen") as too, self.spark_side("als") as als:
            plain, theirs = self.contender("plain", ours, "few"), self.contender("als", als, "few")
            filtered = self.contender("filtered", too, "few", "seen")
            took = alternate([plain, filtered, theirs], self.turns, self.quick)
        lists = ours_of(self.lists / "plain", size.users, size.top_k)
        same = alike(self.users, self.items, lists, als_of(self.lists / "als", size.users, size.top_k))
        what = f"Spark's ALS, {self.shape(size.users)}"
        lines = [in_seconds(what, took["plain"], took["als"], ALS_GOAL, same)]
        kept = filters(self.users, self.items, self.seen, ours_of(self.lists / "filtered", size.users, size.top_k))
        what = f"the same with nothing seen, {size.seen} seen a user, {size.heavy} users with {size.heavy_seen}"
        lines.append(in_seconds(what, took["filtered"], took["plain"], SEEN_GOAL, kept))
        return lines, took["plain"].peak_mib

    def many(self, few_peaks: list[float]) -> tuple[list[Line], list[str]]:
        """Against FAISS where it is installed; for memory, against itself with fewer users. And what was left out."""
        size, lines, there = self.size, [], find_spec("faiss") is not None
        what = f"FAISS flat, {self.shape(size.many)}"
        with ExitStack() as stack:
            ours = stack.enter_context(self.spark_side("ours-many"))
            contenders = [self.contender("many", ours, "many")]
            if there:
                faiss = stack.enter_context(Side("faiss", [sys.executable, HERE / "topk_faiss.py"], self.folder, CORES))
                contenders.append(self.contender("faiss", faiss, "many"))
            took = alternate(contenders, self.turns, self.quick)
        lists = ours_of(self.lists / "many", size.many, size.top_k)
        if there:
            same = alike(self.users, self.items, lists, np.load(self.lists / "faiss.npy"))
            lines.append(in_seconds(what, took["many"], took["faiss"], FAISS_GOAL, same))
        fewer = ours_of(self.lists / "plain", size.users, size.top_k)
        same = bool((lists[: size.users] == fewer).all())
        what_memory = f"itself with {size.users} users, {self.shape(size.many)}, peak MiB"
        lines.append(Line(what_memory, took["many"].peak_mib, few_peaks, MEMORY_GOAL, same))
        return lines, [] if there else [f"{what}: faiss is not installed"]

    def shape(self, users: int) -> str:
        return f"{users} users x {self.size.items} items x {self.size.dimension}, top {self.size.top_k}"

    def spark_side(self, name: str) -> Side:
        return Side(name, [sys.executable, HERE / "topk_sides.py", name.partition("-")[0]], self.folder)

    def contender(self, name: str, side: Side, world: str, interactions: str = "nothing") -> Contender:
        def request(world: str, interactions: str, lists: str) -> dict[str, Any]:
            paths = {"world": world, "interactions": interactions, "lists": f"lists/{lists}"}
            return {key: str(self.folder / path) for key, path in paths.items()} | {"top_k": self.size.top_k}

        awake = request("awake", "nothing", f"{name}-awake")
        return Contender(name, side, lambda _: request(world, interactions, name), awake)


def write_world(folder: Path, users: Floats, items: Floats) -> None:
    """The factors (U, D) and (M, D) as Spark's ALS keeps a model, and as arrays."""
    (folder / "metadata").mkdir(parents=True)
    defaults = {"userCol": "user", "itemCol": "item", "predictionCol": "prediction", "blockSize": 4096}
    about = {"class": "org.apache.spark.ml.recommendation.ALSModel", "timestamp": 0, "sparkVersion": "4.0"}
    about |= {"uid": "ALS_bench", "paramMap": {}, "defaultParamMap": defaults, "rank": users.shape[1]}
    (folder / "metadata" / "part-00000").write_text(json.dumps(about) + "\n")
    for name, rows in (("user", users), ("item", items)):
        table = pa.table({"id": np.arange(len(rows), dtype=np.int32), "features": vector_column(rows)})
        write_files(table, folder / f"{name}Factors")
        np.save(folder / f"{name}s.npy", rows)


def seen_items(size: Size, rng: np.random.Generator) -> Positions:
    """(pairs, 2) users and items: `seen` drawn at random a user, but `heavy_seen` of the first `heavy` users."""
    light = np.arange(size.heavy, size.users)
    pairs = [np.stack([np.repeat(light, size.seen), rng.integers(size.items, size=len(light) * size.seen)], 1)]
    for user in range(size.heavy):
        chosen = rng.choice(size.items, size.heavy_seen, replace=False)
        pairs.append(np.stack([np.full(size.heavy_seen, user), chosen], 1))
    return np.concatenate(pairs).astype(np.int32)


def write_interactions(pairs: Positions, folder: Path) -> None:
    columns = {"user_id": pairs[:, 0], "item_id": pairs[:, 1]}
    write_files(pa.table({**columns, "split": pa.array(["train"] * len(pairs), pa.string())}), folder)


def write_files(table: pa.Table, folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = max(1, -(-len(table) // FILES))
    for number in range(FILES):
        pq.write_table(table.slice(number * rows, rows), folder / f"part-{number:05}.parquet")


def ours_of(lists: Path, users: int, top_k: int) -> Positions:
    """(U, K) item positions, -1 where a list ends early."""
    found = np.full((users, top_k), -1, np.int32)
    for batch in ds.dataset(lists).to_batches(columns=["user_id", "rank", "item_id"]):
        user, rank, item = (batch.column(n).to_numpy() for n in range(3))
        found[user, rank - 1] = item
    return found


def als_of(lists: Path, users: int, top_k: int) -> Positions:
    """The same of Spark's: a row a user with a list of (item, rating)."""
    found = np.full((users, top_k), -1, np.int32)
    for batch in ds.dataset(lists).to_batches(columns=["user", "recommendations"]):
        found[batch.column(0).to_numpy()] = batch.column(1).flatten().field(0).to_numpy().reshape(-1, top_k)
    return found


def alike(users_UD: Floats, items_MD: Floats, ours_UK: Positions, theirs_UK: Positions) -> bool:
    """Whether the lists of the first users are full, name no item twice, and have the same scores at each rank."""
    for start in range(0, len(ours_UK), CHECKED):
        rows = slice(start, start + CHECKED)
        scores = []
        for lists_UK in (ours_UK[rows], theirs_UK[rows]):
            if lists_UK.min() < 0 or (np.diff(np.sort(lists_UK, axis=1), axis=1) == 0).any():
                return False
            chosen_UKD = items_MD[lists_UK].astype(np.float64)
            scores.append((chosen_UKD @ users_UD[: len(ours_UK)][rows].astype(np.float64)[:, :, None])[:, :, 0])
        if np.abs(scores[0] - scores[1]).max() > ROUNDING * np.abs(scores[0]).max():
            return False
    return True


def filters(users_UD: Floats, items_MD: Floats, seen: Positions, lists_UK: Positions) -> bool:
    """Whether nobody has an item again, and the lists of the users with the longest histories, and some more, are those of plain sorting."""
    pairs = np.sort(seen[:, 0].astype(np.int64) * len(items_MD) + seen[:, 1])
    listed = (np.arange(len(lists_UK))[:, None] * len(items_MD) + lists_UK).ravel()
    if (pairs[np.minimum(np.searchsorted(pairs, listed), len(pairs) - 1)] == listed).any():
        return False
    some = np.unique(np.linspace(0, np.sqrt(len(lists_UK) - 1), SORTED) ** 2 // 1).astype(int)
    scores = users_UD[some].astype(np.float64) @ items_MD.astype(np.float64).T
    for row, user in enumerate(some):
        scores[row, seen[seen[:, 0] == user, 1]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, : lists_UK.shape[1]]
    return alike(users_UD[some], items_MD, lists_UK[some], best)


if __name__ == "__main__":
    main()
