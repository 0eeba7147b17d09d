"""BM25 over a catalogue's texts as an inner product of sparse vectors, so that the top-K kernel can add it to the dense one.

An item's vector has for each of its words what the word brings (Robertson and Zaragoza 2009, in Lucene's form; the numbers
are bm25s's, k1 1.5, b 0.75); a query's has how often the word stands in it. Words are runs of two or more letters or digits,
in lower case; nothing is stemmed or left out.

    <folder>/data.npy, indices.npy, indptr.npy   the items' vectors in CSR, memory-mapped by the workers
    <folder>/most.npy, words.json                the most that each word brings to an item, and the word

Dimensions: Q queries, M items, V words.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from recspark.errors import UserError
from recspark.lake import local_folder
from recspark.retrieval.topk import Words

PARTS = ("data", "indices", "indptr")
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class WordIndex:
    """(M, V) float32 of what each word brings to each item, (V,) of the most it brings to any, and the words' columns."""

    items_MV: csr_matrix
    most_V: NDArray[np.float32]
    columns: dict[str, int]

    def words(self, queries: Sequence[str], weight: float) -> Words:
        """Vectors whose products are `weight` times BM25 over the most that a query of these words could have: 0 to `weight`.

        A word that no item has counts in that most as the index's best word does: so the only item with the "with" of "heist
        films with a twist" gains little. A query without a word of the index has a zero vector.
        """
        split_Q = split(queries)
        counts_QV = self.counts(split_Q)
        strange_Q = np.array([sum(word not in self.columns for word in words) for words in split_Q], np.float32)
        most_Q = counts_QV @ self.most_V + strange_Q * self.most_V.max(initial=0)
        counts_QV.data *= np.repeat(weight / np.maximum(most_Q, TINY), np.diff(counts_QV.indptr)).astype(np.float32)
        return Words(counts_QV, self.items_MV)

    def counts(self, split_Q: Sequence[Sequence[str]]) -> csr_matrix:
        """(Q, V) how often each word of the index stands in each query, given as its words."""
        found = [Counter(self.columns[w] for w in words if w in self.columns) for words in split_Q]
        indptr = np.cumsum([0, *map(len, found)])
        indices = [column for row in found for column in sorted(row)]
        data = [row[column] for row in found for column in sorted(row)]
        shape = (len(split_Q), self.items_MV.shape[1])
        return csr_matrix((np.array(data, np.float32), np.array(indices, np.int32), indptr), shape)

    def save(self, folder: str | Path) -> None:
        """Write the files into a folder that is there."""
        for part in PARTS:
            np.save(Path(folder) / f"{part}.npy", getattr(self.items_MV, part))
        np.save(Path(folder) / "most.npy", self.most_V)
        (Path(folder) / "words.json").write_text(json.dumps(list(self.columns)))


def build_index(texts: Sequence[str]) -> WordIndex:
    """The index of the texts of a catalogue, by position.

    Raises UserError where bm25s is not installed.
    """
    bm25s = require_bm25s()
    tokens = bm25s.tokenize(list(texts), stopwords=None, show_progress=False)
    if not tokens.vocab:
        return WordIndex(csr_matrix((len(texts), 0), dtype=np.float32), np.zeros(0, np.float32), {})
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(tokens, create_empty_token=False, show_progress=False)
    words = sorted(index.vocab_dict, key=index.vocab_dict.__getitem__)
    scores = index.scores
    by_word = csc_matrix((scores["data"], scores["indices"], scores["indptr"]), (len(texts), len(words)))
    most = by_word.max(axis=0).toarray()[0]
    return WordIndex(by_word.tocsr(), most, {word: column for column, word in enumerate(words)})


@lru_cache(maxsize=2)
def load_index(folder: str) -> WordIndex:
    """The index that `WordIndex.save` put there, its numbers mapped from the disk; kept by the worker."""
    place = local_folder(folder)
    data, indices, indptr = (np.load(place / f"{part}.npy", mmap_mode="r") for part in PARTS)
    words = json.loads((place / "words.json").read_text())
    items = csr_matrix((data, indices, indptr), (len(indptr) - 1, len(words)), copy=False)
    return WordIndex(items, np.load(place / "most.npy"), {word: column for column, word in enumerate(words)})


def split(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, as the index counts them."""
    return list(require_bm25s().tokenize(list(texts), stopwords=None, return_ids=False, show_progress=False))


def require_bm25s() -> Any:
    """The library, imported where it is used: half a second that most runs do not need."""
    try:
        import bm25s
    except ImportError:
        raise UserError(
            "BM25 needs the package bm25s, which is not installed; install recspark's extra search (pip install 'recspark-….whl[search]'), or do without: set "
            "search.bm25_weight to 0, and name no bm25 in evaluate.baselines"
        ) from None
    return bm25s
