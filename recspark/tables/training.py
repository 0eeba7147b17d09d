"""What ranks read when they train, and what they tell of it."""

from dataclasses import replace

from recspark.tables.contract import Column, Table

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
        Column("user", "bigint", "the user, as pair_users has it"),
        Column("target", "int", "position of the item, as pair_items has it"),
        Column("weight", "float", "weight of the interaction over the mean of the examples'"),
        Column("rating", "float", "the user's rating of the target", nullable=True),
        Column("user_bias", "float", "mean rating and the user's shrunken bias, under mse", nullable=True),
        Column("history", "binary", "positions of the history's items, newest first, int32 little-endian"),
        Column("history_ratings", "binary", "their ratings, float32 little-endian, 0 where there is none"),
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
PAIR_USERS = Table(
    "pair_users",
    "What the users that pair_examples speaks of have.",
    (
        Column("user", "bigint", "a hash of the user's id"),
        Column("positives", "binary", "positions of the user's items, none of them a negative, int32 little-endian"),
    ),
    key=("user",),
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
SEQUENCE_EXAMPLES = Table(
    "sequence_examples",
    "What the ranks of the sequence model's training read: one row a window of a user's events, a sub-folder a rank.",
    (
        Column("window", "string", "part, user and number of the window, as a JSON array"),
        *_STEP_COLUMNS,
        Column(
            "positions",
            "binary",
            "the events' items by position in the order of the ids, oldest first, int32 little-endian",
        ),
        Column(
            "wanted",
            "binary",
            "1 for an event that is to be foreseen, 0 for one that is only read, int32 little-endian",
        ),
        Column("weight", "float", "1 over the wanted events that windows of the part have on average"),
        _SHARD,
    ),
    key=("window",),
    folders=("shard",),
)
SEQUENCE_EXAMPLES_ALL = replace(
    SEQUENCE_EXAMPLES,
    name="sequence_examples_all",
    meaning="Where no row is valid: the same of all train events, from which the night's sequence model learns once more.",
)
SEQUENCE_LOG = Table(
    "sequence_log",
    "One row an epoch of the sequence model's training beside what is held out; epoch 0 is before the first step. Losses are nats an event.",
    _EPOCH_COLUMNS,
    key=("epoch",),
)
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
