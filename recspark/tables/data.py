"""What preprocess makes of the raw data."""

from recspark.tables.contract import Column, Table

SPLITS = ("train", "valid", "test", "history", "masked")

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
