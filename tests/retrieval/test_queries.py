"""What the encoder reads of a query, and what a user's preference adds to its vector."""

import numpy as np
import pytest

from recspark.models.encoder import load_tokenizer
from recspark.retrieval.queries import moments_of, tokenise_queries, with_preference


def test_a_query_is_cut_where_item_texts_are_and_says_so(tiny_encoder):
    """The tokenizer's tokens are letters; two are special."""
    tokenizer = load_tokenizer(tiny_encoder, 8)
    whole, longer = tokenise_queries(tokenizer, ["abcdef", "abcdefg"], 8)
    assert (len(whole.token_ids), whole.cut) == (8, False)
    assert (len(longer.token_ids), longer.cut) == (8, True)
    assert longer.token_ids[0] == whole.token_ids[0]
    assert longer.token_ids[-1] == whole.token_ids[-1]  # the closing token stays


def test_a_query_of_unknown_characters_is_read_and_called_unknown(tiny_encoder):
    found = tokenise_queries(load_tokenizer(tiny_encoder, 8), ["東京", "東京 a", "\u0301"], 8)
    assert [t.known for t in found] == [False, True, False]
    assert all(len(t.token_ids) >= 2 for t in found)


def test_preference_is_in_standard_deviations_from_the_users_mean():
    """Item vectors 1, 2, 3, 6: u = 1 scores them so; mean 3, standard deviation √3.5. Twice the vector is the same taste."""
    items = np.array([[1, 0], [2, 0], [3, 0], [6, 0]], np.float32)
    users = np.array([[1, 0], [2, 0], [-1, 0]], np.float32)
    vectors = with_preference(np.array([[0.5], [0.5], [0.5]], np.float32), users, moments_of(items), 0.1)
    beside = np.hstack([np.ones((4, 1)), items, np.ones((4, 1))])
    by_hand = np.array([-2, -1, 0, 3]) / np.sqrt(3.5)
    np.testing.assert_allclose(
        vectors @ beside.T, [0.5 + 0.1 * by_hand, 0.5 + 0.1 * by_hand, 0.5 - 0.1 * by_hand], atol=1e-6
    )


@pytest.mark.parametrize("user", [[0, 0], [0, 3]])
def test_a_user_who_scores_all_items_alike_moves_nothing(user):
    items = np.array([[0.1, 0.7], [0.3, 0.7], [0.9, 0.7]], np.float32)
    vectors = with_preference(np.ones((1, 1), np.float32), np.array([user], np.float32), moments_of(items), 5)
    assert vectors.tolist() == [[1, 0, 0, 0]]


def test_what_the_model_wants_before_a_query_is_read_and_is_nothing_that_it_knows_of_it(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder, 8)
    plain, unknown = tokenise_queries(tokenizer, ["b", "東"], 8, prefix="a: ")
    assert plain.token_ids == tokenizer("a: b")["input_ids"]
    assert plain.known
    assert not unknown.known
    (alike,) = tokenise_queries(tokenizer, ["a"], 8, prefix="a: ")
    assert alike.known  # though the prefix has the same token
