"""Examples learned from, against the plain way and sentence-transformers' trainer; and what ranks gain: `make bench-train`.

An example is a pair of a user and an item in train. Ours is an epoch, the first, of the stage finetune's loop: LoRA on MiniLM, two ranks of
one thread by Horovod on Spark, each item's text read once, as the loss needs of its users only sums. The plain way is the same model and loss in
one process of two threads, with the text of every example encoded: random batches of pairs, each with its share of its item's loss. A number of steps
is measured, for which the loss's forms are made before. The same answer: the gradient of some items' loss, by either way. sentence-transformers' trainer
learns otherwise, from the text of five earlier items to the next one's, in batches of pairs with the others as negatives: there is no answer to compare.

Then epochs, after the first: two ranks by Horovod beside two that never speak and so learn two models, which is all that two cores could do, one rank of two
threads, and TorchDistributor; the same answer is the training loss of every epoch. And the seconds from the launch to the end of the first step.

The trainer wants packages that are in an environment of their own, which `make bench-train` makes; without it, it is left out. --quick runs Horovod
and the plain way alone. amazon-games is in the folder that RECSPARK_DATASETS names.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from evaluate import PEERS, THEIRS
from harness import Contender, Line, Side, Turns, alternate, arguments, matmul_gflops, tell

HERE = Path(__file__).parent
PEER_GOAL, SILENT_GOAL, THREADS_GOAL, TORCH_GOAL = 5.0, 0.95, 1.0, 1.0
FIRST_STEP_SECONDS = 20.0
CLOSE = 1e-3  # of losses by differently many ranks, and of gradients, beside their size
PER = 1000  # examples that seconds are told for
RANKS = 2
PEER_SIDES = {"plain": RANKS, "trainer": RANKS}  # threads each is told; ranks by Spark set theirs
RANK_SIDES = {"horovod": None, "torch": None, "apart": 1, "one": RANKS}
EVENTS = "amazon-games/events.parquet"


@dataclass(frozen=True)
class Data:
    """A data set, its configuration, and which sides learn from it."""

    name: str
    config: str
    sides: dict[str, int | None]


def main() -> None:
    given = arguments(__doc__)
    sets, left_out = [Data("MovieLens-100K", "conf/demo.yaml", RANK_SIDES | PEER_SIDES)], []
    if given.quick:
        sets = [Data("MovieLens-100K", "conf/demo.yaml", {"horovod": None, "plain": RANKS})]
    elif (Path(os.environ.get("RECSPARK_DATASETS", "")) / EVENTS).exists():
        sets.append(Data("amazon-games", "benchmarks/amazon-games.yaml", {"horovod": None} | PEER_SIDES))
    else:
        left_out.append("amazon-games: RECSPARK_DATASETS names no folder that has it")
    if not (PEERS / ".ready").exists():
        left_out.append("sentence-transformers' trainer: what it wants is not in .venv-peers")
    rates, lines = matmul_gflops(given.turns), []
    for number, data in enumerate(sets, 1):
        with TemporaryDirectory() as folder:
            lines += compare(data, Path(folder), given.turns, given.quick)
        rates += matmul_gflops(given.turns)
        tell("train", lines, left_out, rates, given.quick, to_come=[later.name for later in sets[number:]])


def compare(data: Data, folder: Path, turns: int, quick: bool) -> list[Line]:
    size = (
        "quick" if quick else "whole" if "one" in data.sides else "first"
    )  # of the epochs, the first alone is looked at
    command = [sys.executable, HERE / "train_sides.py", "prepare", folder, data.config, size]
    subprocess.run(command, check=True, stdout=sys.stderr)
    wanted = {n: t for n, t in data.sides.items() if n != "trainer" or (PEERS / ".ready").exists()}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(start(name, threads, folder)) for name, threads in wanted.items()}
        took = alternate([contender(name, side, folder) for name, side in sides.items()], turns, quick)
    told = {name: [json.loads((folder / f"{name}-{turn}.json").read_text()) for turn in range(turns)] for name in sides}
    return lines_of(data.name, took, told)


def start(name: str, threads: int | None, folder: Path) -> Side:
    python = THEIRS if name == "trainer" else Path(sys.executable)
    script = HERE / ("train_peers.py" if name in PEER_SIDES else "train_sides.py")
    return Side(name, [python, script, name, folder], folder, threads)


def contender(name: str, side: Side, folder: Path) -> Contender:
    def request(turn: int) -> dict[str, Any]:
        return {"told": str(folder / f"{name}-{turn}.json")}

    return Contender(name, side, request, {"told": ""})


def lines_of(what: str, took: dict[str, Turns], told: dict[str, list[dict[str, Any]]]) -> list[Line]:
    """Of the sides that there are. told: what each said of each turn; see train_sides.py."""
    ours, lines = told["horovod"], []

    def memory(peer: str) -> dict[str, float]:
        return {"ours_peak_mib": max(took["horovod"].peak_mib), "peer_peak_mib": max(took[peer].peak_mib)}

    def examples(side: list[dict[str, Any]]) -> list[float]:
        return [PER * turn["seconds"] / turn["examples"] for turn in side]

    def epochs(side: list[dict[str, Any]]) -> list[float]:
        return [statistics.median(turn["epochs"][1:]) for turn in side]

    def learned_the_same(peer: str) -> bool:
        return all(close(a["losses"], b["losses"]) for a, b in zip(ours, told[peer], strict=True))

    if "plain" in told:
        same = all(turn["gradients_apart"] < CLOSE for turn in told["plain"])
        name = f"the plain way; {what}, {ours[0]['examples']} examples an epoch, seconds for {PER}"
        lines.append(Line(name, examples(ours), examples(told["plain"]), PEER_GOAL, same, memory("plain")))
    if "trainer" in told:
        learned = all(turn["examples"] == turn["asked"] for turn in told["trainer"])
        name = f"sentence-transformers' trainer, which learns otherwise (no answer to compare); {what}, seconds for {PER} examples"
        lines.append(Line(name, examples(ours), examples(told["trainer"]), PEER_GOAL, learned, memory("trainer")))
    if "apart" in told:
        sent = f"{ours[0]['bytes'] / 1024:.0f} KiB averaged a step"
        name = f"two ranks that never speak (no answer to compare); {what}, two of one thread by Horovod, {sent}, seconds an epoch"
        lines.append(Line(name, epochs(ours), epochs(told["apart"]), SILENT_GOAL, True, memory("apart")))
    if "one" in told:
        name = f"one rank of two threads; {what}, seconds an epoch"
        lines.append(
            Line(name, epochs(ours), epochs(told["one"]), THREADS_GOAL, learned_the_same("one"), memory("one"))
        )
    if "torch" in told:
        name = f"two ranks by TorchDistributor; {what}, seconds an epoch"
        more = memory("torch") | {"peer_first_step": statistics.median(t["first_step"] for t in told["torch"])}
        lines.append(Line(name, epochs(ours), epochs(told["torch"]), TORCH_GOAL, learned_the_same("torch"), more))
    if "one" in told:
        first = [turn["first_step"] for turn in ours]
        name = f"{FIRST_STEP_SECONDS:.0f} seconds; {what}, from the launch by Horovod to the end of the first step"
        lines.append(Line(name, first, [FIRST_STEP_SECONDS], 1.0, all(map(math.isfinite, first))))
    return lines


def close(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and bool(np.allclose(ours, theirs, rtol=CLOSE, atol=0))


if __name__ == "__main__":
    main()
