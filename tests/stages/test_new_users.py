"""The lists of users nobody has learned from, after their first events, by hand."""

import logging
from math import log2

import pytest

from recspark.evaluation.baselines import Popularity
from recspark.stages import candidates, evaluate
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.tables import COMPARISONS, METRICS
from tests.vector_world import new_lake, settings, write_world

# Two tastes: 1 to 3 are of the one, 4 to 6 of the other; 7 is cold. By its text, 3 is of the other.
ITEMS = {1: [0.9, 0], 2: [0.8, 0], 3: [1, 0], 4: [0, 1], 5: [0, 0.9], 6: [0, 0.8], 7: [0, 0]}
TEXTS = {**ITEMS, 3: [0, 1]}
KNOWN = [(u, i, "train") for u, had in ((1, (1, 3, 4)), (2, (2, 3, 5)), (3, (3, 5, 6))) for i in had] + [(1, 2, "test")]
# User 10 begins with the other taste, 4, and goes on with the first, 1 and 2; then wants 3. 6 is masked, and 1 comes again.
NEW = [(10, 6, "masked"), *((10, i, "test") for i in (4, 1, 2, 1, 3))]
NOT_JUDGED = [(11, 4, "test"), (11, 1, "test"), (11, 3, "test")]  # not more than three
NOT_JUDGED += [(12, 4, "history"), *((12, i, "test") for i in (1, 2, 5, 3))]  # not new
NOT_JUDGED += [(13, i, "test") for i in (4, 1, 2, 1)]  # wants nothing new later


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    lake = new_lake(tmp_path_factory.mktemp("new_users"))
    write_world(lake, {1: [1, 0]}, ITEMS, [*KNOWN, *NEW, *NOT_JUDGED], priors=TEXTS)
    config = {"ks": (1, 3), "replicates": 100, "slices": False, "baselines": (Popularity(),), "new_users": (3, 1)}
    deployment = settings(CandidatesConfig(top_k=3), EvaluateConfig(**config))
    candidates.run(spark, lake, deployment)
    evaluate.run(spark, lake, deployment)
    return lake, deployment


@pytest.fixture(scope="module")
def found(spark, night):
    rows = night[0].read(spark, METRICS).where("slice LIKE 'new users%'").collect()
    return {(r.model, r.slice, r.metric, r.k): r for r in rows}


def test_the_more_events_are_known_the_better_the_list(found):
    """After 4 alone, the user gets 5 before 3, 6 being masked; after 1 and 2, too, 3 comes first."""
    value = {key: row.value for key, row in found.items()}
    assert value["full", "new users: 1 event", "ndcg", 3] == pytest.approx(1 / log2(3))
    assert value["full", "new users: 1 event", "hit_rate", 1] == 0
    assert value["full", "new users: 1 event", "map", 3] == pytest.approx(1 / 2)
    assert value["full", "new users: 3 events", "ndcg", 1] == 1
    assert value["text_after", "new users: 1 event", "ndcg", 1] == 1  # its text says that 3 is like 4


def test_popularity_knows_no_more_after_three_events_than_after_one(found):
    """3 has three train events; items of the first three events are not listed after the first alone, either."""
    for name in ("new users: 1 event", "new users: 3 events"):
        assert found["popularity", name, "ndcg", 1].value == 1


def test_new_users_are_the_same_in_every_row_and_those_with_a_past_or_too_few_events_are_none(found):
    assert {(row.users, row.low <= row.value <= row.high) for row in found.values()} == {(1, True)}
    models, metrics = ("popularity", "text_before", "text_after", "full"), ("ndcg", "recall", "hit_rate", "map")
    slices = ("new users: 1 event", "new users: 3 events")
    assert set(found) == {(m, s, metric, k) for m in models for s in slices for metric in metrics for k in (1, 3)}


def test_models_are_compared_over_new_users(spark, night):
    compared = night[0].read(spark, COMPARISONS).where("slice = 'new users: 1 event' AND metric = 'ndcg' AND k = 3")
    rows = {(r.model, r.other): r.difference for r in compared.collect()}
    assert len(rows) == 6
    assert rows["full", "text_after"] == pytest.approx(1 / log2(3) - 1)


def test_without_new_users_there_is_no_row_and_one_line_says_so(spark, tmp_path, caplog):
    write_world(lake := new_lake(tmp_path), {1: [1, 0]}, ITEMS, [*KNOWN, *NEW])
    config = {"ks": (1,), "replicates": 100, "slices": False, "baselines": (), "new_users": (1, 5)}
    deployment = settings(CandidatesConfig(top_k=1), EvaluateConfig(**config))
    candidates.run(spark, lake, deployment)
    with caplog.at_level(logging.INFO, logger="recspark"):
        evaluate.run(spark, lake, deployment)
    assert lake.read(spark, METRICS).where("slice LIKE 'new users%'").count() == 0
    (line,) = [r.getMessage() for r in caplog.records if "new users" in r.getMessage()]
    assert "nobody to judge" in line
    assert "more than 5 test events" in line


def test_counts_of_events_are_different_whole_numbers():
    assert EvaluateConfig().new_users == (1, 3, 10)
    assert EvaluateConfig(new_users=()).new_users == ()
    with pytest.raises(ValueError, match="different whole numbers from 1"):
        EvaluateConfig(new_users=(0, 1))
