"""Lists of many models set beside the truth, user by user, on Spark; only sums come back to the driver.

A trial is a model on a slice. A block of users meets its lists of all trials and its truth in one Arrow function, which
adds up the metrics of each trial under the bootstrap's weights. Sums of blocks are added on the executors.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recspark.data.catalogue import Catalogue
from recspark.evaluation.bootstrap import Estimate, bootstrap_sums, estimate
from recspark.evaluation.judged import Judged, judge, self_information
from recspark.evaluation.metrics import METRICS, coverage
from recspark.stages.lists import block_of

SUMS = "trial int, sums binary, shown binary"
SUMS_ARROW = pa.schema([("trial", pa.int32()), ("sums", pa.binary()), ("shown", pa.binary())])
# The boolean columns of the catalogue that hold for the items of a slice.
SLICES: Mapping[str, tuple[str, ...]] = {"all": (), "warm": ("warm",), "cold": ("cold",)}

SHOWN = ("ndcg", "recall", "map")  # in the table that is logged

Array = NDArray[Any]


@dataclass(frozen=True)
class Trial:
    """A model on a slice of the items."""

    model: str
    slice: str


@dataclass(frozen=True)
class Evaluation:
    """What is judged, and how. The catalogue has columns warm, cold and having, the number of users with the item in train."""

    trials: tuple[Trial, ...]
    catalogue: Catalogue
    ks: tuple[int, ...]
    replicates: int
    train_users: int

    def slice_size(self, name: str) -> int:
        """Items of a slice."""
        return (
            int(np.all([self.catalogue.array(c) for c in SLICES[name]], axis=0).sum())
            if SLICES[name]
            else self.catalogue.items
        )


@dataclass(frozen=True)
class Verdict:
    """What came out of one trial: estimates of `columns(ks)`, and how many distinct items were shown at each k."""

    estimate: Estimate
    shown: list[int]


def columns(ks: Sequence[int]) -> list[tuple[str, int]]:
    """(metric, k) in the order of the estimates."""
    return [(metric, k) for metric in METRICS for k in ks]


def judge_lists(lists: DataFrame, truth: DataFrame, evaluation: Evaluation, blocks: int) -> list[Verdict | None]:
    """A verdict for each trial, None where no user has anything relevant in its slice.

    lists: (trial int, user_id, rank, position), `trial` an index into the trials. truth: (user_id, hash, position), each
    pair once.
    """

    def judge_block(lists: pa.Table, truth: pa.Table) -> pa.Table:
        return sum_block(lists, truth, evaluation)

    here, there = (frame.select("*", block_of("user_id", blocks)).groupBy("block") for frame in (lists, truth))
    parts = here.cogroup(there).applyInArrow(judge_block, SUMS)
    # First within each partition, then all in one task: a row a trial reaches the driver, however many users there are.
    rows = parts.mapInArrow(add_sums, SUMS).repartition(1).mapInArrow(add_sums, SUMS).collect()

    verdicts: list[Verdict | None] = [None] * len(evaluation.trials)
    for row in rows:
        sums = np.frombuffer(row["sums"], np.int64).reshape(evaluation.replicates + 1, -1)
        if sums[0, -1]:
            packed = np.frombuffer(row["shown"], np.uint8).reshape(len(evaluation.ks), -1)
            verdicts[row["trial"]] = Verdict(estimate(sums), [int(np.unpackbits(bits).sum()) for bits in packed])
    return verdicts


def sum_block(lists: pa.Table, truth: pa.Table, evaluation: Evaluation) -> pa.Table:
    """A row a trial: the sums over the block's users who have something relevant, and the items they were shown."""
    catalogue, ks = evaluation.catalogue, evaluation.ks
    users = pc.unique(truth["user_id"])
    listed, having = places_in(users, lists["user_id"]), places_in(users, truth["user_id"])
    trial, ranks, items = (lists[name].to_numpy() for name in ("trial", "rank", "position"))
    relevant = truth["position"].to_numpy()
    hashes = np.zeros(len(users), np.int64)
    hashes[having] = truth["hash"].to_numpy()
    information = self_information(catalogue.array("having"), evaluation.train_users)

    rows = []
    for index, one in enumerate(evaluation.trials):
        mine = (trial == index) & (listed >= 0)
        wanted = np.all(
            [np.ones(len(relevant), bool), *(catalogue.array(c)[relevant] for c in SLICES[one.slice])], axis=0
        )
        judged = judge(
            listed[mine], ranks[mine], items[mine], having[wanted], relevant[wanted], len(users), max(ks), information
        )
        eligible = judged.relevant > 0
        sums = bootstrap_sums(hashes[eligible], values(judged.choose(eligible), ks), evaluation.replicates)
        counted = mine.copy()
        counted[mine] = eligible[listed[mine]]
        rows.append((index, sums.tobytes(), shown_bits(ranks[counted], items[counted], ks, catalogue.items)))
    return pa.table([pa.array(c) for c in zip(*rows, strict=True)], schema=SUMS_ARROW)


