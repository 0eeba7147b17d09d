"""Small Python tasks, one after the other, against Spark's own worker daemon: `make bench-workers`.

A job of a night is often a few rows for a Python worker, which has loaded what encodes texts in an earlier one. Both sides run the
same jobs in a session of the same settings but for `spark.python.daemon.module` (recspark/worker_daemon.py says what ours leaves out).
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Contender, Side, alternate, arguments, in_seconds, matmul_gflops, tell

HERE = Path(__file__).parent
DAEMONS = {"ours": "recspark.worker_daemon", "peer": "pyspark.daemon"}
JOBS = 100
GOAL = 1.0


def main() -> None:
    given = arguments(__doc__)
    jobs = 3 if given.quick else JOBS
    with TemporaryDirectory() as name:
        folder, rates = Path(name), matmul_gflops(given.turns)
        with start("ours", folder) as ours, start("peer", folder) as peer:
            took = alternate([contender(side, folder, jobs) for side in (ours, peer)], given.turns, given.quick)
        rates += matmul_gflops(given.turns)
        answers = [json.loads((folder / f"{side}.json").read_text()) for side in DAEMONS]
    same = answers[0] == answers[1] == list(range(1, jobs + 1))
    what = f"Spark's daemon of Python workers; {jobs} jobs of one task that has transformers loaded"
    tell("workers", [in_seconds(what, took["ours"], took["peer"], GOAL, same)], [], rates, given.quick)


def start(side: str, folder: Path) -> Side:
    return Side(side, [sys.executable, HERE / "workers_sides.py", DAEMONS[side]], folder)


def contender(side: Side, folder: Path, jobs: int) -> Contender:
    answer = str(folder / f"{side.name}.json")
    return Contender(side.name, side, lambda _: {"jobs": jobs, "answer": answer}, {"jobs": 2, "answer": answer})


if __name__ == "__main__":
    main()
