"""Rows put straight into the tables of a lake, for tests of what reads them; by pyarrow, for Spark would take a second a table."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recspark.lake import Lake
from recspark.tables import Table

ARROW_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "array<int>": pa.list_(pa.int32()),
    "array<float>": pa.list_(pa.float32()),
    "map<string,string>": pa.map_(pa.string(), pa.string()),
}


def write(lake: Lake, table: Table, rows: list[tuple], id_type: pa.DataType | None = None) -> None:
    """Put rows in the place of the table of the lake's run date."""
    types = {**ARROW_TYPES, "id": id_type or pa.string()}
    columns = zip(*rows, strict=True) if rows else [[]] * len(table.columns)
    arrays = [pa.array(list(values), types[c.type]) for c, values in zip(table.columns, columns, strict=True)]
    lake.remove(lake.partition(table))
    folder = Path(lake.path(lake.partition(table)))
    folder.mkdir(parents=True)
    pq.write_table(pa.table(arrays, names=table.column_names), folder / "part-0.parquet")
    about = {"rows": len(rows), "fingerprint": hashlib.sha256(repr(rows).encode()).hexdigest()}
    (folder / "_manifest.json").write_text(json.dumps({**about, "written_at": "2026-01-02T00:00:00"}))
