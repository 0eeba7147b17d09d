"""Baselines that know a user by what he had alone: score of item j = Σ decay^b (L Rᵀ)_ij over his items i, each b places before the newest.

Nothing is learned of users, so none is stored: histories meet L and R (left and right) in the workers. A baseline that cannot be had
raises LeftOut, and the others are judged without it.

Dimensions: M items, D length of text vectors, V words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from recspark.config import Settings
from recspark.data.catalogue import Catalogue
from recspark.data.item_counts import dense_counts, nearest, shared_pairs, write_counts
from recspark.models.item_based import EaseSettings, ease, ease_bytes, word_weights

Floats = NDArray[np.float32]
NEIGHBOUR_BYTES = 48  # a neighbour: a row of Arrow, the same in numpy, the matrix before and after it is sorted
CHARACTER_BYTES = (
    24  # a character of a text: itself, and its share of the words' counts and weights while they are made
)


class LeftOut(Exception):
    """A baseline that cannot be had tonight; says why."""


@dataclass(frozen=True)
class Sides:
    """left (M, ·), None for the identity; right (M, ·): the products of their rows are what items say of each other."""

    left: csr_matrix | Floats | None
    right: csr_matrix | Floats


@dataclass(frozen=True)
class Sources:
    """What the baselines of a night are made of; what several need is computed once, when it is first asked for.

    pairs: (user_id, item_id), each once. items: gives (item_id, text). encoded: the column of the catalogue with the texts' vectors under the
    base encoder, None where there are none. word_index: from texts to how often each has each word, and what the word brings to it.
    pair_limit: of items that users had both, each counted for each user.
    """

    catalogue: Catalogue
    pairs: DataFrame
    items: Callable[[], DataFrame]
    encoded: str | None
    word_index: Callable[[list[str]], tuple[csr_matrix, csr_matrix]]
    scratch: str
    pair_limit: int

    @cached_property
    def counts(self) -> str:
        """The folder of `write_counts`. Raises LeftOut if users had so much that it would take too long."""
        if self.shared > self.pair_limit:
            raise LeftOut(
                f"it would count {self.shared:,} pairs of items that users had both, and evaluate.pair_limit is {self.pair_limit:,}"
            )
        return write_counts(self.pairs, self.catalogue, self.scratch)

    @cached_property
    def shared(self) -> int:
        """Of `shared_pairs`."""
        return shared_pairs(self.pairs)

    @cached_property
    def texts(self) -> list[str]:
        """By position."""
        return self.catalogue.in_order(self.items(), "text", "")

    @cached_property
    def text_bytes(self) -> int:
        """The most that the texts and a matrix of their words hold."""
        row = self.items().agg(F.sum(F.length("text"))).first()
        return CHARACTER_BYTES * int((row and row[0]) or 0)


class Ease(Settings):
    """EASE on train and valid (Steck 2019): the best linear map of users to themselves that reads no item off itself.

    It stands near the top of Ferrari Dacrema et al. 2021 ("A troubling analysis of reproducibility and progress in recommender
    systems research").
    """

    kind: Literal["ease"] = "ease"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm")  # it knows an item by its users alone
    ridge: float = Field(EaseSettings().ridge, gt=0, description="λ, in mean users of an item")
    decay: float = Field(1.0, gt=0, le=1, description="what an item counts beside the one had after it")

    def memory_bytes(self, sources: Sources) -> int:
        """What the driver needs."""
        return ease_bytes(sources.catalogue.items)

    def sides(self, sources: Sources) -> Sides:
        """The identity, and Sᵀ."""
        return Sides(None, ease(dense_counts(sources.counts, sources.catalogue.items), self.ridge).T)


class ItemKnn(Settings):
    """The cosine of two items' sets of users on train and valid, kept for the nearest of each item (Deshpande and Karypis 2004)."""

    kind: Literal["item_knn"] = "item_knn"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm")
    neighbours: int = Field(200, ge=1, description="others kept for an item")
    decay: float = Field(1.0, gt=0, le=1, description="what an item counts beside the one had after it")

    def memory_bytes(self, sources: Sources) -> int:
        """What the driver needs."""
        return NEIGHBOUR_BYTES * sources.catalogue.items * min(self.neighbours, sources.catalogue.items)

    def sides(self, sources: Sources) -> Sides:
        """The identity, and a row an item: how near it is to each item that it is among the nearest of."""
        spark, size = sources.pairs.sparkSession, sources.catalogue.items
        found = nearest(spark.read.parquet(sources.counts), self.neighbours).toArrow()
        item, other, weight = (found[name].to_numpy() for name in ("item", "other", "weight"))
        return Sides(None, csr_matrix((weight, (other, item)), (size, size)))


class TfIdf(Settings):
    """The cosine of TF-IDF between an item's text and those of the history, the newest counting most (Salton and Buckley 1988)."""

    kind: Literal["tfidf"] = "tfidf"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm", "cold")
    decay: float = Field(0.8, gt=0, le=1, description="what an item counts beside the one had after it")

    def memory_bytes(self, sources: Sources) -> int:
        """What the driver needs."""
        return sources.text_bytes

    def sides(self, sources: Sources) -> Sides:
        """Words' weights, on both sides; a user's own length ranks nothing."""
        words_MV = word_weights(sources.texts)
        return Sides(*having_words(words_MV, words_MV))


class Bm25(Settings):
    """BM25 of an item's text for a query of the history's words, the newest item's counting most (Robertson and Zaragoza 2009).

    Needs the package bm25s.
    """

    kind: Literal["bm25"] = "bm25"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm", "cold")
    decay: float = Field(0.8, gt=0, le=1, description="what an item counts beside the one had after it")

    def memory_bytes(self, sources: Sources) -> int:
        """What the driver needs."""
        return sources.text_bytes

    def sides(self, sources: Sources) -> Sides:
        """How often each word stands in each text, and what it brings there."""
        return Sides(*having_words(*sources.word_index(sources.texts)))


class Frozen(Settings):
    """The cosine of text vectors under the base encoder, averaged over the history: what a language model knows untaught.

    The vectors are centred over the catalogue first: any two texts have much in common for an encoder as it comes (Mu and
    Viswanath 2018, "All-but-the-top").
    """

    kind: Literal["frozen"] = "frozen"
    slices: ClassVar[tuple[str, ...]] = ("all", "warm", "cold")
    decay: float = Field(1.0, gt=0, le=1, description="what an item counts beside the one had after it")

    def memory_bytes(self, sources: Sources) -> int:
        """What the driver needs."""
        return 2 * self.encoded(sources).nbytes

    def sides(self, sources: Sources) -> Sides:
        """The vectors, on both sides; of zeros where all texts are alike."""
        vectors_MD = self.encoded(sources)
        centred = vectors_MD - vectors_MD.mean(axis=0, dtype=np.float64).astype(np.float32)
        lengths_M = np.linalg.norm(centred, axis=1, keepdims=True)
        # What rounding leaves of texts that are all alike is no direction.
        centred /= np.where(lengths_M > TINY, lengths_M, np.inf)
        return Sides(centred, centred)

    def encoded(self, sources: Sources) -> Floats:
        """(M, D), mapped from disk."""
        if sources.encoded is None:
            raise LeftOut("the texts' vectors under the base encoder are not of the night that trained the retriever")
        return sources.catalogue.array(sources.encoded)


TINY = 1e-5  # beside vectors of length 1


def having_words(left_MV: csr_matrix, right_MV: csr_matrix) -> tuple[csr_matrix, csr_matrix]:
    """The same; raises LeftOut if there is no word at all."""
    if not right_MV.nnz:
        raise LeftOut("no item's text has a word")
    return left_MV, right_MV


ItemBaseline = Ease | ItemKnn | TfIdf | Bm25 | Frozen


def sides_within(baseline: ItemBaseline, sources: Sources, memory_gib: float) -> Sides:
    """The baseline's two sides. Raises LeftOut if it needs more memory than that, or cannot be had."""
    needed = baseline.memory_bytes(sources) / 2**30
    if needed > memory_gib:
        raise LeftOut(f"it would need {needed:,.1f} GiB, and evaluate.memory_gib is {memory_gib:g}")
    return baseline.sides(sources)
