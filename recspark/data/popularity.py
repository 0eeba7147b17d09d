"""How popular items are, old events counting less: by several half-lives at once, by position."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.data.catalogue import Catalogue
from recspark.data.matrices import Matrix, write_matrix
from recspark.data.sums import exact_sum

MICROSECONDS_A_DAY = 86_400_000_000
SPANS = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)  # half-lives, as parts of the time that the log spans


@dataclass(frozen=True)
class Popularity:
    """Of every item by each half-life in days (None: all events count alike); small enough to travel with a task."""

    half_lives: tuple[float | None, ...]
    counts: Matrix  # (half-lives, M)

    def of(self, half_life: float | None) -> NDArray[np.float32]:
        """(M,) by position."""
        return np.asarray(self.counts.read()[self.half_lives.index(half_life)])


def half_lives_of(events: DataFrame) -> tuple[float | None, ...]:
    """None, and parts of the days that the events span; None alone where they have no times, or all the same."""
    first, last = events.agg(F.min(micros()), F.max(micros())).first() or (None, None)
    days = 0.0 if first is None else (last - first) / MICROSECONDS_A_DAY
    return (None, *(days * part for part in SPANS)) if days else (None,)


def popularity(
    events: DataFrame, catalogue: Catalogue, half_lives: tuple[float | None, ...], scratch: str
) -> Popularity:
    """Of the events (item_id, event_time), each counting 2^-(days before the newest / half-life)."""
    newest = (events.agg(F.max(micros())).first() or (None,))[0]
    counts = [exact_sum(decayed(half_life, newest)).alias(f"count_{n}") for n, half_life in enumerate(half_lives)]
    summed = events.groupBy("item_id").agg(*counts).join(catalogue.positions(events.sparkSession), "item_id").toArrow()
    found = np.zeros((len(half_lives), catalogue.items), np.float32)
    for number in range(len(half_lives)):
        found[number, summed["position"].to_numpy()] = summed[f"count_{number}"].to_numpy()
    return Popularity(half_lives, write_matrix(found, scratch))


def decayed(half_life: float | None, newest: int | None) -> Column:
    """What an event counts, by its event_time; newest: microseconds. Without a time, 1."""
    if half_life is None or newest is None:
        return F.lit(1)
    days = (F.lit(newest) - micros()) / MICROSECONDS_A_DAY
    return F.coalesce(F.pow(F.lit(0.5), days / half_life), F.lit(1.0))


def micros() -> Column:
    return F.unix_micros("event_time")
