"""`recspark search`: one query against the newest night, by pyarrow and torch: no Spark, a few seconds. The stage's scores."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ConfigDict
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from recspark import config
from recspark.data.catalogue import vectors_of
from recspark.data.text import normalise
from recspark.errors import UserError
from recspark.lake import Lake, local_folder
from recspark.lookup import Lookup, open_lake
from recspark.models.retriever import max_length_of, query_prefix_of
from recspark.retrieval.queries import QueryTokens, tokenise_queries
from recspark.show import grid, heading, plain, titles_of
from recspark.stages.provenance import require_vectors_of
from recspark.stages.search import SearchConfig, require_whole_catalogue
from recspark.stages.versions import retriever_behind
from recspark.tables import ITEM_VECTORS, ITEMS, TEXT_VECTORS, USER_VECTORS, Table

if TYPE_CHECKING:
    from recspark.retrieval.words import WordIndex

TOKENS_PER_BATCH = 2048

Scores = NDArray[np.float64]


class Trust(config.Settings):
    """Of the section `encoder`, whether code in the model's folder may run."""

    model_config = ConfigDict(extra="ignore")

    trust_remote_code: bool = False


class SearchSection(config.Settings):
    """Of a deployment, only its section `search`, and whom it trusts: the rest need not be valid to ask a question."""

    model_config = ConfigDict(extra="ignore")

    search: SearchConfig = SearchConfig()
    encoder: Trust = Trust()


def run(
    config_path: str, run_date: datetime.date | None, overrides: list[str], query: str, user_id: str | None, top: int
) -> None:
    """Print the `top` items for a query, with the weights of the section `search`; a user's preferences count if one is given.

    Raises UserError for a query without text, an unknown user (with ids near it), more items than there are, missing tables,
    and vectors of another model than the retriever's.
    """
    lake = open_lake(config_path, overrides, run_date, TEXT_VECTORS)
    sections = {name: value for name, value in config.read_yaml(config_path).items() if name in ("search", "encoder")}
    if isinstance(sections.get("encoder"), dict):
        sections["encoder"] = {k: v for k, v in sections["encoder"].items() if k in Trust.model_fields}
    asked = config.parse(sections, SearchSection, overrides, config_path)
    settings = asked.search
    text = normalise(query)
    if not text:
        raise UserError(f"the query {query!r} has no text to search for; give it a word or more")
    index = open_index(lake, asked.encoder.trust_remote_code)
    require_whole_catalogue(lake, len(index.catalogue), top, "--top")
    (tokens,) = index.tokens([text])
    (scores,) = index.scores([text], settings.bm25_weight)
    if user_id is not None:
        scores = scores + settings.personal_weight * index.preferences(user_id)
    show(index, heading(f"“{plain(text)}”", lake), notes(tokens, len(tokens.token_ids)), scores, top)


def notes(tokens: QueryTokens, length: int) -> list[str]:
    """What the reader of a list should know of the query."""
    cut = [f"The query is longer than the model reads; the first {length} tokens count."] * tokens.cut
    unknown = ["The model knows nothing in this query; without words that match, the list means nothing."]
    return cut + unknown * (not tokens.known)


def show(index: "Index", head: Text, notes: Sequence[str], scores: Scores, top: int) -> None:
    console = Console(highlight=False)
    console.print(head, no_wrap=True, overflow="ellipsis")
    for note in notes:
        console.print(Text(note, "yellow"))
    console.print(results_table(index, best(scores, top), scores))


def results_table(index: "Index", places: NDArray[np.int64], scores: Scores) -> Grid:
    ids = index.catalogue["item_id"].take(pa.array(places)).to_pylist()
    titles = titles_of(Lookup(index.lake, ITEMS), ids)
    table = grid(("rank", "number"), ("score", "number"), ("title", "text"), ("item", "left"))
    for rank, (which, score) in enumerate(zip(ids, scores[places], strict=True), 1):
        table.add_row(Text(str(rank)), Text(f"{score:.4f}"), Text(titles[which]), Text(plain(which), "dim"))
    return table


def best(scores: Scores, top: int) -> NDArray[np.int64]:
    """Positions of the `top` largest scores, as float32 has them; a tie goes by position."""
    return np.argsort(-scores.astype(np.float32), kind="stable")[:top]


