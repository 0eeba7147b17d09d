"""Lists of many models set beside the truth, user by user, on Spark; only sums come back to the driver.

A trial is a model on a slice. A block of users meets its lists of all trials and its truth in one Arrow function, which
adds up the metrics of each trial under the bootstrap's weights. Sums of blocks are added on the executors.

The lists of all items are judged once more on slices of their users and of what is relevant (`evaluation/slices.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recspark.data.catalogue import Catalogue
from recspark.evaluation.bootstrap import Estimate, bootstrap_sums, estimate
from recspark.evaluation.judged import Judged, Traits, judge, self_information
from recspark.evaluation.metrics import LABELLED, METRICS
from recspark.evaluation.slices import COLD_AMONG_ALL, WITHIN, counting, new_users
from recspark.stages.lists import block_of

SUMS = "trial int, sums binary, shown binary"
SUMS_ARROW = pa.schema([("trial", pa.int32()), ("sums", pa.binary()), ("shown", pa.binary())])
# The boolean columns of the catalogue that hold for the items of a slice that has lists of its own.
SLICES: Mapping[str, tuple[str, ...]] = {"all": (), "warm": ("warm",), "cold": ("cold",)}

SHOWN = ("ndcg", "recall", "map")  # in the table that is logged, and on classes of users and items
FOUND = (*SHOWN, "hit_rate")  # of cold items among all, and for new users

Array = NDArray[Any]


@dataclass(frozen=True)
class Trial:
    """A model on a slice of the items."""

    model: str
    slice: str


@dataclass(frozen=True)
class Evaluation:
    """What is judged, and how: trials, which have lists, and, if asked for, slices within the lists of all items.

    The catalogue has columns warm, cold, having, the number of users with the item in train, events, its train events, and
    text_after, what the text says of it.
    decile_starts: of `evaluation/slices.py`; None for no classes of users and items. labelled: whether the catalogue has labels, and the truth
    likes. new_users: where the users are new, the numbers of events of their histories; then their slices alone are judged.
    """

    trials: tuple[Trial, ...]
    catalogue: Catalogue
    ks: tuple[int, ...]
    replicates: int
    train_users: int
    decile_starts: tuple[int, ...] | None = None
    labelled: bool = False
    new_users: tuple[int, ...] = ()

    @property
    def judged(self) -> tuple[Trial, ...]:
        """The trials, then the slices within their lists of all items: cold items of those that can list them, and the classes."""
        listing = [t.model for t in self.trials if t.slice == "all"]
        if self.new_users:
            return tuple(Trial(model, new_users(events)) for events in self.new_users for model in listing)
        cold = (Trial(model, COLD_AMONG_ALL) for model in listing if Trial(model, "cold") in self.trials)
        names = WITHIN if self.decile_starts is not None else ()
        return (*self.trials, *cold, *(Trial(model, name) for name in names for model in listing))

    def lists_of(self, trial: Trial) -> int:
        """The number of the trial whose lists are judged."""
        return self.trials.index(trial if trial.slice in SLICES else Trial(trial.model, "all"))

    def columns(self, slice_name: str) -> list[tuple[str, int]]:
        """(metric, k) in the order of the estimates of a slice."""
        measured = [metric for metric in METRICS if self.labelled or metric not in LABELLED]
        within = SHOWN if slice_name in WITHIN else FOUND
        return [(metric, k) for metric in (measured if slice_name in SLICES else within) for k in self.ks]

    def slice_size(self, name: str) -> int:
        """Items of a slice."""
        return (
            int(np.all([self.catalogue.array(c) for c in SLICES[name]], axis=0).sum())
            if SLICES[name]
            else self.catalogue.items
        )


@dataclass(frozen=True)
class Verdict:
    """What came out of one trial: the bootstrap's sums of its columns, their estimates, those of the popularity of its users' histories,
    (R + 1,), and how many distinct items were shown at each k; the latter not on slices within the lists.
    """

    sums: Array
    estimate: Estimate
    tastes: Array
    shown: list[int]


def judge_lists(lists: DataFrame, truth: DataFrame, evaluation: Evaluation, blocks: int) -> list[Verdict | None]:
    """A verdict for each of `judged`, None where no user has anything relevant in its slice.

    lists: (trial int, user_id, rank, position), `trial` an index into the trials. truth: (user_id, hash, history, taste,
    position), each pair once; history is the number of the user's events folded in, taste the mean number of train users of their items;
    and likes, the mean labels of these, if asked for.
    """

    def judge_block(lists: pa.Table, truth: pa.Table) -> pa.Table:
        return sum_block(lists, truth, evaluation)

    here, there = (frame.select("*", block_of("user_id", blocks)).groupBy("block") for frame in (lists, truth))
    parts = here.cogroup(there).applyInArrow(judge_block, SUMS)
    # First within each partition, then trial by trial: a row a trial reaches the driver, however many users there are.
    rows = parts.mapInArrow(add_sums, SUMS).groupBy("trial").applyInArrow(add_trial, SUMS).collect()

    verdicts: list[Verdict | None] = [None] * len(evaluation.judged)
    for row in rows:
        sums = np.frombuffer(row["sums"], np.int64).reshape(evaluation.replicates + 1, -1)
        packed = np.frombuffer(row["shown"], np.uint8)
        shown = [int(np.unpackbits(bits).sum()) for bits in packed.reshape(len(evaluation.ks), -1)]
        means = np.delete(sums, -2, axis=1)
        verdicts[row["trial"]] = Verdict(means, estimate(means), sums[:, -2], shown if len(packed) else [])
    return verdicts


def sum_block(lists: pa.Table, truth: pa.Table, evaluation: Evaluation) -> pa.Table:
    """A row a trial: the sums over the block's users who have something relevant, and the items they were shown.

    None of a slice in which nobody has. Trials of a slice have users, and so the bootstrap's weights, in common.
    """
    ks, items = evaluation.ks, evaluation.catalogue.items
    users = pc.unique(truth["user_id"])
    having, relevant = places_in(users, truth["user_id"]), truth["position"].to_numpy()
    by_user = truth.take(np.unique(having, return_index=True)[1])
    hashes, tastes = by_user["hash"].to_numpy(), by_user["taste"].to_numpy() / max(1, evaluation.train_users)
    likes = doubles_of(by_user["likes"]) if evaluation.labelled else None
    entries = entries_by_trial(lists, users, len(evaluation.trials))
    traits = traits_of(evaluation)

    trials, rows = evaluation.judged, list[tuple[int, bytes, bytes]]()
    for name in dict.fromkeys(trial.slice for trial in trials):
        wanted = counting_in(name, truth, evaluation)
        eligible = np.bincount(having[wanted], minlength=len(users)) > 0
        if not eligible.any():
            continue
        numbers = [number for number, trial in enumerate(trials) if trial.slice == name]
        found, shown = [], []
        for listed, ranks, positions in (entries[evaluation.lists_of(trials[number])] for number in numbers):
            asked = replace(traits, vectors_MD=None, labels_MG=None) if name not in SLICES else traits
            truths = (having[wanted], relevant[wanted], len(users), max(ks), asked, likes)
            judged = judge(listed, ranks, positions, *truths).choose(eligible)
            found.append(values(judged, evaluation.columns(name)))
            mine = eligible[listed]
            shown.append(b"" if name not in SLICES else shown_bits(ranks[mine], positions[mine], ks, items))
        sums = bootstrap_sums(hashes[eligible], np.hstack([*found, tastes[eligible, None]]), evaluation.replicates)
        own = [part.tobytes() for part in split_sums(sums, len(numbers))]
        rows += zip(numbers, own, shown, strict=True)
    return pa.table([pa.array(c) for c in zip(*rows, strict=True)], schema=SUMS_ARROW)


def entries_by_trial(lists: pa.Table, users: pa.Array, trials: int) -> list[tuple[Array, Array, Array]]:
    """(user's place, rank, position) of the entries of each trial's lists, of these users only."""
    listed = places_in(users, lists["user_id"])
    trial, ranks, positions = (lists[name].to_numpy() for name in ("trial", "rank", "position"))
    masks = [(trial == number) & (listed >= 0) for number in range(trials)]
    return [(listed[mine], ranks[mine], positions[mine]) for mine in masks]


def counting_in(name: str, truth: pa.Table, evaluation: Evaluation) -> NDArray[np.bool_]:
    """Which rows of the truth are of the slice."""
    catalogue, relevant = evaluation.catalogue, truth["position"].to_numpy()
    if name not in SLICES:
        events = catalogue.array("events")[relevant]
        return counting(name, truth["history"].to_numpy(), events, evaluation.decile_starts or ())
    return np.all([np.ones(len(relevant), bool), *(catalogue.array(c)[relevant] for c in SLICES[name])], axis=0)


def traits_of(evaluation: Evaluation) -> Traits:
    """Of all items; the text's vectors are mapped from the disk."""
    catalogue, users = evaluation.catalogue, evaluation.train_users
    having, labels = catalogue.array("having"), catalogue.array("labels") if evaluation.labelled else None
    return Traits(self_information(having, users), having / max(1, users), catalogue.array("text_after"), labels)


def doubles_of(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """(rows, G) of a column of lists of one length."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def split_sums(sums: Array, parts: int) -> list[Array]:
    """Sums of as many columns each, and with every one of them those of tastes and weights, which are the last."""
    return [np.hstack([part, sums[:, -2:]]) for part in np.split(sums[:, :-2], parts, axis=1)]


def places_in(users: pa.Array, column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The place of each id of the column in `users`, -1 where it is not."""
    return pc.fill_null(pc.index_in(column, users), -1).to_numpy().astype(np.int64)


def values(judged: Judged, columns: Sequence[tuple[str, int]]) -> NDArray[np.float64]:
    """(U, C) values of (metric, k)."""
    return np.stack([METRICS[metric](judged, k) for metric, k in columns], axis=1)


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


def add_trial(rows: pa.Table) -> pa.Table:
    """One row for all rows of a trial."""
    return pa.Table.from_batches(add_sums(rows.to_batches()), schema=SUMS_ARROW)
