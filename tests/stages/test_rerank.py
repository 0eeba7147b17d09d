"""What a reranker makes of the ring's lists, from valid events and without, and what it refuses."""

import pytest

from recspark.errors import UserError
from recspark.stages import rerank
from recspark.stages.feature_reranker import FeatureReranker
from tests.ring_world import NOBODY, USERS, WALKED, after, reranked, settings, write_lake
from tests.vector_world import new_lake


@pytest.fixture(scope="module")
def ring(spark, tmp_path_factory):
    lake, lists = write_lake(tmp_path_factory.mktemp("ring"), valid=True)
    rerank.run(spark, lake, settings())
    return lake, lists, reranked(spark, lake)


def test_what_comes_next_on_the_ring_is_first(ring):
    _, lists, found = ring
    for user in range(USERS):
        come = after(user, WALKED + 1 - user % 2)  # those with a valid event have gone one further
        if come in lists[user][:6]:
            assert found[user].item_id.iloc[0] == come


def test_a_list_keeps_its_items_and_what_lies_below_the_depth_its_place(ring):
    _, lists, found = ring
    for user in range(USERS):
        assert sorted(found[user].item_id) == sorted(lists[user])
        assert found[user].item_id.tolist()[6:] == lists[user][6:]
        assert found[user].reranker_score.isna().tolist() == [n >= 6 for n in range(len(lists[user]))]
        assert {i: -s for i, s in zip(found[user].item_id, found[user].retriever_score, strict=True)} == {
            i: n for n, i in enumerate(lists[user], 1)
        }


def test_a_user_without_a_history_keeps_the_retrievers_order(ring):
    _, lists, found = ring
    assert found[NOBODY].item_id.tolist() == lists[NOBODY]
    assert found[NOBODY].reranker_score.isna().all()


def test_the_manifest_tells_what_each_weight_gave(ring):
    lake, *_ = ring
    about = lake.model_manifest("reranker")
    assert about["retriever"] == lake.model_manifest("retriever")["content_hash"]
    tried = {float(w): found for w, found in about["tried"].items()}
    assert len(tried) == 11
    assert tried[about["weight"]] == max(tried.values())
    assert tried[about["weight"]] > tried[0.0]


def test_without_valid_events_the_weight_is_chosen_on_a_share_of_the_users(spark, tmp_path):
    lake, _ = write_lake(tmp_path, valid=False)
    rerank.run(spark, lake, settings(top_k=3, held_out=0.5))
    assert {len(one) for one in reranked(spark, lake).values()} == {3}
    assert lake.model_manifest("reranker")["weight"] > 0


def test_a_depth_beyond_the_candidates_is_told(spark, tmp_path):
    with pytest.raises(
        UserError, match=r"rerank.model.depth is 100, but candidates.top_k is 7; raise it and run candid"
    ):
        rerank.run(spark, new_lake(tmp_path), settings(model=FeatureReranker()))
