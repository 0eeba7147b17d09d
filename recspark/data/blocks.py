"""A sparse user-item matrix in blocks, and the one operation on it: give every row the vectors of the columns it touches.

Rows (users or items) are spread over blocks by a hash of their id. A block of rows needs some columns' vectors of each
block of columns; a route says which, so a vector travels once to a block of rows, however many rows there touch it (the
scheme of Spark's ALS). No table of factors is ever held whole, on the driver or elsewhere, and each block's sums run in
the order of the ids, so a result does not depend on how Spark scheduled the work.

Factor blocks are frames (block int, matrix binary): float32 rows in the order of the index.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recspark.models.factors import Floats, Rows

FACTORS = "block int, matrix binary"
FAN_IN = 16
PAIRS_A_BLOCK = 1_000_000
ROWS_A_BLOCK = 100_000  # their vectors or features are one value of a table, and Arrow has none above 2 GiB
FEWEST, MOST = 2, 2000  # blocks; a vector goes to every block that needs it, so ever more of them move ever more


@dataclass(frozen=True)
class Side:
    """One side of the matrix (users or items), as frames kept in the scratch folder.

    index: block, local (position in the block, in the order of the ids), id, exposure. packed: block, rows, exposure, indptr,
    source_block, source_local, weights: a block's rows and their interactions. routes: source_block, block, locals: which vectors of a
    source block go to which block of this side. blocks: how many of this side there can be, as of the other.
    """

    index: DataFrame
    packed: DataFrame
    routes: DataFrame
    rows: int
    blocks: int


class Links:
    """Pairs (user_id, item_id, weight), each (user, item) once, located in blocks; either side is packed when first used.

    `items` (item_id, exposure) names all items, also the untouched; without the column, exposure is 1. Users are those of the
    pairs, or those that `users` (user_id) names. Pairs of items or users that are not named are left out.
    """

    def __init__(
        self, pairs: DataFrame, items: DataFrame, blocks: int | None, scratch: str, users: DataFrame | None = None
    ):
        """blocks: a side; None: by the data (`blocks_for`)."""
        pairs = keep(pairs, f"{scratch}/linked")
        if blocks is None:
            blocks = blocks_for(pairs.count(), max(items.count(), 0 if users is None else users.count()))
        self.blocks, self.scratch = blocks, scratch
        named = pairs.select("user_id").distinct() if users is None else users
        users = index_ids(named.select(F.col("user_id").alias("id")), blocks)
        self.user_index = keep(users, f"{scratch}/user_index")
        self.item_index = keep(index_ids(items.withColumnRenamed("item_id", "id"), blocks), f"{scratch}/item_index")
        located = pairs.join(prefixed(self.user_index, "user"), "user_id").join(
            prefixed(self.item_index, "item"), "item_id"
        )
        places = ("user_block", "user_local", "item_block", "item_local")
        self.located = keep(located.select(*places, F.col("weight").cast("float")), f"{scratch}/located")

    @cached_property
    def users(self) -> Side:
        """Rows are users, columns items."""
        return build_side(self.located, "user", "item", self.user_index, self.blocks, f"{self.scratch}/users")

    @cached_property
    def items(self) -> Side:
        """Rows are items, columns users."""
        return build_side(self.located, "item", "user", self.item_index, self.blocks, f"{self.scratch}/items")


def blocks_for(pairs: int, rows: int) -> int:
    """One for every million pairs, and for every 100,000 rows of a side, with pairs or without; two at least. By the data alone, so that a
    result does not depend on the machine."""
    return min(MOST, max(FEWEST, -(-pairs // PAIRS_A_BLOCK), -(-rows // ROWS_A_BLOCK)))


def index_ids(ids: DataFrame, blocks: int) -> DataFrame:
    """block, local, id, exposure: each id's block by hash, and its position there in the order of the ids."""
    exposure = F.col("exposure") if "exposure" in ids.columns else F.lit(1.0)
    block = F.pmod(F.xxhash64(F.col("id").cast("string")), F.lit(blocks)).cast("int")
    order = Window.partitionBy("block").orderBy("id")
    return ids.withColumn("block", block).select(
        "block", (F.row_number().over(order) - 1).alias("local"), "id", exposure.cast("float").alias("exposure")
    )


