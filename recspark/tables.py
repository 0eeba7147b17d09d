"""Every table of the lake: columns, types, key and meaning. `check(df, TABLE)` guards the door on read and on write.

`docs/tables.md` is the same contract in prose for the people who query the tables. The type `id` stands for whatever
type the raw data gave: a string, any integer, or decimal(p, 0) for integers beyond 64 bits.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from recspark.errors import UserError

ONE_MODEL = ("model_hash",)  # vectors of two models, or lists made from them, never share a run date
SPLITS = ("train", "valid", "test", "history", "masked")


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


INTERACTIONS = Table(
    "interactions",
    "Cleaned events of users with items, each in one split.",
    (
        Column("user_id", "id", "the user, as the raw data gave it"),
        Column("item_id", "id", "the item, as the raw data gave it"),
        Column("order_key", "bigint", "sorts a user's events: microseconds since 1970 for times, else the given order"),
        Column("event_time", "timestamp", "when it happened, where the raw data has times", nullable=True),
        Column("rating", "double", "the given rating", nullable=True),
        Column("weight", "double", "the given weight, 1 where there is none"),
        Column("event_type", "string", "the given type of event", nullable=True),
        Column(
            "split",
            "string",
            "train: learned from; valid: choices are made on it; test: the truth of the evaluation; history: only folded in "
            "and filtered as seen; masked: only filtered as seen",
        ),
    ),
)
ITEMS = Table(
    "items",
    "One row an item that has text.",
    (
        Column("item_id", "id", "the item"),
        Column("title", "string", "a short name for people to read"),
        Column("text", "string", "the text the encoder reads: the template filled in and normalised"),
        Column("text_hash", "string", "SHA-256 of `text`"),
        Column("token_ids", "array<int>", "`text` in the encoder's tokens, special tokens included, truncated"),
        Column("attributes", "map<string,string>", "the raw item columns named in preprocess.items.attributes"),
    ),
    key=("item_id",),
)
USERS = Table(
    "users",
    "One row a user: everyone with an interaction, and everyone in the raw users.",
    (
        Column("user_id", "id", "the user"),
        Column("events", "bigint", "interactions in train, valid and history"),
        Column("attributes", "map<string,string>", "the raw user columns, where there is a users table", nullable=True),
    ),
    key=("user_id",),
)
REJECTS = Table(
    "rejects",
    "Raw rows that were left out, and why.",
    (
        Column("source", "string", "interactions, items or users"),
        Column("reason", "string", "a fixed word for the reason, such as null_item_id"),
        Column("row", "string", "the raw row as JSON"),
    ),
)
USER_FACTORS = Table(
    "user_factors",
    "Factorization: a vector a user with training interactions.",
    (
        Column("user_id", "id", "the user"),
        Column("interactions", "bigint", "training interactions"),
        Column("vector", "array<float>", "factors, of length factorize.embedding_size"),
    ),
    key=("user_id",),
)
ITEM_FACTORS = Table(
    "item_factors",
    "Factorization: a vector an item; without training interactions it is the prior.",
    (
        Column("item_id", "id", "the item"),
        Column("interactions", "bigint", "training interactions"),
        Column("exposure", "float", "share of the users who were still there when the item first appeared"),
        Column("vector", "array<float>", "factors, of length factorize.embedding_size"),
        Column("prior", "array<float>", "what the item's text alone predicts"),
    ),
    key=("item_id",),
)
_TEXT_VECTOR_COLUMNS = (
    Column("text_hash", "string", "SHA-256 of the text"),
    Column("model_hash", "string", "content hash of the encoder that read it"),
    Column("vector", "array<float>", "unit length"),
)
BASE_TEXT_VECTORS = Table(
    "base_text_vectors",
    "Vectors of distinct texts under the encoder as it came.",
    _TEXT_VECTOR_COLUMNS,
    key=("text_hash",),
    constant=ONE_MODEL,
)
TEXT_VECTORS = Table(
    "text_vectors",
    "Vectors of distinct texts under the fine-tuned encoder.",
    _TEXT_VECTOR_COLUMNS,
    key=("text_hash",),
    constant=ONE_MODEL,
)
_STEP_COLUMNS = (
    Column("part", "string", "train, or valid: held out"),
    Column("batch", "int", "the step, from 0, before an epoch shuffles the steps"),
    Column("slot", "int", "position in the batch over all ranks, from 0"),
    Column("batch_size", "int", "rows of the batch over all ranks"),
)
_SHARD = Column("shard", "int", "the rank that reads it: slot % ranks")
_EPOCH_COLUMNS = (
    Column("epoch", "int", "from 0"),
    Column("train_loss", "double", "mean over the epoch's examples", nullable=True),
    Column("valid_loss", "double", "mean over the held-out examples", nullable=True),
    Column("examples", "bigint", "examples read in the epoch, over all ranks"),
    Column("seconds", "double", "seconds the epoch took"),
)
TRAINING_EXAMPLES = Table(
    "training_examples",
    "What the ranks of the fine-tuning read: one row an item, a sub-folder a rank.",
    (
        Column("item_id", "id", "the item"),
        *_STEP_COLUMNS,
        Column("tokens", "binary", "token ids, int32 little-endian"),
        Column("positives", "float", "n: sum of the weights of the item's interactions"),
        Column("user_sum", "binary", "Σ w u, k float32 little-endian"),
        Column("user_root", "binary", "F, (m, k) float32 little-endian row by row, m <= k, with FᵀF = Σ w u uᵀ"),
        Column("penalty", "float", "λ, the pull of the item's vector to its prior"),
        Column("unobserved", "float", "a s, the weight of a pair without an interaction"),
        Column("weight", "float", "weight of the item in the loss: a power of n over its mean, divided by the mean n"),
        _SHARD,
    ),
    key=("item_id",),
    folders=("shard",),
)
PAIR_EXAMPLES = Table(
    "pair_examples",
    "What the ranks of the fine-tuning read under an objective by pair: one row an example, a sub-folder a rank.",
    (
        Column("example", "string", "user and item of the target, as a JSON array"),
        *_STEP_COLUMNS,
        Column("key", "bigint", "seeds what the example draws"),
        Column("target", "int", "position of the item, as pair_items has it"),
        Column("weight", "float", "weight of the interaction over the mean of the examples'"),
        Column("rating", "float", "the user's rating of the target", nullable=True),
        Column("user_bias", "float", "mean rating and the user's shrunken bias, under mse", nullable=True),
        Column("history", "binary", "positions of the history's items, newest first, int32 little-endian"),
        Column("history_ratings", "binary", "their ratings, float32 little-endian, 0 where there is none"),
        Column("positives", "binary", "positions of the user's items, none of them a negative, int32 little-endian"),
        Column("mined", "binary", "positions of the user's mined negatives, int32 little-endian"),
        _SHARD,
    ),
    key=("example",),
    folders=("shard",),
)
PAIR_ITEMS = Table(
    "pair_items",
    "The items that pair_examples speaks of by position.",
    (
        Column("item_id", "id", "the item"),
        Column("position", "int", "from 0, in the order of the ids"),
        Column("tokens", "binary", "token ids, int32 little-endian"),
        Column("share", "double", "share of the examples whose target it is"),
        Column("bias", "double", "the item's shrunken rating bias, under mse"),
    ),
    key=("item_id",),
)
TRAINING_LOG = Table(
    "training_log",
    "One row an epoch of the fine-tuning; epoch 0 is before the first step.",
    _EPOCH_COLUMNS,
    key=("epoch",),
)
PRETRAINING_BLOCKS = Table(
    "pretraining_blocks",
    "What the ranks of the pre-training read: one row a block of tokens, a sub-folder a rank.",
    (
        Column("block", "bigint", "a number of its own"),
        *_STEP_COLUMNS,
        Column("tokens", "binary", "token ids, int32 little-endian"),
        Column("words", "binary", "the word of the block that each token belongs to, int32; -1 for special tokens"),
        _SHARD,
    ),
    key=("block",),
    folders=("shard",),
)
PRETRAINING_LOG = Table(
    "pretraining_log",
    "One row an epoch of the pre-training; epoch 0 is before the first step. Losses are nats a token: exp(valid_loss) is the perplexity.",
    _EPOCH_COLUMNS,
    key=("epoch",),
)
ITEM_VECTORS = Table(
    "item_vectors",
    "What the lists are made of: a vector an item.",
    (
        Column("item_id", "id", "the item"),
        Column("vector", "array<float>", "the prior corrected by the item's training interactions"),
        Column("prior", "array<float>", "what the fine-tuned model says from the text alone"),
        Column("interactions", "bigint", "training interactions; 0 is a cold item"),
        Column("exposure", "float", "share of the users who were still there when the item first appeared"),
        Column("text_hash", "string", "SHA-256 of the text"),
        Column("model_hash", "string", "content hash of the retriever"),
    ),
    key=("item_id",),
    constant=ONE_MODEL,
)
USER_VECTORS = Table(
    "user_vectors",
    "A vector a user, folded in from the history; the score of an item is the inner product with the item's vector.",
    (
        Column("user_id", "id", "the user"),
        Column("vector", "array<float>", "factors"),
        Column("events", "bigint", "interactions folded in; with 0 the vector is the mean user's"),
        Column("model_hash", "string", "content hash of the retriever"),
    ),
    key=("user_id",),
    constant=ONE_MODEL,
)
_RATING_FACTOR_COLUMNS = (
    Column("ratings", "bigint", "training ratings; with 0 the row is its prior"),
    Column("bias", "double", "b of this row"),
    Column("vector", "array<float>", "factors, of length ratings.embedding_size"),
    Column("prior_bias", "double", "the bias that the features alone predict"),
    Column("prior", "array<float>", "the factors that the features alone predict"),
)
RATING_USER_FACTORS = Table(
    "rating_user_factors",
    "Ratings: what is known of every user. A rating is b + b_u + b_i + the vectors' inner product (docs/ratings.md).",
    (Column("user_id", "id", "the user"), *_RATING_FACTOR_COLUMNS),
    key=("user_id",),
)
RATING_ITEM_FACTORS = Table(
    "rating_item_factors",
    "Ratings: what is known of every item.",
    (Column("item_id", "id", "the item"), *_RATING_FACTOR_COLUMNS),
    key=("item_id",),
)
PREDICTED_RATINGS = Table(
    "predicted_ratings",
    "The held-out ratings, and what was predicted from train alone: the last rating of a pair in each split.",
    (
        Column("user_id", "id", "the user"),
        Column("item_id", "id", "the item"),
        Column("split", "string", "valid or test"),
        Column("rating", "double", "the given rating"),
        Column("prediction", "double", "what the model says, within ratings.scale"),
        Column("by_biases", "double", "what b + b_u + b_i says, fitted with the same ridge and without features"),
        Column("by_mean", "double", "the mean rating of train"),
    ),
    key=("user_id", "item_id", "split"),
)
_LIST_COLUMNS = (
    Column("user_id", "id", "the user"),
    Column("rank", "int", "from 1"),
    Column("item_id", "id", "the item"),
    Column("score", "float", "never rises with rank"),
)
CANDIDATES = Table("candidates", "The retriever's lists.", _LIST_COLUMNS, key=("user_id", "rank"))
RERANKER_EXAMPLES = Table(
    "reranker_examples",
    "What the ranks of a cross-encoder's training read: one row a user, a sub-folder a rank.",
    (
        Column("user_id", "id", "the user"),
        *_STEP_COLUMNS,
        Column(
            "tokens",
            "binary",
            "the user's pairs (history, item) one after the other, the item that was taken first; int32 little-endian",
        ),
        Column("lengths", "binary", "tokens of each pair, int32 little-endian"),
        _SHARD,
    ),
    key=("user_id",),
    folders=("shard",),
)
RERANKER_LOG = Table(
    "reranker_log",
    "One row an epoch of the cross-encoder's training; epoch 0 is before the first step.",
    _EPOCH_COLUMNS,
    key=("epoch",),
)
_RERANKER_SCORE = Column(
    "reranker_score", "float", "the reranker's own; null below its depth and for users without a history", nullable=True
)
RERANKED = Table(
    "reranked",
    "The retriever's lists in the reranker's order; `score` is a blend of both scores.",
    (*_LIST_COLUMNS, Column("retriever_score", "float", "the score among the candidates"), _RERANKER_SCORE),
    key=("user_id", "rank"),
)
RECOMMENDATIONS = Table(
    "recommendations",
    "What consumers read: the lists that passed their checks.",
    (
        *_LIST_COLUMNS,
        Column("model_hash", "string", "content hash of the retriever"),
        Column("retriever_score", "float", "the retriever's, where the lists were reranked", nullable=True),
        _RERANKER_SCORE,
    ),
    key=("user_id", "rank"),
    constant=ONE_MODEL,
)
SEARCH_RESULTS = Table(
    "search_results",
    "Items for the queries that search.queries asked, best first.",
    (
        Column("query_id", "id", "the query, as the table of queries gave it"),
        Column("rank", "int", "from 1"),
        Column("item_id", "id", "the item"),
        Column(
            "score", "float", "cosine, BM25's share and preference added up (docs/search.md); never rises with rank"
        ),
        Column("model_hash", "string", "content hash of the retriever"),
    ),
    key=("query_id", "rank"),
    constant=ONE_MODEL,
)
METRICS = Table(
    "metrics",
    "The evaluation: a value and its 95 % bootstrap interval a model, slice, metric and cut-off.",
    (
        Column(
            "model",
            "string",
            "popularity, als, text_before, text_after, full, reranked; ratings, rating_biases, rating_mean",
        ),
        Column("slice", "string", "all, warm or cold"),
        Column(
            "metric", "string", "recall, ndcg, map, map_min, mrr, hit_rate, precision, coverage, novelty; rmse, mae"
        ),
        Column("k", "int", "length of the list that is judged; 0 for rmse and mae, which judge no list"),
        Column("value", "double", "mean over users (coverage: share of the catalogue; rmse, mae: over ratings)"),
        Column("low", "double", "2.5 % of the bootstrap", nullable=True),
        Column("high", "double", "97.5 % of the bootstrap", nullable=True),
        Column("users", "bigint", "users in the mean"),
    ),
    key=("model", "slice", "metric", "k"),
)
TRIALS = Table(
    "trials",
    "The stage tune: what was tried, and what became of it.",
    (
        Column("number", "int", "the trial, from 0"),
        Column("study", "string", "folder of the study under tuning/"),
        Column("state", "string", "complete, pruned, failed, or interrupted: killed, and its settings tried again"),
        Column("own", "boolean", "the deployment's own settings"),
        Column("params", "map<string,string>", "dotted path of a setting: the value tried, as JSON"),
        Column("value", "double", "the metric, on validation rows", nullable=True),
        Column("low", "double", "2.5 % of its bootstrap", nullable=True),
        Column("high", "double", "97.5 % of its bootstrap", nullable=True),
        Column("users", "bigint", "users in the mean", nullable=True),
        Column(
            "losses",
            "array<double>",
            "held-out loss of the fine-tuning by epoch, from epoch 0, where something is held out",
        ),
        Column("seconds", "double", "seconds it took", nullable=True),
        Column("message", "string", "why it failed or was pruned", nullable=True),
    ),
    key=("number",),
)

TABLES = {t.name: t for t in list(globals().values()) if isinstance(t, Table)}


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
