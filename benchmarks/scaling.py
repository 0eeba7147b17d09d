"""How a stage's seconds grow with its input, and whether a straight line through three sizes tells a fourth: `make bench-scaling`.

The sides are those of the other benchmarks, ours alone. A stage has a part that is there for any size, and one in proportion to it. The line is
fitted to the medians at three sizes by least squares of relative errors; the fourth size lies between them and is in no fit. Writes results/scaling.json, and the table and
the picture of docs/scaling.md.
"""

import json
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import evaluate
import matplotlib
import numpy as np
import preprocess
import pyarrow as pa
import topk
from harness import CORES, RESULTS, ROOT, Contender, Side, Turns, alternate, arguments, matmul_gflops, result

from recspark.data.text import text_hash

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
DOCS = ROOT / "docs"
BEGIN, END = "<!-- what make bench-scaling found -->\n", "<!-- end -->\n"
BOUND = 0.2  # of the fourth size: the prediction may be off by so much
ITEMS, DIMENSION, TOP_K = 20_000, 64, 100
AWAKE = "awake"


@dataclass(frozen=True)
class Growing:
    """unit: what sizes count. sizes: three, and the one that is told. command: of the side. write: a world of a size. request: for it."""

    unit: str
    sizes: tuple[int, int, int, int]
    command: tuple[str, ...]
    write: Callable[[Path, int], None]
    request: Callable[[Path, str], dict[str, Any]]


def write_log(folder: Path, events: int) -> None:
    shape = preprocess.Size({}, (), 200_000, ITEMS, 2)
    if not (folder.parent / "items").exists():
        preprocess.write_items(folder.parent / "items", ITEMS)
    preprocess.write_log(folder, events, shape)


def write_texts(folder: Path, texts: int) -> None:
    """Distinct texts of made-up words, 5 to 30 of them; the same number has the same text in every size."""
    rng = np.random.default_rng(1)
    letters = np.array(list("etaoinshrdlucmfw"))
    made = []
    for number in range(texts):
        words = ["".join(letters[rng.integers(16, size=n)]) for n in rng.integers(2, 9, size=rng.integers(5, 31))]
        made.append(f"{number} {' '.join(words)}")
    preprocess.write(pa.table({"text_hash": [text_hash(text) for text in made], "text": made}), folder)


def write_vectors(folder: Path, users: int) -> None:
    rng = np.random.default_rng(42)
    items, people = (rng.standard_normal((n, DIMENSION), np.float32) for n in (ITEMS, users))
    topk.write_world(folder, people, items)
    if not (folder.parent / "nothing").exists():
        topk.write_interactions(np.zeros((0, 2), np.int32), folder.parent / "nothing")


def write_lists(folder: Path, users: int) -> None:
    evaluate.write_world(folder, evaluate.Size(users, TOP_K, ITEMS, 19))


STAGES = {
    "preprocess": Growing(
        "events",
        (1_000_000, 2_000_000, 4_000_000, 3_000_000),
        ("preprocess_sides.py", "ours", "{folder}"),
        write_log,
        lambda folder, world: {"log": world},
    ),
    "embed: texts encoded": Growing(
        "texts",
        (500, 1000, 2000, 1500),
        ("encode_sides.py", "job"),
        write_texts,
        lambda folder, world: {"texts": str(folder / world), "max_length": 64, "vectors": f"{folder}/vectors-{world}"},
    ),
    "candidates": Growing(
        "users",
        (20_000, 40_000, 80_000, 60_000),
        ("topk_sides.py", "ours"),
        write_vectors,
        lambda folder, world: {
            "world": str(folder / world),
            "interactions": str(folder / "nothing"),
            "top_k": TOP_K,
            "lists": f"{folder}/lists-{world}",
        },
    ),
    "evaluate": Growing(
        "users",
        (25_000, 50_000, 100_000, 75_000),
        ("evaluate_sides.py", "ours"),
        write_lists,
        lambda folder, world: {
            "world": str(folder / world),
            "ks": evaluate.KS,
            "found": f"{folder}/found-{world}.json",
        },
    ),
}


def main() -> int:
    given = arguments(__doc__)
    rates, found = matmul_gflops(given.turns), {}
    for name, stage in STAGES.items():
        with TemporaryDirectory() as folder:
            found[name] = line_of(stage, measure(stage, Path(folder), given.turns, given.quick))
            print(row(name, found[name]), end="", flush=True)
    off = [name for name, line in found.items() if abs(line["off"]) > BOUND]
    if given.quick:
        return 0
    kept = result([], [], rates + matmul_gflops(given.turns)) | {"stages": found}
    (RESULTS / "scaling.json").write_text(json.dumps(kept, indent=2) + "\n")
    draw(found, DOCS / "scaling.svg")
    page = (DOCS / "scaling.md").read_text()
    before, rest = page.split(BEGIN)
    (DOCS / "scaling.md").write_text(before + BEGIN + table(kept) + END + rest.split(END)[1])
    return 1 if off else 0