@dataclass(frozen=True)
class Index:
    """The catalogue of one run date under one encoder: a table of text vectors and the folder of the model that made them."""

    lake: Lake
    table: Table
    folder: Path
    max_length: int
    prefix: str  # before a query
    trust_remote_code: bool = False

    @cached_property
    def catalogue(self) -> pa.Table:
        """item_id, text_hash in ascending order of the ids: a row is an item's position."""
        return Lookup(self.lake, ITEMS).dataset.to_table(columns=["item_id", "text_hash"]).sort_by("item_id")

    @cached_property
    def tokenizer(self) -> Any:
        from recspark.models.encoder import load_tokenizer

        return load_tokenizer(self.folder, self.max_length, self.trust_remote_code)

    def tokens(self, queries: list[str]) -> list[QueryTokens]:
        """What the model reads of normalised queries."""
        return tokenise_queries(self.tokenizer, queries, self.max_length, self.prefix)

    @cached_property
    def encoder(self) -> Any:
        from recspark.models.encoder import load_encoder

        return load_encoder(self.folder, trust_remote_code=self.trust_remote_code)

    def vectors(self, queries: list[str]) -> NDArray[np.float32]:
        """(Q, H) of normalised queries, unit length."""
        from recspark.retrieval.encode import encode

        tokens = [np.asarray(t.token_ids, np.int32) for t in self.tokens(queries)]
        return encode(self.encoder, tokens, TOKENS_PER_BATCH)

    def scores(self, queries: list[str], bm25_weight: float = 0) -> Scores:
        """(Q, M) of normalised queries, for nobody in particular."""
        wanted = self.catalogue["text_hash"]
        cosines_QM = products(Lookup(self.lake, self.table), "text_hash", wanted, self.vectors(queries))
        return cosines_QM + self.word_scores(queries, bm25_weight) if bm25_weight else cosines_QM

    @cached_property
    def word_index(self) -> "WordIndex":
        """Made anew from all texts."""
        from recspark.retrieval.words import build_index

        texts = Lookup(self.lake, ITEMS).dataset.to_table(columns=["item_id", "text"]).sort_by("item_id")["text"]
        return build_index(texts.to_pylist())

    def word_scores(self, queries: list[str], weight: float) -> Scores:
        """(Q, M) what the words add."""
        words = self.word_index.words(queries, weight)
        return (words.users_UV @ words.items_MV.T).toarray().astype(np.float64)

    def preferences(self, user_id: str) -> Scores:
        """(M,) a user's scores less their mean, in their standard deviations; 0 for a user who scores all items alike."""
        users, items = Lookup(self.lake, USER_VECTORS), Lookup(self.lake, ITEM_VECTORS)
        who = users.known_id("user_id", user_id)
        model_hash = retriever_behind(self.lake, TEXT_VECTORS).content_hash
        for table in (users, items):
            require_vectors_of(self.lake, "search", table.table, model_of(table), model_hash)
        vector = np.array([users.with_id("user_id", who, ["vector"])[0]["vector"]], np.float32)
        (scores,) = products(items, "item_id", self.catalogue["item_id"], vector)
        apart = scores.std() > 1e-6 * np.abs(scores).max()
        return (scores - scores.mean()) / scores.std() if apart else np.zeros_like(scores)


def open_index(lake: Lake, trust_remote_code: bool = False) -> Index:
    """The catalogue under the fine-tuned encoder, whose folder's own code runs if it is trusted.

    Raises UserError if the text vectors are another model's.
    """
    version = retriever_behind(lake, TEXT_VECTORS)
    require_vectors_of(lake, "search", TEXT_VECTORS, model_of(Lookup(lake, TEXT_VECTORS)), version.content_hash)
    folder = local_folder(version.path)
    return Index(lake, TEXT_VECTORS, folder, max_length_of(folder), query_prefix_of(folder), trust_remote_code)


def model_of(table: Lookup) -> str | None:
    """The model hash of a table of vectors; None if it is empty."""
    row = table.dataset.head(1, columns=["model_hash"]).to_pylist()
    return row[0]["model_hash"] if row else None


def products(table: Lookup, key: str, wanted: pa.ChunkedArray, queries_QD: NDArray[np.float32]) -> Scores:
    """(Q, wanted) inner products with the vectors of a table, read a batch at a time.

    Raises UserError if a wanted key has no vector there.
    """
    keys, parts = [], []
    for batch in table.dataset.to_batches(columns=[key, "vector"]):
        if len(batch):
            keys.append(batch.column(key))
            parts.append(queries_QD.astype(np.float64) @ vectors_of(batch.column("vector")).T)
    place = pc.index_in(wanted, value_set=pa.chunked_array(keys, wanted.type))
    if place.null_count:
        raise UserError(
            f"search: {place.null_count:,} of the {len(wanted):,} items of run date {table.lake.run_date} have no vector in "
            f"{table.table.name}; run the stage embed again"
        )
    return np.hstack(parts)[:, place.to_numpy()]