def prefixed(index: DataFrame, side: str) -> DataFrame:
    return index.select(
        F.col("id").alias(f"{side}_id"), F.col("block").alias(f"{side}_block"), F.col("local").alias(f"{side}_local")
    )


def build_side(located: DataFrame, rows: str, columns: str, index: DataFrame, blocks: int, scratch: str) -> Side:
    """Pack the located pairs by blocks of one side, and list the routes that bring it the other side's vectors."""
    links = located.select(
        F.col(f"{rows}_block").alias("block"),
        F.col(f"{rows}_local").alias("local"),
        F.col(f"{columns}_block").alias("source_block"),
        F.col(f"{columns}_local").alias("source_local"),
        "weight",
    )
    in_order = F.array_sort(F.collect_list(F.struct("local", "exposure")))
    sizes = index.groupBy("block").agg(
        F.count(F.lit(1)).alias("rows"), F.transform(in_order, lambda row: row["exposure"]).alias("exposure")
    )
    packed = (
        sizes.groupBy("block")
        .cogroup(links.groupBy("block"))
        .applyInPandas(
            pack_block,
            "block int, rows int, exposure binary, indptr binary, source_block binary, source_local binary, weights binary",
        )
    )
    routes = links.groupBy("source_block", "block").agg(F.sort_array(F.collect_set("source_local")).alias("locals"))
    return Side(index, keep(packed, f"{scratch}/packed"), keep(routes, f"{scratch}/routes"), index.count(), blocks)


def pack_block(sizes: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    block, rows = int(sizes.block[0]), int(sizes.rows[0])
    links = links.sort_values(["local", "source_block", "source_local"])
    indptr = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(links.local, minlength=rows), out=indptr[1:])
    source_block, source_local = links.source_block.to_numpy(np.int32), links.source_local.to_numpy(np.int32)
    return pd.DataFrame(
        {
            "block": [block],
            "rows": [rows],
            "exposure": [np.asarray(sizes.exposure[0], np.float32).tobytes()],
            "indptr": [indptr.tobytes()],
            "source_block": [source_block.tobytes()],
            "source_local": [source_local.tobytes()],
            "weights": [links.weight.to_numpy(np.float32).tobytes()],
        }
    )


