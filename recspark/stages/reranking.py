"""What a reranker is asked: each user's list, history and vector, and what is known of the items at that moment."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data.catalogue import BATCH_ROWS, Catalogue, write_catalogue
from recspark.data.cooccurrence import CooccurrenceSettings, Neighbours, cooccurrences, write_neighbours

if TYPE_CHECKING:
    from recspark.retrieval.features import Items, Question

TOGETHER = 256  # questions that a worker holds at once

# Scores of the lists of some users, one array a user, as long as the list; run by workers.
Scorer = Callable[[list["Question"]], list[NDArray[np.floating]]]


class Learned(Protocol):
    """A reranker that has learned."""

    def save(self, folder: str) -> None: ...

    def scorer(self) -> Scorer: ...


@dataclass(frozen=True)
class World:
    """The items as they stand after some events; small enough to travel with a task. centre: mean of the text vectors."""

    catalogue: Catalogue
    neighbours: Neighbours
    centre: NDArray[np.float32]
    has_tokens: bool

    def items(self) -> "Items":
        """The arrays, mapped from the disk of this machine."""
        from recspark.retrieval.features import Items

        prior, text, popularity, latest = map(self.catalogue.array, ("prior", "text", "popularity", "latest"))
        tokens = self.catalogue.array("tokens") if self.has_tokens else None
        return Items(prior, text, self.centre, popularity, latest, self.neighbours.arrays(), tokens)


def make_world(events: DataFrame, items: DataFrame, settings: CooccurrenceSettings, seed: int, scratch: str) -> World:
    """What the events say of the items (item_id, vector, prior, text, and columns more that the catalogue can hold)."""
    told = events.groupBy("item_id").agg(
        F.count_distinct("user_id").alias("popularity"), F.max("order_key").alias("latest")
    )
    first = events.agg(F.min("order_key")).first()
    known = items.join(told, "item_id", "left").na.fill({"popularity": 0, "latest": (first and first[0]) or 0})
    catalogue = write_catalogue(known, scratch)
    matrix = cooccurrences(events, catalogue, settings, seed)
    neighbours, centre = write_neighbours(matrix, catalogue.items, scratch), mean_row(catalogue.array("text"))
    return World(catalogue, neighbours, centre, "tokens" in items.columns)


def mean_row(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D,) of (M, D), read a piece at a time."""
    total = sum(rows[start : start + BATCH_ROWS].sum(0, np.float64) for start in range(0, len(rows), BATCH_ROWS))
    return np.asarray(total / len(rows), np.float32)


def ask(lists: DataFrame, users: DataFrame, histories: DataFrame, world: World) -> DataFrame:
    """(user_id, vector, history, positions, scores): a row a user, from the lists (user_id, rank, item_id, score)."""
    placed = lists.join(world.catalogue.positions(lists.sparkSession), "item_id")
    gathered = F.sort_array(F.collect_list(F.struct("rank", "position", "score")))
    listed = placed.groupBy("user_id").agg(gathered.alias("listed"))
    listed = listed.select(
        "user_id", F.col("listed.position").alias("positions"), F.col("listed.score").alias("scores")
    )
    known = listed.join(users.select("user_id", "vector"), "user_id").join(histories, "user_id", "left")
    nothing = F.array().cast("array<int>")
    return known.select("user_id", "vector", F.coalesce("history", nothing).alias("history"), "positions", "scores")


def over_questions(rows: DataFrame, function: Callable[[pa.Table], pa.Table], schema: str) -> DataFrame:
    """Apply the function to the rows that `ask` made, TOGETHER at a time, in the order of the users' ids."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, TOGETHER):
                rows = pa.Table.from_batches([batch.slice(start, TOGETHER)])
                yield from function(rows).combine_chunks().to_batches()

    parts = int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 8)
    return rows.repartition(parts, "user_id").sortWithinPartitions("user_id").mapInArrow(run, schema)


def questions_of(rows: pa.Table, world: World, depth: int) -> "list[Question]":
    """A question a row, about the first `depth` of the list; about none where there is no history."""
    from recspark.retrieval.features import Question

    items, found = world.items(), []
    columns = (arrays_of(rows[name]) for name in ("vector", "history", "positions", "scores"))
    for user, history, positions, scores in zip(*columns, strict=True):
        deep = depth if len(history) else 0
        found.append(Question(user, history, positions[:deep], scores[:deep], items))
    return found


def arrays_of(column: pa.ChunkedArray) -> list[NDArray]:
    """The lists of a column, none of them null, as arrays."""
    whole = column.combine_chunks()
    values, lengths = whole.flatten().to_numpy(zero_copy_only=False), pc.list_value_length(whole).to_numpy()
    return np.split(values, np.cumsum(lengths)[:-1])
