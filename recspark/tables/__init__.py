"""Every table of the lake: columns, types, key and meaning. `check(df, TABLE)` guards the door on read and on write.

`docs/tables.md` is the same contract in prose for the people who query the tables.
"""

from recspark.tables.contract import ONE_MODEL, Column, Table, check, is_id_type
from recspark.tables.data import INTERACTIONS, ITEMS, REJECTS, SPLITS, USERS
from recspark.tables.lists import CANDIDATES, COMPARISONS, METRICS, RECOMMENDATIONS, RERANKED, SEARCH_RESULTS, TRIALS
from recspark.tables.training import (
    PAIR_EXAMPLES,
    PAIR_ITEMS,
    PRETRAINING_BLOCKS,
    PRETRAINING_LOG,
    RERANKER_EXAMPLES,
    RERANKER_LOG,
    TRAINING_EXAMPLES,
    TRAINING_LOG,
)
from recspark.tables.vectors import (
    BASE_TEXT_VECTORS,
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    ITEM_FACTORS,
    ITEM_VECTORS,
    PREDICTED_RATINGS,
    RATING_ITEM_FACTORS,
    RATING_USER_FACTORS,
    TEXT_VECTORS,
    USER_FACTORS,
    USER_VECTORS,
)

TABLES = {
    table.name: table
    for table in (
        INTERACTIONS,
        ITEMS,
        USERS,
        REJECTS,
        USER_FACTORS,
        ITEM_FACTORS,
        BASE_TEXT_VECTORS,
        TEXT_VECTORS,
        TRAINING_EXAMPLES,
        PAIR_EXAMPLES,
        PAIR_ITEMS,
        TRAINING_LOG,
        PRETRAINING_BLOCKS,
        PRETRAINING_LOG,
        ITEM_VECTORS,
        USER_VECTORS,
        COMBINED_ITEM_VECTORS,
        COMBINED_USER_VECTORS,
        RATING_USER_FACTORS,
        RATING_ITEM_FACTORS,
        PREDICTED_RATINGS,
        CANDIDATES,
        RERANKER_EXAMPLES,
        RERANKER_LOG,
        RERANKED,
        RECOMMENDATIONS,
        SEARCH_RESULTS,
        METRICS,
        COMPARISONS,
        TRIALS,
    )
}

__all__ = [
    "BASE_TEXT_VECTORS",
    "CANDIDATES",
    "COMPARISONS",
    "INTERACTIONS",
    "ITEMS",
    "ITEM_FACTORS",
    "ITEM_VECTORS",
    "METRICS",
    "ONE_MODEL",
    "PAIR_EXAMPLES",
    "PAIR_ITEMS",
    "PREDICTED_RATINGS",
    "PRETRAINING_BLOCKS",
    "PRETRAINING_LOG",
    "RATING_ITEM_FACTORS",
    "RATING_USER_FACTORS",
    "RECOMMENDATIONS",
    "REJECTS",
    "RERANKED",
    "RERANKER_EXAMPLES",
    "RERANKER_LOG",
    "SEARCH_RESULTS",
    "SPLITS",
    "TABLES",
    "TEXT_VECTORS",
    "TRAINING_EXAMPLES",
    "TRAINING_LOG",
    "TRIALS",
    "USERS",
    "USER_FACTORS",
    "USER_VECTORS",
    "Column",
    "Table",
    "check",
    "is_id_type",
]
