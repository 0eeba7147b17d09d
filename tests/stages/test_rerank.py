"""What a reranker makes of the ring's lists, from valid events and without, and what it refuses."""

import pytest

from recspark.errors import UserError
from recspark.stages import rerank
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.feature_reranker import FeatureReranker
from recspark.stages.rerank_night import Night
from recspark.tables import INTERACTIONS
from tests.ring_world import NOBODY, USERS, WALKED, after, events, put, reranked, settings, write_lake
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


def test_lessons_and_validation_have_nothing_denied_and_nothing_masked(spark, tmp_path):
    """Item 3 is denied; the users 10 and 11 have had item 5, which is masked. User 23's last train event is with item 2, user 0's with 3."""
    lake, _ = write_lake(tmp_path, valid=True)
    masked = [(user, 5, 9, None, None, 1.0, None, "masked") for user in (10, 11)]
    put(lake, INTERACTIONS, events(True) + masked)
    deny = tmp_path / "deny.jsonl"
    deny.write_text('{"item_id": 3}')
    config = settings()
    config.candidates = CandidatesConfig(top_k=7, deny={"path": str(deny), "format": "jsonl"})
    lake.begin("rerank")
    night = Night(spark, lake, config, config.rerank)
    lessons, before = night.lessons()
    validation, now = night.validation(night.world_now())
    for rows, world in ((lessons, before), (validation, now)):
        ids = world.catalogue.ids().to_pylist()
        found = {r.user_id: ([ids[i] for i in r.positions], ids[r.target]) for r in rows.collect()}
        assert found
        assert all(3 not in listed and target != 3 for listed, target in found.values())
        assert 5 not in found[10][0]
        assert any(5 in listed for listed, _ in found.values())
    assert 0 not in {r.user_id for r in lessons.collect()}
