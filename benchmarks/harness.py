"""What the benchmarks share: sides that take turns, the machine's rate, and how a result is told and kept.

A side is a process of its own that does the work whenever it is asked (`serve.py`), so that neither side has the other's
threads, caches or memory. A ratio is peer / ours, whatever is measured: the larger the better, and a goal is the least that is wanted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import torch

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CORES = len(os.sched_getaffinity(0))
TURNS = 5
SAMPLE_SECONDS = 0.2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
OF_A_SIDE = (
    *THREAD_VARIABLES,
    "PYSPARK_PYTHON",
)  # what a side sets itself: a peer's workers have a Python of their own
MEASURED = ("recspark", "conf", "benchmarks/*.py")
MATRIX = 2048  # rows and columns of the product that the machine's rate is measured by


def commit() -> str:
    """Of the checkout as it is now, `-dirty` if what is measured, or measures, differs from it; empty if it is none of git's."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT)
    differs = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *MEASURED], check=False, cwd=ROOT)
    return head.stdout.strip() + ("-dirty" if head.returncode == 0 and differs.returncode else "")


STARTED_AT = commit()  # whatever is committed while a benchmark runs


@dataclass
class Turns:
    """What a side took at each turn. peak_mib: of resident memory over its process tree, pages shared counted for each process."""

    seconds: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """A row of the table: a quantity of which less is better, at each turn, ours and the peer's. more: goes into the result as it is."""

    what: str
    ours: Sequence[float]
    peer: Sequence[float]
    goal: float
    same_answer: bool
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return statistics.median(self.peer) / statistics.median(self.ours)

    @property
    def reached(self) -> bool:
        return self.same_answer and self.ratio >= self.goal

    def as_json(self) -> dict[str, Any]:
        sides: dict[str, Any] = {}
        for name, values in (("ours", self.ours), ("peer", self.peer)):
            sides[name] = round(statistics.median(values), 4)
            sides[f"{name}_spread"] = [round(min(values), 4), round(max(values), 4)]
        told = {"ratio": round(self.ratio, 3), "goal": round(self.goal, 3), "reached": self.reached}
        return {"what": self.what, **sides, **told, "same_answer": self.same_answer, **self.more}

    def as_markdown(self, judged: bool) -> str:
        sides = [f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (self.ours, self.peer)]
        memory = [f"{self.more[key]:.0f}" if key in self.more else "–" for key in ("ours_peak_mib", "peer_peak_mib")]
        verdict = ("yes" if self.reached else "no") if judged else "–"
        same = "yes" if self.same_answer else "NO"
        cells = [self.what, *sides, f"{self.ratio:.2f}", f"{self.goal:.2f}", verdict, same, *memory]
        return f"| {' | '.join(cells)} |"


def in_seconds(what: str, ours: Turns, peer: Turns, goal: float, same_answer: bool, **more: Any) -> Line:
    """The line of two sides' seconds, with the most memory each had at any turn."""
    peaks = {"ours_peak_mib": round(max(ours.peak_mib), 1), "peer_peak_mib": round(max(peer.peak_mib), 1)}
    return Line(f"{what}, seconds", ours.seconds, peer.seconds, goal, same_answer, {**peaks, **more})


class Side:
    """A process that does the work of one side when asked. Its folder gets a log of what it says beside its answers."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, threads: int | None = None):
        """threads: what libraries are told to use; None leaves that to recspark's session."""
        self.name, self.log, self.ready = name, folder / f"{name}.log", False
        env = {key: value for key, value in os.environ.items() if key not in OF_A_SIDE}
        if threads is not None:
            env |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=env,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process: without requests it ends by itself, and after an error it is told to."""
        assert self.process.stdin is not None  # it was opened as a pipe
        if kind is not None:
            self.process.terminate()
        self.process.stdin.close()
        self.process.wait()

    def wait_until_ready(self) -> None:
        if not self.ready:
            self.answer()
            self.ready = True

    def answer(self) -> dict[str, Any]:
        """The next answer; RuntimeError with the end of its log if the process ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            said = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
            raise RuntimeError(f"the side {self.name} ended with status {self.process.wait()}; it last said:\n{said}")
        return json.loads(line)

    def run(self, request: dict[str, Any]) -> tuple[float, float]:
        """(seconds, peak MiB) of doing the work once."""
        assert self.process.stdin is not None
        self.wait_until_ready()
        with PeakMemory(self.process.pid) as peak:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            seconds = self.answer()["seconds"]
        return seconds, peak.mib


class PeakMemory:
    """The most resident memory, in MiB, that a process and all that descend from it had while this was entered, by samples."""

    def __init__(self, pid: int):
        self.root, self.mib, self.over = psutil.Process(pid), 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def watch(self) -> None:
        while True:
            self.mib = max(self.mib, resident_mib(self.root))
            if self.over.wait(SAMPLE_SECONDS):
                return


