"""The catalogue: all items in ascending order of their ids, their columns as memory-mapped arrays.

An item's place in that order is its position. Kernels and metrics work on positions; a tie broken by position is a tie
broken by item id: numbers numerically, strings by Unicode code point. All workers of a machine share one copy of the
arrays through the page cache. The driver streams the items once, a batch at a time, and holds none of them.

    <folder>/<column>.npy       (M, D) float32 of a column of vectors, (M,) of numbers or booleans
    <folder>/positions.parquet  item_id, position
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recspark.errors import UserError
from recspark.lake import local_folder

BATCH_ROWS = 65536
BATCH_BYTES = 64 * 2**20  # of a batch of vectors; where they are long, a batch has fewer of them


@dataclass(frozen=True)
class Catalogue:
    """Where the arrays are and how many items they have; small enough to travel with a task."""

    folder: str
    items: int

    def array(self, column: str) -> NDArray[Any]:
        """The column, (M, D) or (M,), mapped from the disk of this machine."""
        return np.load(local_folder(self.folder) / f"{column}.npy", mmap_mode="r")

    def ids(self) -> pa.Array:
        """The item ids by position, kept in memory by the worker."""
        return kept_ids(self.folder)

    def positions(self, spark: SparkSession) -> DataFrame:
        """(item_id, position int) for joins."""
        return spark.read.parquet(f"{self.folder}/positions.parquet")

    def in_order(self, frame: DataFrame, column: str, missing: Any) -> list[Any]:
        """A column of a frame (item_id, ...) by position, `missing` where an item has none; all in the driver's memory."""
        placed = self.positions(frame.sparkSession).join(frame, "item_id", "left")
        value = F.coalesce(column, F.lit(missing)).alias("value")
        return placed.select("position", value).toArrow().sort_by("position")["value"].to_pylist()


@lru_cache(maxsize=2)
def kept_ids(folder: str) -> pa.Array:
    """Item ids of a catalogue's folder by position."""
    ids = pq.read_table(local_folder(folder) / "positions.parquet", columns=["item_id"])["item_id"]
    return ids.chunk(0) if ids.num_chunks == 1 else ids.combine_chunks()


def write_catalogue(items: DataFrame, scratch: str) -> Catalogue:
    """Lay out items (item_id, once each, and columns of vectors, numbers or booleans, never null) under a scratch folder.

    Raises UserError if there is no item, or a vector is not finite or not as long as the others.
    """
    folder = f"{scratch}/catalogue-{uuid.uuid4().hex}"  # never twice the same: machines keep copies by path
    items.orderBy("item_id").write.parquet(f"{folder}/sorted")
    fs, base = pafs.FileSystem.from_uri(folder)
    count = sum(part.metadata.num_rows for part in parts_in_order(fs, f"{base}/sorted"))
    columns = [f for f in items.schema.fields if f.name != "item_id"]
    with ExitStack() as stack:
        positions = None
        streams = {f.name: stack.enter_context(fs.open_output_stream(f"{base}/{f.name}.npy")) for f in columns}
        for start, batch in numbered_batches(fs, f"{base}/sorted"):
            for field in columns:
                rows = rows_of_column(batch.column(field.name), field)
                if start == 0:
                    write_header(streams[field.name], rows, count)
                streams[field.name].write(rows.tobytes())
            place = pa.array(np.arange(start, start + len(batch), dtype=np.int32))
            table = pa.table({"item_id": batch.column("item_id"), "position": place})
            if positions is None:
                positions = stack.enter_context(
                    pq.ParquetWriter(f"{base}/positions.parquet", table.schema, filesystem=fs)
                )
            positions.write_table(table)
    fs.delete_dir(f"{base}/sorted")
    if not count:
        raise UserError("the catalogue is empty: no item has a vector; see the rejects table and preprocess.items")
    return Catalogue(folder, count)


def parts_in_order(fs: pafs.FileSystem, base: str) -> Iterator[pq.ParquetFile]:
    """A folder's Parquet files in order: Spark numbers a sort's parts so that their names are ordered as their rows are."""
    files = fs.get_file_info(pafs.FileSelector(base))
    for path in sorted(f.path for f in files if f.base_name.endswith(".parquet")):
        yield pq.ParquetFile(fs.open_input_file(path))


def numbered_batches(
    fs: pafs.FileSystem, base: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of the first row, rows) over a folder's Parquet files in order; all columns if none are named."""
    start = 0
    for part in parts_in_order(fs, base):
        about = part.metadata
        row_bytes = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups)) / max(
            about.num_rows, 1
        )
        for batch in part.iter_batches(rows_of(BATCH_BYTES, row_bytes), columns=columns):
            yield start, batch
            start += len(batch)


def rows_of(most: int, row_bytes: float) -> int:
    """Rows of a batch of at most so many bytes; one at the least."""
    return int(min(BATCH_ROWS, max(1, most // max(row_bytes, 1))))


def write_header(stream: Any, rows: NDArray[Any], count: int) -> None:
    """Of a .npy stream that gets `count` rows like these."""
    header = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": (count, *rows.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(stream, header)


def rows_of_column(column: pa.Array, field: T.StructField) -> NDArray[Any]:
    """(rows, D) of a column of vectors, (rows,) of numbers or booleans."""
    return vectors_of(column, field.name) if isinstance(field.dataType, T.ArrayType) else numbers_of(column)


def numbers_of(column: pa.Array) -> NDArray[Any]:
    """(rows,) of a column of numbers or booleans."""
    return column.to_numpy(zero_copy_only=False)


def vector_column(rows_ND: NDArray[np.float32]) -> pa.ListArray:
    """A column of lists, one a row, over the array's own memory."""
    rows_ND = np.ascontiguousarray(rows_ND, np.float32)
    ends = np.arange(len(rows_ND) + 1, dtype=np.int32) * rows_ND.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(rows_ND.reshape(-1)))


def vectors_of(column: pa.Array | pa.ChunkedArray, name: str = "vector") -> NDArray[np.float32]:
    """(rows, D) float32 of a column of lists.

    Raises UserError if they differ in length or hold a NaN or an infinite number.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    sizes = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(sizes) > 1 or None in sizes:
        raise UserError(
            f"column {name}: vectors of lengths {sizes}; they must all have one; run the stage that wrote them again"
        )
    rows = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(column), *sizes)
    if not np.isfinite(rows).all():
        broken = int((~np.isfinite(rows)).any(axis=1).sum())
        raise UserError(
            f"column {name}: {broken} or more vectors hold a NaN or an infinite number; "
            "the training that made them has diverged: lower its learning rate or raise its regularization"
        )
    return rows
