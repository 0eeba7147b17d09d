"""What the rows of a table must hold to, looked at after they are staged and before they are published."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recspark.errors import UserError
from recspark.tables import Table


def verify_rows(written: DataFrame, table: Table) -> tuple[int, str]:
    """(number of rows, fingerprint), in one pass but for the key.

    The fingerprint is the sum of the rows' hashes, as 16 hexadecimal digits: equal rows give equal fingerprints, whatever their
    order and files. Raises UserError if a column that may not be null is, a constant one has two values, or the key is not
    unique.
    """
    needed = [c.name for c in table.columns if not c.nullable]
    found = written.agg(
        F.count(F.lit(1)).alias("rows"),
        F.sum(row_hash(written).cast("decimal(38,0)")).alias("hash"),
        *(F.count_if(F.col(c).isNull()).alias(f"nulls {c}") for c in needed),
        *(end(c).alias(f"{end.__name__} {c}") for c in table.constant for end in (F.min, F.max)),
    ).first()
    assert found is not None  # an aggregate without groups has one row
    nulls = {c: found[f"nulls {c}"] for c in needed if found[f"nulls {c}"]}
    if nulls:
        raise UserError(
            f"table {table.name}: null where none may be: " + ", ".join(f"{c} in {n} rows" for c, n in nulls.items())
        )
    for c in table.constant:
        if found[f"min {c}"] != found[f"max {c}"]:
            raise UserError(
                f"table {table.name}: {c} is one in a run date, but the rows hold {found[f'min {c}']} and {found[f'max {c}']}; "
                "they are not of one model"
            )
    if table.key:
        twice = written.groupBy(*table.key).count().where("count > 1").first()
        if twice is not None:
            raise UserError(f"table {table.name}: key {table.key} is not unique; {twice.asDict()}")
    return int(found["rows"]), f"{int(found['hash'] or 0) % 2**64:016x}"


def row_hash(frame: DataFrame) -> Column:
    """64 bits of a row. Maps, which Spark does not hash, count as their entries in order."""
    maps = {f.name for f in frame.schema.fields if isinstance(f.dataType, T.MapType)}
    return F.xxhash64(*(F.array_sort(F.map_entries(c)) if c in maps else F.col(c) for c in frame.columns))
