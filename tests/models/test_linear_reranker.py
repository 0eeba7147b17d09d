"""What a softmax over lists learns, where it can be worked out by hand."""

import numpy as np
import pytest

from recspark.models.linear_reranker import LinearReranker, fit


def test_of_three_lists_two_agree_and_the_odds_are_two_to_one():
    # Lists of two items, one with the feature; it was taken in two of three: e^d / (1 + e^d) = 2/3, so d = ln 2.
    features = np.array([[1.0], [0], [1], [0], [1], [0]])
    model = fit(("a",), features, np.array([0, 2, 4, 6]), np.array([0, 2, 5]), l2=0.0)
    assert np.diff(model.score(np.array([[0.0], [1.0]])))[0] == pytest.approx(np.log(2), abs=1e-4)


def test_lists_of_unequal_length_and_a_feature_that_never_changes():
    features = np.array([[1.0, 5], [0, 5], [0, 5], [1, 5], [0, 5]])
    model = fit(("a", "b"), features, np.array([0, 3, 5]), np.array([0, 3]), l2=0.1)
    assert model.weight[0] > 0
    assert model.weight[1] == 0


def test_a_saved_model_scores_alike(tmp_path):
    model = LinearReranker(("a", "b"), (1.0, 0.0), (2.0, 1.0), (4.0, -1.0))
    model.save(tmp_path)
    assert LinearReranker.load(tmp_path) == model
    assert model.score(np.array([[3.0, 1.0]])).tolist() == [3.0]
