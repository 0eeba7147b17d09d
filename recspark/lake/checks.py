"""What the rows of a table must hold to, looked at after they are staged and before they are published."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.errors import UserError
from recspark.tables import Table


def verify_rows(written: DataFrame, table: Table) -> int:
    """Number of rows; UserError if a column that may not be null is, or the key is not unique."""
    needed = [c.name for c in table.columns if not c.nullable]
    counts = written.agg(
        F.count(F.lit(1)).alias("rows"), *(F.count_if(F.col(c).isNull()).alias(c) for c in needed)
    ).first()
    assert counts is not None  # an aggregate without groups has one row
    nulls = {c: counts[c] for c in needed if counts[c]}
    if nulls:
        raise UserError(
            f"table {table.name}: null where none may be: " + ", ".join(f"{c} in {n} rows" for c, n in nulls.items())
        )
    if table.key:
        twice = written.groupBy(*table.key).count().where("count > 1").first()
        if twice is not None:
            raise UserError(f"table {table.name}: key {table.key} is not unique; {twice.asDict()}")
    return int(counts["rows"])
