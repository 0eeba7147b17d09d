"""What a table is, and the check at the door. The type `id` stands for whatever type the raw data gave: a string, any integer, or
decimal(p, 0) for integers beyond 64 bits.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from recspark.errors import UserError

ONE_MODEL = ("model_hash",)  # vectors of two models, or lists made from them, never share a run date


@dataclass(frozen=True)
class Column:
    """One column: a Spark type in SQL notation (or `id`), whether null may stand in it, and what it means."""

    name: str
    type: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table: a folder of the lake, a sub-folder a run date. Within one, `key` is unique, and a `constant` column has one value."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # columns that sub-folders of a run date stand for
    constant: tuple[str, ...] = ()

    @property
    def column_names(self) -> list[str]:
        return [c.name for c in self.columns]


def is_id_type(data_type: T.DataType) -> bool:
    """Whether a column of this type may hold ids."""
    whole = isinstance(data_type, T.StringType | T.LongType | T.IntegerType | T.ShortType | T.ByteType)
    return whole or (isinstance(data_type, T.DecimalType) and data_type.scale == 0)


def check(df: DataFrame, table: Table) -> DataFrame:
    """The frame with the table's columns in order.

    Raises UserError naming every missing column and every wrong type. Constraints on the rows (key, nulls) are checked
    by `Lake.write` on what was written.
    """
    found = {f.name: f.dataType for f in df.schema.fields}
    faults = []
    for column in table.columns:
        if column.name not in found:
            faults.append(f"lacks column {column.name} ({column.type}); it has {sorted(found)}")
        elif column.type == "id" and not is_id_type(found[column.name]):
            faults.append(f"column {column.name} is {found[column.name].simpleString()}; ids are strings or integers")
        elif column.type != "id" and found[column.name].simpleString() != column.type:
            faults.append(f"column {column.name} is {found[column.name].simpleString()}, not {column.type}")
    if faults:
        raise UserError(f"table {table.name}: " + "; ".join(faults))
    return df.select(*table.column_names)
