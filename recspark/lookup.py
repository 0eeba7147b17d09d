"""Single rows of the lake's tables, read by pyarrow: no Spark, no JVM, about a second. Used by show."""

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from numpy.typing import NDArray
from pydantic import ConfigDict

from recspark import config
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.tables import Table

NEAR = 3  # ids to each side of one that is not there


class LakeRoot(config.Settings):
    """Of a deployment, only where its lake is: the rest need not be valid to look into tables."""

    model_config = ConfigDict(extra="ignore")

    lake: str


def lake_of(config_path: str, overrides: list[str], run_date: datetime.date | None = None) -> Lake:
    """The deployment's lake, whatever it holds, at a run date (today)."""
    raw = {name: value for name, value in config.read_yaml(config_path).items() if name == "lake"}
    return Lake(config.parse(raw, LakeRoot, overrides, config_path).lake, run_date or datetime.date.today())


def open_lake(config_path: str, overrides: list[str], run_date: datetime.date | None, table: Table) -> Lake:
    """The deployment's lake at a run date: the given one, or the newest that `table` has.

    Raises UserError if the table is not there.
    """
    lake = lake_of(config_path, overrides, run_date)
    dates = [date for date in lake.run_dates(table) if lake.has(table, date)]
    if run_date is None and dates:
        lake.run_date = dates[-1]
    if lake.run_date not in dates:
        found = (
            f"it has {', '.join(map(str, dates))}; give --run-date"
            if dates
            else "run the pipeline first (recspark run)"
        )
        asked = f" of run date {run_date}" if run_date else ""
        raise UserError(f"table {table.name}{asked} is not in the lake {lake.root}; {found}")
    return lake


@dataclass(frozen=True)
class Lookup:
    """One table at the lake's run date."""

    lake: Lake
    table: Table

    @cached_property
    def dataset(self) -> ds.Dataset:
        """Raises UserError if the table is not there."""
        if not self.lake.has(self.table):
            raise UserError(
                f"table {self.table.name} of run date {self.lake.run_date} is not in the lake {self.lake.root}; "
                "run the stage that writes it first (recspark run)"
            )
        fs, path = pafs.FileSystem.from_uri(self.lake.table_path(self.table))
        return ds.dataset(path, filesystem=fs, format="parquet")

    def rows(self, columns: Sequence[str], where: ds.Expression | None = None) -> list[dict[str, Any]]:
        """Columns of the rows that meet a condition; the files' statistics spare reading most of the others."""
        return self.dataset.to_table(columns=list(columns), filter=where).to_pylist()

    def with_id(self, column: str, value: Any, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of the rows whose id is the value."""
        return self.rows(columns, pc.field(column) == pa.scalar(value, self.type_of(column)))

    def counts(self, of: str, column: str, value: Any) -> dict[str, int]:
        """How many of the rows whose id is the value have each value of the column `of`; read in batches, so memory holds one of them."""
        found: Counter[str] = Counter()
        for batch in self.dataset.to_batches(
            columns=[of], filter=pc.field(column) == pa.scalar(value, self.type_of(column))
        ):
            found.update({row["values"]: row["counts"] for row in pc.value_counts(batch.column(of)).to_pylist()})
        return dict(found)

    def with_ids(self, column: str, values: Sequence[Any], columns: Sequence[str]) -> dict[Any, dict[str, Any]]:
        """Rows by id, of the ids that are there."""
        wanted = pa.array(list(values), self.type_of(column))
        return {row[column]: row for row in self.rows([column, *columns], pc.field(column).isin(wanted))}

    def type_of(self, column: str) -> pa.DataType:
        return self.dataset.schema.field(column).type

    def known_id(self, column: str, text: str) -> Any:
        """What was typed, as an id of this table.

        Raises UserError, with the ids nearest to it in order, if the table does not have it.
        """
        kind, arrow_type = column.removesuffix("_id"), self.type_of(column)
        value = typed_id(kind, text, arrow_type)
        if self.with_id(column, value, [column]):
            return value
        near = near_ids(self.dataset.to_table(columns=[column])[column], value)
        hint = f"; near it are {', '.join(map(str, near))}" if near else "; the table is empty"
        raise UserError(f"{kind} {text} is not in table {self.table.name} of run date {self.lake.run_date}{hint}")

    def nearest(self, column: str, vector: NDArray[np.float32], k: int, skip: Any) -> list[tuple[Any, float]]:
        """(item_id, cosine) of the k items but `skip` whose vectors point most nearly as the given one does, best first.

        Read in batches: memory holds one of them and the best so far.
        """
        best: list[tuple[Any, float]] = []
        unit = vector / max(float(np.linalg.norm(vector)), 1e-12)
        for batch in self.dataset.to_batches(columns=["item_id", column]):
            rows = (
                batch.column(column).flatten().to_numpy().reshape(len(batch), -1)
                if len(batch)
                else np.empty((0, len(unit)))
            )
            cosines = rows @ unit / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
            # All that tie with the last of the batch's best stay in: ids decide between them.
            least = np.partition(cosines, -(k + 1))[-(k + 1)] if len(cosines) > k else -np.inf
            first = np.flatnonzero(cosines >= least)
            ids = batch.column("item_id").take(pa.array(first)).to_pylist()
            found = [(i, float(c)) for i, c in zip(ids, cosines[first], strict=True) if i != skip]
            best = sorted([*best, *found], key=lambda pair: (-pair[1], pair[0]))[:k]
        return best


def typed_id(kind: str, text: str, arrow_type: pa.DataType) -> Any:
    """Text as an id of a type; UserError if it cannot be one."""
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        return text
    try:
        number = Decimal(int(text)) if pa.types.is_decimal(arrow_type) else int(text)
        pa.scalar(number, arrow_type)
    except (ValueError, OverflowError, pa.ArrowInvalid):
        raise UserError(f"{kind} ids of this lake are whole numbers ({arrow_type}); found {text!r}") from None
    return number


def near_ids(ids: pa.ChunkedArray, value: Any) -> list[Any]:
    """Ids like the value but for upper and lower case, then those that stand next to it in order.

    Text is ordered by length first: so numbers that are kept as text stand as numbers do.
    """
    like: list[Any] = []
    order, place, keys = pa.table({"id": ids}), pc.less(ids, pa.scalar(value, ids.type)), ["id"]
    if isinstance(value, str):
        like = ids.filter(pc.equal(pc.utf8_lower(ids), value.lower())).to_pylist()[:NEAR]
        length, keys = pc.utf8_length(ids), ["length", "id"]
        order = order.append_column("length", length)
        place = pc.or_(pc.less(length, len(value)), pc.and_(pc.equal(length, len(value)), place))
    below, above = order.filter(place), order.filter(pc.invert(place))
    before = (
        pc.select_k_unstable(below, NEAR, [(key, "descending") for key in keys])
        if len(below)
        else pa.array([], pa.int64())
    )
    after = (
        pc.select_k_unstable(above, NEAR, [(key, "ascending") for key in keys])
        if len(above)
        else pa.array([], pa.int64())
    )
    found = [*reversed(below.take(before)["id"].to_pylist()), *above.take(after)["id"].to_pylist()]
    return list(dict.fromkeys([*like, *found]))