def places_in(users: pa.Array, column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The place of each id of the column in `users`, -1 where it is not."""
    return pc.fill_null(pc.index_in(column, users), -1).to_numpy().astype(np.int64)


def values(judged: Judged, ks: Sequence[int]) -> NDArray[np.float64]:
    """(U, C) values in the order of `columns`."""
    return np.stack([METRICS[metric](judged, k) for metric, k in columns(ks)], axis=1)


def shown_bits(ranks: Array, items: Array, ks: Sequence[int], size: int) -> bytes:
    """A bit an item for each k, set if the item is among someone's first k."""
    shown = np.zeros((len(ks), size), bool)
    for row, k in enumerate(ks):
        shown[row, items[ranks <= k]] = True
    return np.packbits(shown, axis=1).tobytes()


def add_sums(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One row a trial for all rows of the partition."""
    totals: dict[int, tuple[Array, Array]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            sums, shown = np.frombuffer(row["sums"], np.int64), np.frombuffer(row["shown"], np.uint8)
            if row["trial"] in totals:
                sums, shown = totals[row["trial"]][0] + sums, totals[row["trial"]][1] | shown
            totals[row["trial"]] = (sums, shown)
    rows = [{"trial": t, "sums": sums.tobytes(), "shown": shown.tobytes()} for t, (sums, shown) in totals.items()]
    yield pa.RecordBatch.from_pylist(rows, schema=SUMS_ARROW)


def metric_rows(evaluation: Evaluation, verdicts: list[Verdict | None]) -> list[tuple]:
    """Rows of the metrics table, those of slices in which nobody can be judged left out."""
    rows: list[tuple] = []
    for trial, verdict in zip(evaluation.trials, verdicts, strict=True):
        if verdict is None:
            continue
        found, users = verdict.estimate, verdict.estimate.users
        for (metric, k), *numbers in zip(columns(evaluation.ks), found.value, found.low, found.high, strict=True):
            rows.append((trial.model, trial.slice, metric, k, *map(float, numbers), users))
        allowed = evaluation.slice_size(trial.slice)
        for k, shown in zip(evaluation.ks, verdict.shown, strict=True):
            rows.append((trial.model, trial.slice, "coverage", k, coverage(shown, allowed), None, None, users))
    return rows


def readable(rows: list[tuple], k: int, metrics: Sequence[str] = SHOWN, title: str = "metrics") -> str:
    """The metrics at k as a table for people."""
    cells = {(model, name, metric): row for model, name, metric, at, *row in rows if at == k}
    named = [f"{metric}@{k}" if k else metric for metric in metrics]
    lines = [f"{'model':<14} {'slice':<5} {'users':>8}" + "".join(f"  {name:<24}" for name in named)]
    for model, name in dict.fromkeys((row[0], row[1]) for row in rows):
        shown = [cells[model, name, metric] for metric in metrics]
        numbers = "".join(f"  {value:.4f} [{low:.4f}, {high:.4f}]" for value, low, high, _ in shown)
        lines.append(f"{model:<14} {name:<5} {shown[0][3]:>8}{numbers}")
    return "\n".join([f"{title} with 95 % intervals:", *lines])
