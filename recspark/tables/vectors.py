"""Vectors of users, items and texts, and what is known of their ratings."""

from recspark.tables.contract import ONE_MODEL, Column, Table

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
ITEM_INDEX = Table(
    "item_index",
    "Where there is a section index: the list that each item is in. The rows lie in the order of list, then position.",
    (
        Column("item_id", "id", "the item"),
        Column("list", "int", "number of the list whose centroid is nearest to the item's vector"),
        Column("position", "int", "place of the item, from 0, among all of item_vectors by ascending id"),
        Column("distance", "double", "of the two"),
        Column("vector", "array<float>", "the item's, as in item_vectors"),
        Column("model_hash", "string", "content hash of the retriever"),
    ),
    key=("item_id",),
    constant=ONE_MODEL,
)
INDEX_LISTS = Table(
    "index_lists",
    "The lists of item_index. The manifest says how many of them a user probes, and what that was measured to hold of the exact lists.",
    (
        Column("list", "int", "number of the list, from 0"),
        Column("items", "bigint", "items in it"),
        Column("spread", "float", "root mean square of their distances from the centroid, a dimension"),
        Column("centroid", "array<float>", "as long as the items' vectors"),
    ),
    key=("list",),
)
COMBINED_ITEM_VECTORS = Table(
    "combined_item_vectors",
    "What the lists are made of where there is a section combine: an item's vectors, and after them its column of EASE.",
    (
        Column("item_id", "id", "the item"),
        Column(
            "vector",
            "array<float>",
            "factors, the sequence model's vector if there is one, the popularity, then what each item of the catalogue says for this one",
        ),
        Column("model_hash", "string", "content hash of the retriever"),
    ),
    key=("item_id",),
    constant=ONE_MODEL,
)
COMBINED_USER_VECTORS = Table(
    "combined_user_vectors",
    "A user's vectors, and after them the weights of the history; the score of an item is the inner product.",
    (
        Column("user_id", "id", "the user"),
        Column(
            "vector",
            "array<float>",
            "factors, the sequence model's vector if there is one, a number for the popularity, then one for each item of the catalogue, 0 for those not had",
        ),
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
