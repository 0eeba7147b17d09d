"""BM25 as a product of sparse vectors, against bm25s's own scores and by hand."""

import sys

import bm25s
import numpy as np
import pytest

from recspark.errors import UserError
from recspark.retrieval.words import build_index, load_index

TEXTS = ["Star Wars (1977)", "War of the stars, star of wars", "quiet love", "", "the love of a star"]


def scores(index, queries, weight=1.0):
    words = index.words(queries, weight)
    return (words.users_UV @ words.items_MV.T).toarray()


def test_scores_are_bm25s_over_the_most_that_the_words_could_have():
    reference = bm25s.BM25()
    reference.index(bm25s.tokenize(TEXTS, stopwords=None, show_progress=False), show_progress=False)
    by_hand = reference.get_scores(["star", "wars"])
    most = reference.get_scores(["star"]).max() + reference.get_scores(["wars"]).max()
    (found,) = scores(build_index(TEXTS), ["STAR wars!"], 0.3)
    np.testing.assert_allclose(found, 0.3 * by_hand / most, rtol=1e-5)
    assert found.max() == pytest.approx(0.3)  # the first item has both words at their best
    assert found[2] == found[3] == 0


def test_an_item_with_all_the_words_at_their_best_has_the_whole_weight():
    assert scores(build_index(["red", "cat", "dog"]), ["red"], 0.3).tolist() == [[pytest.approx(0.3), 0, 0]]


def test_words_that_no_item_has_leave_the_others_less():
    """All words are equally rare here, so of three, one is a third."""
    assert scores(build_index(["red", "cat", "dog"]), ["two red heists"]).tolist() == [[pytest.approx(1 / 3), 0, 0]]


def test_a_word_said_twice_counts_twice():
    index = build_index(["red cat", "cat", "red dog"])
    counts = index.counts([["red", "cat"], ["red", "cat", "cat"]]).toarray()
    assert counts[:, [index.columns["red"], index.columns["cat"]]].tolist() == [[1, 1], [1, 2]]


def test_a_query_without_a_word_of_the_index_adds_nothing():
    assert not scores(build_index(TEXTS), ["", "a", "unheard"]).any()
    assert not scores(build_index(["", "a"]), ["star"]).any()  # no word at all in the catalogue


def test_an_index_read_from_disk_is_the_one_that_was_saved(tmp_path):
    index = build_index(TEXTS)
    index.save(tmp_path)
    kept = load_index(str(tmp_path))
    assert kept.columns == index.columns
    np.testing.assert_array_equal(scores(kept, ["love star"]), scores(index, ["love star"]))


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(UserError, match=r"needs the package bm25s.*whl\[search\]'\), or do without"):
        build_index(TEXTS)
