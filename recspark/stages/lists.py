"""Ranked lists for every user: the exact top-K kernel at the rim of Spark. Used by candidates, evaluate and search.

Users fall into blocks by a hash of their id. A block's vectors and its seen items meet in one Arrow function, which holds
a block, one tile of scores, and the catalogue through the page cache: its memory depends on the size of a block and
neither on the number of blocks nor on how many items a user has seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.data.catalogue import Catalogue, vectors_of
from recspark.data.matrices import Matrix

if TYPE_CHECKING:
    from recspark.retrieval.topk import Lists, Seen, Words

SEEN_SPLITS = ("train", "valid", "history", "masked")
NEVER_AGAIN = ("masked",)  # of these: held out so that nobody learns from it, not a taste that may come back


class ListSettings(Settings):
    """Sizes that trade memory for speed; they change no list."""

    users_per_block: int = Field(2048, ge=1, description="users one task ranks at a time")
    memory_mib: int = Field(64, ge=1, description="MiB a task may use for scores, beside the block's own lists")


@dataclass(frozen=True)
class FromHistory:
    """Scores of all items from what users had: had @ left @ rightᵀ, the item b places before the newest counting decay^b.

    left: None is the identity.
    """

    left: Matrix | None
    right: Matrix
    decay: float


@dataclass(frozen=True)
class Ranking:
    """The `top_k` items of largest product of two vector columns, the users' and the catalogue's, where all of `allowed` hold.

    With FromHistory, the users' column is one of histories: positions, the newest first.
    """

    users: str
    items: str | FromHistory
    top_k: int
    allowed: tuple[str, ...] = ()


def recommend(
    users: DataFrame,
    seen: DataFrame,
    catalogue: Catalogue,
    ranking: Ranking,
    blocks: int,
    settings: ListSettings,
    threads: int,
    words_of: "Callable[[pa.Table], Words] | None" = None,
) -> DataFrame:
    """(user_id, rank from 1, item_id, score float) for users (user_id, vectors), their seen (user_id, position) left out.

    Order: score descending, then item id ascending. A list is shorter than `top_k` only where the user has seen the rest.
    `words_of` gives, in the worker, the sparse vectors of a block's users that count beside the dense ones.
    """

    def list_block(users: pa.Table, seen: pa.Table) -> pa.Table:
        words = words_of(users) if words_of else None
        ids, lists = rank(users, seen, catalogue, ranking, settings, threads, words)
        return listing(ids, lists, catalogue)

    return over_blocks(users, seen, blocks, list_block, listing_schema(users, catalogue))


def listing(user_ids: pa.ChunkedArray, lists: "Lists", catalogue: Catalogue) -> pa.Table:
    """The lists of a block's users as rows."""
    user, place, position = entries(lists)
    columns = {"user_id": user_ids.take(pa.array(user)), "rank": place}
    return pa.table(
        columns | {"item_id": catalogue.ids().take(pa.array(position)), "score": lists.scores[user, place - 1]}
    )


def listing_schema(users: DataFrame, catalogue: Catalogue) -> str:
    """Of `listing`, in SQL."""
    item_type = catalogue.positions(users.sparkSession).schema["item_id"].dataType.simpleString()
    return f"user_id {id_type(users)}, rank int, item_id {item_type}, score float"


def recommend_trials(
    users: DataFrame,
    seen: DataFrame,
    catalogue: Catalogue,
    trials: Mapping[int, Ranking],
    blocks: int,
    settings: ListSettings,
    threads: int,
) -> DataFrame:
    """(trial, user_id, rank, position) of many rankings of the same users at once, each with its number.

    seen: (user_id, position) of what no list may hold. A user whose vector or history is null gets no list.
    """

    def list_block(users: pa.Table, seen: pa.Table) -> pa.Table:
        parts = []
        for trial, ranking in trials.items():
            known = users.filter(pc.is_valid(users[ranking.users]))
            ids, lists = rank(known, seen, catalogue, ranking, settings, threads)
            user, place, position = entries(lists)
            number = np.full(len(user), trial, np.int32)
            parts.append(
                pa.table({"trial": number, "user_id": ids.take(pa.array(user)), "rank": place, "position": position})
            )
        return pa.concat_tables(parts)

    return over_blocks(users, seen, blocks, list_block, f"trial int, user_id {id_type(users)}, rank int, position int")


