"""The sides of benchmarks/workers.py: `workers_sides.py MODULE`, the daemon that forks Spark's Python workers.

A request: jobs, how many; answer, the file for what they found.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from serve import Keep, Work, serve

from recspark import session
from recspark.session import PYTHON_DAEMON, SparkSettings


def jobs_of(daemon: str) -> tuple[Work, Keep | None]:
    """One job after the other, each of one task of one row."""
    conf = {"spark.ui.showConsoleProgress": "false", PYTHON_DAEMON: daemon}
    spark = session.build(SparkSettings(master="local[1]", conf=conf))

    def count_on(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from transformers import BertModel  # noqa: F401  what a stage that encodes texts has loaded

        for frame in frames:
            yield frame + 1

    def work(jobs: int, answer: str) -> list[int]:
        return [
            row.id
            for number in range(jobs)
            for row in spark.range(number, number + 1, 1, 1).mapInPandas(count_on, "id long").collect()
        ]

    def keep(found: list[int], jobs: int, answer: str) -> None:
        Path(answer).write_text(json.dumps(found))

    return work, keep


if __name__ == "__main__":
    serve(lambda: jobs_of(sys.argv[1]))
