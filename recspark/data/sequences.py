"""The sequence model's training table: each user's events in their order, cut into windows."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.catalogue import Catalogue
from recspark.data.splits import uniform
from recspark.data.sums import exact_mean


def windows(
    learned: DataFrame,
    before: DataFrame,
    held_out: DataFrame,
    catalogue: Catalogue,
    longest: int,
    max_users: int,
    seed: int,
) -> DataFrame:
    """(window, part, positions, wanted, weight, length), at most `longest` events and the one that comes after.

    part train: of the events `learned`, each but a user's first is wanted once. part valid: of those `before`, which users
    are known by, and those held out together; wanted are the held-out ones. positions, wanted: int32 little-endian, wanted 1 or 0. weight: 1 over the wanted events
    that windows of the part have on average: the mean of weighted sums over windows is the mean over events. Events of one moment go by a hash.
    max_users: drawn by a hash of the id.
    """
    asked = held_out.select("user_id").distinct()
    both = before.join(asked, "user_id", "left_semi").withColumn("held_out", F.lit(False))
    both = both.unionByName(held_out.withColumn("held_out", F.lit(True)))
    parts = {"train": learned.withColumn("held_out", F.lit(True)), "valid": both}
    cut = [windows_of(sequences(events, catalogue, max_users, seed), part, longest) for part, events in parts.items()]
    return cut[0].unionByName(cut[1])


def sequences(events: DataFrame, catalogue: Catalogue, max_users: int, seed: int) -> DataFrame:
    """(user_id, events array<struct<order_key, tie, position, held_out>>) in their order, of users who have two."""
    placed = events.join(catalogue.positions(events.sparkSession), "item_id")
    # Of ids alone: to be put in order, users' events would all be held at once.
    those = placed.groupBy("user_id").count().where("count > 1").select("user_id")
    drawn = those.orderBy(uniform(seed, "sequence", "user_id"), "user_id").limit(max_users)
    tie = F.xxhash64(F.lit(seed), "user_id", "item_id", "order_key")
    row = F.struct("order_key", tie.alias("tie"), "position", "held_out")
    mine = placed.join(drawn, "user_id", "left_semi")
    return mine.groupBy("user_id").agg(F.sort_array(F.collect_list(row)).alias("events"))


def windows_of(found: DataFrame, part: str, longest: int) -> DataFrame:
    """See `windows`; every event is wanted in one window, after as many events as are in it before that one."""

    def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = []
            for user, positions, held_out in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                had, wanted = np.array(positions, "<i4"), np.array(held_out, "<i4")
                for number, start in enumerate(range(0, len(had) - 1, longest)):
                    asked = wanted[start : start + longest + 1].copy()
                    asked[0] = (
                        0  # nothing comes before it here; where it is not the user's first, the window before asks for it
                    )
                    if asked.any():
                        rows.append(
                            (user, number, had[start : start + longest + 1].tobytes(), asked.tobytes(), asked.sum())
                        )
            columns = list(zip(*rows, strict=True)) or [()] * 5
            types = (pa.string(), pa.int32(), pa.binary(), pa.binary(), pa.int32())
            arrays = [pa.array(list(column), kind) for column, kind in zip(columns, types, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, ["user", "number", "positions", "wanted", "asked"])

    columns = found.select(
        F.col("user_id").cast("string").alias("user"),
        F.col("events")["position"].alias("positions"),
        F.col("events")["held_out"].cast("array<int>").alias("wanted"),
    )
    made = columns.mapInArrow(cut, "user string, number int, positions binary, wanted binary, asked int")
    mean = F.lit(made.agg(exact_mean("asked")).first()[0] or 1.0)  # type: ignore[index]
    return made.select(
        F.to_json(F.array(F.lit(part), "user", F.col("number").cast("string"))).alias("window"),
        F.lit(part).alias("part"),
        "positions",
        "wanted",
        (F.lit(1.0) / mean).cast("float").alias("weight"),
        F.length("positions").alias("length"),
    )