def resident_mib(root: psutil.Process) -> float:
    """Resident memory of the process and its descendants now; those that end meanwhile count nothing.

    Nor does a child that is not yet a program of its own: between vfork and exec it shows its parent's memory, which it shares.
    """
    found: dict[int, tuple[int, int, int]] = {}  # pid: parent's, resident and virtual bytes
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in tree:
        try:
            memory = process.memory_info()
            found[process.pid] = process.ppid(), memory.rss, memory.vms
        except psutil.NoSuchProcess:
            continue
    own = (rss for parent, rss, vms in found.values() if found.get(parent, (0, 0, 0))[1:] != (rss, vms))
    return sum(own) / 2**20


@dataclass(frozen=True)
class Contender:
    """A side with what it is asked to do.

    request: of each turn from 0 on. awake: a small one that goes before each, unmeasured, as Spark ends Python workers that were
    idle for a minute, and what they had loaded is lost.
    """

    name: str
    side: Side
    request: Callable[[int], dict[str, Any]]
    awake: dict[str, Any]


def alternate(contenders: Sequence[Contender], turns: int, quick: bool, warm: bool = False) -> dict[str, Turns]:
    """What each took at each turn, in one order and the opposite by turns. An unmeasured turn goes before all, unless quick, or they are warm."""
    took = {contender.name: Turns() for contender in contenders}
    for number in range(0 if quick or warm else -1, turns):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            if not quick:
                contender.side.run(contender.awake)
            seconds, mib = contender.side.run(contender.request(max(number, 0)))
            if number >= 0:
                took[contender.name].seconds.append(seconds)
                took[contender.name].peak_mib.append(mib)
    return took


def matmul_gflops(turns: int, size: int = MATRIX) -> list[float]:
    """GFLOP/s of fp32 products of two square matrices on all cores, one a turn, after one to warm up."""
    torch.set_num_threads(CORES)
    left, right = torch.rand(size, size), torch.rand(size, size)
    rates = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        torch.mm(left, right)
        rates.append(2 * size**3 / (time.perf_counter() - began) / 1e9)
    return rates[1:]


def data_set(folder: str, name: str) -> Path:
    """The folder of a data set; SystemExit if it is not there."""
    if not (found := Path(folder) / name).is_dir():
        raise SystemExit(
            f"RECSPARK_DATASETS is {folder}, which has no {name}; name the folder that has it, or leave it unset to do without"
        )
    return found


def arguments(description: str | None) -> argparse.Namespace:
    """quick: tiny sizes, nothing judged but the answers, nothing kept. turns: how often each side runs after its warm-up."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: do both sides still run, and agree?")
    parser.add_argument("--turns", type=int, help=f"of each side after its warm-up; {TURNS} if not set, 1 if --quick")
    given = parser.parse_args()
    given.turns = given.turns or (1 if given.quick else TURNS)
    return given


def tell(
    name: str,
    lines: Sequence[Line],
    left_out: Sequence[str],
    rates: Sequence[float],
    quick: bool,
    to_come: Iterable[str] = (),
    **more: Any,
) -> None:
    """Print the table; keep it in results/NAME.json unless quick. Ends with status 1 if two sides' answers differ.

    rates: of the matrix product, GFLOP/s. left_out: what was not measured, and why. to_come: data sets that are measured after this; what
    there is so far is kept. more: kept beside.
    """
    left_out = [*left_out, *(f"{what}: its turn had not come" for what in to_come)]
    print(f"\nmatrix product, fp32, {CORES} cores: {statistics.median(rates):.0f} GFLOP/s\n")
    print("| what | ours | peer | ratio | goal | reached | same answer | ours, peak MiB | peer, peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in lines:
        print(line.as_markdown(judged=not quick))
    for what in left_out:
        print(f"left out: {what}")
    if wrong := [line.what for line in lines if not line.same_answer]:
        raise SystemExit(f"the two sides' answers differ, so nothing is kept: {'; '.join(wrong)}")
    if not quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        kept = RESULTS / f"{name}.json"
        kept.write_text(json.dumps(result(lines, left_out, rates) | more, indent=2) + "\n")
        print(f"written: {kept}")


def result(lines: Sequence[Line], left_out: Sequence[str], rates: Sequence[float]) -> dict[str, Any]:
    """What is kept of a benchmark."""
    return {
        "machine": f"{platform.platform()}, {CORES} cores, torch {torch.__version__}",
        "commit": STARTED_AT,
        "matmul_gflops": round(statistics.median(rates), 1),
        "matmul_gflops_spread": [round(min(rates), 1), round(max(rates), 1)],
        "lines": [line.as_json() for line in lines],
        "left_out": list(left_out),
    }