def over_blocks(
    users: DataFrame, seen: DataFrame, blocks: int, function: Callable[[pa.Table, pa.Table], pa.Table], schema: str
) -> DataFrame:
    """Apply the function to each block of users, in the order of their ids, with the block's seen items."""

    def block(users: pa.Table, seen: pa.Table) -> pa.Table:
        if not len(users):  # people with a history and no vector
            return pa.table({})
        # The order within a block decides nothing but the order of the rows written; two runs shall write the same.
        return function(users.take(pc.sort_indices(users["user_id"])), seen)

    # Another type of id would hash otherwise, and every seen item would be missed.
    seen = seen.withColumn("user_id", F.col("user_id").cast(id_type(users)))
    here, there = (frame.select("*", block_of("user_id", blocks)).groupBy("block") for frame in (users, seen))
    return here.cogroup(there).applyInArrow(block, schema)


def id_type(frame: DataFrame) -> str:
    """Spark's name of the type of user_id."""
    return frame.schema["user_id"].dataType.simpleString()


def seen_positions(interactions: DataFrame, catalogue: Catalogue, splits: tuple[str, ...] = SEEN_SPLITS) -> DataFrame:
    """(user_id, position) of what users may not get again, by events of the splits; items outside the catalogue drop out."""
    seen = interactions.where(F.col("split").isin(*splits)).select("user_id", "item_id")
    return seen.join(catalogue.positions(interactions.sparkSession), "item_id").select("user_id", "position")


def block_of(column: str, blocks: int) -> Column:
    """The block, from 0, that an id falls into."""
    return F.pmod(F.xxhash64(column), F.lit(blocks)).cast("int").alias("block")


def blocks_for(users: int, settings: ListSettings) -> int:
    """How many blocks so many users make."""
    return max(1, -(-users // settings.users_per_block))


def rank(
    users: pa.Table,
    seen: pa.Table,
    catalogue: Catalogue,
    ranking: Ranking,
    settings: ListSettings,
    threads: int,
    words: "Words | None" = None,
) -> tuple[pa.ChunkedArray, "Lists"]:
    """The users' ids and the kernel's lists for them."""
    from recspark.retrieval.topk import exact_top_k

    ids = users["user_id"]
    if isinstance(ranking.items, FromHistory):
        vectors, items, words = history_sides_of(users[ranking.users], ranking.items, catalogue.items)
    else:
        items = catalogue.array(ranking.items)
        vectors = (
            vectors_of(users[ranking.users], ranking.users) if len(ids) else np.zeros((0, items.shape[1]), np.float32)
        )
    return ids, exact_top_k(
        vectors,
        items,
        seen_rows(ids, seen),
        ranking.top_k,
        allowed_positions(catalogue, ranking.allowed),
        settings.memory_mib * 2**20,
        threads,
        words,
    )


def history_sides_of(
    histories: pa.ChunkedArray, model: FromHistory, items: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], "Words | None"]:
    """Users, items and words for the kernel."""
    from recspark.retrieval.histories import history_matrix, history_sides

    left = None if model.left is None else model.left.read()
    return history_sides(history_matrix(histories, items, model.decay), left, model.right.read())


def allowed_positions(catalogue: Catalogue, columns: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Positions where all boolean columns hold, ascending; None, for all, without a column."""
    return np.flatnonzero(np.all([catalogue.array(c) for c in columns], axis=0)) if columns else None


def seen_rows(user_ids: pa.ChunkedArray, seen: pa.Table) -> "Seen":
    """The seen positions of each user of the block; rows of users that have no vector drop out."""
    from recspark.retrieval.topk import Seen

    users = pc.fill_null(pc.index_in(seen["user_id"], user_ids.combine_chunks()), -1).to_numpy()
    known = users >= 0
    users, positions = users[known], seen["position"].to_numpy()[known]
    if len(user_ids) <= 2**16:
        users = users.astype(np.uint16)  # which numpy sorts by radix
    indptr = np.zeros(len(user_ids) + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_ids)), out=indptr[1:])
    return Seen(indptr, positions[np.argsort(users, kind="stable")])


def entries(lists: "Lists") -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """(user, rank from 1, position) of every entry of the lists."""
    user, place = np.nonzero(lists.positions >= 0)
    return user, (place + 1).astype(np.int32), lists.positions[user, place]