def map_rows(
    side: Side,
    factors: DataFrame,
    kernel: Callable[[int, Rows, bytes | None], pd.DataFrame],
    schema: str,
    size: int,
    extra: DataFrame | None = None,
) -> DataFrame:
    """Apply `kernel(block, rows, extra matrix)` to every block of a side, with the other side's vectors at hand.

    factors: blocks of the other side, `size` numbers a row. extra: one more matrix a block of this side, such as priors.
    """

    def gather(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for piece in pieces:
            chosen = [
                unpack(matrix, size)[wanted].tobytes()
                for matrix, wanted in zip(piece.matrix, piece.locals, strict=True)
            ]
            yield piece[["source_block", "block", "locals"]].assign(matrix=chosen)

    def solve(packed: pd.DataFrame, messages: pd.DataFrame) -> pd.DataFrame:
        row = packed.iloc[0]
        return kernel(int(row.block), assemble(row, messages, size), row.get("extra"))

    messages = side.routes.join(factors.withColumnRenamed("block", "source_block"), "source_block").mapInPandas(
        gather, "source_block int, block int, locals array<int>, matrix binary"
    )
    packed = side.packed
    if extra is not None:
        packed = packed.join(extra.select("block", F.col("matrix").alias("extra")), "block")
    return packed.groupBy("block").cogroup(messages.groupBy("block")).applyInPandas(solve, schema)


def assemble(packed: pd.Series, messages: pd.DataFrame, size: int) -> Rows:
    """The rows of one block, their indices pointing into the vectors that the messages brought."""
    source_block = np.frombuffer(packed.source_block, np.int32)
    source_local = np.frombuffer(packed.source_local, np.int32)
    indices = np.empty(len(source_block), np.int64)
    parts, offset = [np.zeros((0, size), np.float32)], 0
    for message in messages.sort_values("source_block").itertuples():
        locals_ = np.asarray(message.locals, np.int32)
        here = source_block == message.source_block
        indices[here] = offset + np.searchsorted(locals_, source_local[here])
        parts.append(unpack(message.matrix, size))
        offset += len(locals_)
    return Rows(
        np.frombuffer(packed.indptr, np.int64),
        indices,
        np.frombuffer(packed.weights, np.float32),
        np.concatenate(parts),
        np.frombuffer(packed.exposure, np.float32),
    )


def unpack(matrix: bytes, size: int) -> Floats:
    """(rows, size) float32 from a block's bytes."""
    return np.frombuffer(matrix, np.float32).reshape(-1, size)


def map_blocks(frame: DataFrame, compute: Callable[[Any], bytes]) -> DataFrame:
    """(block, matrix): `compute` on each row of a frame that has a row a block."""

    def run(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for piece in pieces:
            yield pd.DataFrame({"block": piece.block, "matrix": [compute(row) for row in piece.itertuples()]})

    return frame.mapInPandas(run, FACTORS)


def to_blocks(vectors: DataFrame, index: DataFrame, id_column: str, column: str = "vector") -> DataFrame:
    """Factor blocks of a table of vectors; every id of the index must be in the table (ValueError in the worker else)."""

    def pack(piece: pd.DataFrame) -> pd.DataFrame:
        piece = piece.sort_values("local")
        if piece[column].isna().any():
            raise ValueError(f"{id_column} {piece.id[piece[column].isna()].iloc[0]} has no {column}")
        return pd.DataFrame(
            {"block": piece.block[:1], "matrix": [np.stack(list(piece[column])).astype(np.float32).tobytes()]}
        )

    located = index.join(vectors.select(F.col(id_column).alias("id"), column), "id", "left")
    return located.select("block", "local", "id", column).groupBy("block").applyInPandas(pack, FACTORS)


def from_blocks(factors: DataFrame, index: DataFrame, id_column: str, size: int) -> DataFrame:
    """A row an id: (id_column, vector) from factor blocks."""
    id_type = index.schema["id"].dataType.simpleString()

    def spread(ids: pd.DataFrame, matrices: pd.DataFrame) -> pd.DataFrame:
        matrix = unpack(matrices.matrix[0], size)
        return pd.DataFrame({"id": ids.sort_values("local").id.to_numpy(), "vector": list(matrix)})

    rows = (
        index.groupBy("block")
        .cogroup(factors.groupBy("block"))
        .applyInPandas(spread, f"id {id_type}, vector array<float>")
    )
    return rows.withColumnRenamed("id", id_column)


def sum_matrices(frame: DataFrame, column: str, blocks: int, fan_in: int = FAN_IN) -> NDArray[np.float64]:
    """Sum of a binary column of float64 matrices over the blocks, flat: by a tree, each node in the order of the blocks.

    blocks: numbered from 0, how many there can be; of none that is there, the sum has no number.
    """

    def add(piece: pd.DataFrame) -> pd.DataFrame:
        total = sum(np.frombuffer(m, np.float64) for m in piece.sort_values("block")["total"])
        return pd.DataFrame({"block": piece.parent[:1], "total": [np.asarray(total).tobytes()]})

    level = frame.select("block", F.col(column).alias("total"))
    while blocks > fan_in:
        parents = level.withColumn("parent", F.floor(F.col("block") / fan_in).cast("int"))
        level = parents.groupBy("parent").applyInPandas(add, "block int, total binary")
        blocks = -(-blocks // fan_in)
    parts = sorted(level.collect(), key=lambda r: r.block)
    return np.sum([np.frombuffer(p.total, np.float64) for p in parts], axis=0) if parts else np.empty(0)


def row_counts(indptr: bytes) -> NDArray[np.int64]:
    """Interactions of each row of a packed block."""
    return np.diff(np.frombuffer(indptr, np.int64))


def gram_bytes(matrix: Floats, weights: Floats | None = None) -> bytes:
    """VᵀV of a block in float64, as bytes; with weights (rows,), VᵀΛV."""
    wide = matrix.astype(np.float64)
    return ((wide if weights is None else wide * weights[:, None]).T @ wide).tobytes()


def keep(frame: DataFrame, path: str) -> DataFrame:
    """Write to the scratch folder and read back: cuts the lineage, and no executor's loss can undo it."""
    frame.write.mode("overwrite").parquet(path)
    return frame.sparkSession.read.schema(frame.schema).parquet(path)