def measure(stage: Growing, folder: Path, turns: int, quick: bool) -> dict[int, Turns]:
    """What each size took; quick: a hundredth of it."""
    shrink = 100 if quick else 1
    sizes = {size // shrink: f"size-{size // shrink}" for size in stage.sizes}
    stage.write(folder / AWAKE, min(sizes) // 10)
    for size, world in sizes.items():
        stage.write(folder / world, size)
    command = [sys.executable, HERE / stage.command[0], *(part.format(folder=folder) for part in stage.command[1:])]
    with ExitStack() as stack:
        side = stack.enter_context(Side("ours", command, folder))
        awake = stage.request(folder, AWAKE)

        def contender(size: int, world: str) -> Contender:
            return Contender(str(size), side, lambda _: stage.request(folder, world), awake)

        took = alternate([contender(size, world) for size, world in sizes.items()], turns, quick)
    return {int(size): turns for size, turns in took.items()}


def line_of(stage: Growing, took: dict[int, Turns]) -> dict[str, Any]:
    """The points, the line through all but the last, and how far that one is off it."""
    medians = {size: statistics.median(turns.seconds) for size, turns in took.items()}
    *fitted, told = medians
    sizes, seconds = np.array(fitted, float), np.array([medians[size] for size in fitted])
    each, fixed = np.polyfit(sizes, seconds, 1, w=1 / seconds)
    predicted = fixed + each * told
    return {
        "unit": stage.unit,
        "points": {str(size): [round(s, 3) for s in turns.seconds] for size, turns in took.items()},
        "peak_mib": {str(size): round(max(turns.peak_mib)) for size, turns in took.items()},
        "fixed_seconds": round(float(fixed), 3),
        "seconds_a_million": round(float(each) * 1e6, 3),
        "told": told,
        "predicted": round(float(predicted), 3),
        "measured": round(medians[told], 3),
        "off": round(float(predicted) / medians[told] - 1, 4),
    }


def row(name: str, line: dict[str, Any]) -> str:
    sizes = [int(size) for size in line["points"] if int(size) != line["told"]]
    shown = ", ".join(f"{statistics.median(line['points'][str(size)]):.1f}" for size in sizes)
    memory = ", ".join(f"{line['peak_mib'][str(size)]:,}" for size in sizes)
    cells = [
        name,
        f"{', '.join(f'{s:,}' for s in sizes)} {line['unit']}",
        shown,
        memory,
        f"{line['fixed_seconds']:.1f}",
    ]
    cells += [f"{line['seconds_a_million']:.1f}", f"{line['told']:,}", f"{line['predicted']:.1f}"]
    cells += [f"{line['measured']:.1f}", f"{line['off']:+.0%}"]
    return f"| {' | '.join(cells)} |\n"


def table(kept: dict[str, Any]) -> str:
    head = (
        f"\n{kept['machine']}; matrix product, fp32, all cores: {kept['matmul_gflops']:.0f} GFLOP/s.\n\n"
        "| stage | sizes | seconds | peak MiB | for any size, s | a million, s | told | predicted, s | measured, s | off |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    rows = "".join(row(name, line) for name, line in kept["stages"].items())
    return f"{head}{rows}\n![seconds by size, and the lines](scaling.svg)\n\n"


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """A panel a stage: all turns as dots, the one that is told hollow, and the line."""
    figure, panels = plt.subplots(1, len(found), figsize=(3.2 * len(found), 3), layout="constrained")
    for panel, (name, line) in zip(panels, found.items(), strict=True):
        ends = np.array([0, max(map(int, line["points"]))])
        panel.plot(ends, line["fixed_seconds"] + line["seconds_a_million"] / 1e6 * ends, color="0.6", zorder=1)
        for size, seconds in line["points"].items():
            face = "white" if int(size) == line["told"] else "tab:blue"
            panel.scatter([int(size)] * len(seconds), seconds, s=22, facecolor=face, edgecolor="tab:blue", zorder=2)
        panel.set(title=name, xlabel=line["unit"], ylim=(0, None), xlim=(0, None))
        panel.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    panels[0].set_ylabel(f"seconds, {CORES} cores")
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
