"""Lists, and what judges them."""

from recspark.tables.contract import ONE_MODEL, Column, Table

_LIST_COLUMNS = (
    Column("user_id", "id", "the user"),
    Column("rank", "int", "from 1"),
    Column("item_id", "id", "the item"),
    Column("score", "float", "never rises with rank"),
)
CANDIDATES = Table("candidates", "The retriever's lists.", _LIST_COLUMNS, key=("user_id", "rank"))
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
            "popularity, recent_popularity, als, item_knn, ease, tfidf, bm25, frozen (baselines); id_alone, factors_alone, text_before, text_after, factors, sequence, full, reranked; "
            "ratings, rating_biases, rating_mean",
        ),
        Column(
            "slice",
            "string",
            "all, warm or cold items; within the lists of all: cold_among_all, `users: 3-5 events`, `items: decile 1` and the like; `new users: 1 event` "
            "and the like: users nobody has learned from",
        ),
        Column(
            "metric",
            "string",
            "recall, ndcg, map, map_min, mrr, hit_rate, precision, coverage, novelty, popularity, popularity_lift, diversity, miscalibration; rmse, mae",
        ),
        Column("k", "int", "length of the list that is judged; 0 for rmse and mae, which judge no list"),
        Column(
            "value",
            "double",
            "mean over users (coverage: share of the catalogue; popularity_lift: of means; rmse, mae: over ratings)",
        ),
        Column("low", "double", "2.5 % of the bootstrap", nullable=True),
        Column("high", "double", "97.5 % of the bootstrap", nullable=True),
        Column("users", "bigint", "users in the mean"),
    ),
    key=("model", "slice", "metric", "k"),
)
COMPARISONS = Table(
    "comparisons",
    "The evaluation: every two models of a slice over the same users, by a paired bootstrap.",
    (
        Column("model", "string", "one model, judged after the other (the order of the column model of metrics)"),
        Column("other", "string", "the model that it is set beside"),
        Column("slice", "string", "as in metrics"),
        Column("metric", "string", "as in metrics, those that are means over users"),
        Column("k", "int", "length of the list that is judged"),
        Column("difference", "double", "value of the model less value of the other"),
        Column("low", "double", "2.5 % of the differences in the bootstrap's replicates"),
        Column("high", "double", "97.5 % of them"),
        Column("p", "double", "two-sided, by the bootstrap's standard error of the difference and the t distribution"),
        Column("p_adjusted", "double", "p by Holm's correction for all pairs of the slice, metric and k"),
        Column("users", "bigint", "users in the means"),
    ),
    key=("model", "other", "slice", "metric", "k"),
)
LEAKAGE = Table(
    "leakage",
    "The evaluation: what of the test could have been known before. Facts to read the metrics by; docs/evaluation.md says what each means.",
    (
        Column(
            "fact",
            "string",
            "train_after_test (where there are times), pairs_in_both, cold_with_a_warm_text, texts_that_name_a_user",
        ),
        Column("rows", "bigint", "train events; pairs of a user and an item; items; items"),
        Column(
            "share",
            "double",
            "of the train events with a time; the test's pairs; the cold items; all items. Null where there is none, or no id to look for",
            nullable=True,
        ),
        Column("example", "string", "one of the rows, in words", nullable=True),
    ),
    key=("fact",),
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
