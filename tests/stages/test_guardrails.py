"""Nights too far from the one before: held back, or published all the same where that is asked for."""

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recspark.errors import HeldBack, UserError
from recspark.exits import HELD_BACK, guard
from recspark.lake import Lake
from recspark.stages import publish
from recspark.stages.guardrails import Found, compared, quality
from recspark.stages.publish import FORCED
from recspark.tables import CANDIDATES, ITEMS, METRICS, RECOMMENDATIONS
from tests.published_world import ITEM_IDS, TODAY, YESTERDAY, deployment, metric_rows, published_lake
from tests.table_rows import write


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Yesterday: u1 bce, u2 ade, u4 abc; today u1 bcd, u2 ade, u3 abc."""
    lake = published_lake(tmp_path)
    lake.remove(lake.partition(RECOMMENDATIONS))
    return lake


def test_each_difference_is_what_it_is_by_hand(spark: SparkSession, lake: Lake):
    lists = lake.read(spark, CANDIDATES)
    against, found = compared(spark, lake, deployment(lake), lists)
    assert against == str(YESTERDAY)
    value = {difference.name: difference.value for difference in found}
    assert value["users_lost"] == pytest.approx(1 / 3)  # u4
    assert value["coverage_lost"] == 0  # a, b, c, d, e in both
    assert value["lists_changed"] == pytest.approx((1 / 3 + 0) / 2)  # d is new to u1
    assert value["texts_changed"] == 0
    assert value["quality_lost"] == pytest.approx(1 - 0.30 / 0.25)
    # Scores before: .5 .4 .2, .6 .3 .2, .6 .5 .4; today .5 .4 .3, .6 .3 .2, .6 .5 .4.
    assert value["score_drift"] == pytest.approx((3.8 - 3.7) / 9 / 0.14487, rel=1e-3)


def test_beyond_a_bound_nothing_is_published_and_the_report_says_why(spark: SparkSession, lake: Lake):
    settings = deployment(lake, "publish.guardrails.users_lost=0.3")
    with pytest.raises(
        HeldBack, match=rf"not published: they are too far from those of {YESTERDAY}, which stay"
    ) as error:
        publish.run(spark, lake, settings)
    assert "users_lost 0.333, at most 0.3: 1 of 3 users have no list now" in str(error.value)
    assert "--force" in str(error.value)
    assert not lake.has(RECOMMENDATIONS)
    assert lake.has(RECOMMENDATIONS, YESTERDAY)
    page = (Path(lake.root) / "reports" / f"run_date={TODAY}" / "report.html").read_text()
    assert "Not published." in page
    assert f"{YESTERDAY}: users_lost 0.333" in page


def test_forced_it_is_published_and_the_manifest_says_so(spark: SparkSession, lake: Lake):
    lake.facts[FORCED] = True
    lake.begin("publish")
    publish.run(spark, lake, deployment(lake, "publish.guardrails.users_lost=0.3", "publish.report=false"))
    manifest = lake.manifest(RECOMMENDATIONS)
    assert manifest[FORCED] is True
    assert manifest["guardrails"]["breached"] == ["users_lost"]
    assert manifest["guardrails"]["against"] == str(YESTERDAY)
    assert "recommendations" not in manifest["inputs"]  # they were looked at; nothing was made of them


def test_lists_that_found_half_as_much_are_held_back(spark: SparkSession, lake: Lake):
    write(lake, METRICS, metric_rows(0.12))
    with pytest.raises(HeldBack, match=r"quality_lost 0.52, at most 0.3: nDCG@10 is 0.1200, 0.2500 before"):
        publish.run(spark, lake, deployment(lake, "publish.report=false"))


def test_a_night_whose_titles_came_empty_is_held_back(spark: SparkSession, lake: Lake):
    write(lake, ITEMS, [(item, "", ". Drama", "hash-of-them-all", [1], {}) for item in ITEM_IDS])
    with pytest.raises(HeldBack, match=r"texts_changed 1, at most 0.3: 6 of 6 items have another text than before"):
        publish.run(spark, lake, deployment(lake, "publish.report=false"))
    publish.run(spark, lake, deployment(lake, "publish.report=false", "publish.guardrails.texts_changed=null"))


def test_one_item_for_all_is_held_back(spark: SparkSession, lake: Lake):
    lists = lake.read(spark, CANDIDATES).where("item_id = 'b'")
    _, found = compared(spark, lake, deployment(lake), lists)
    assert "coverage_lost" in {difference.name for difference in found if difference.breached}


def test_the_first_night_and_one_without_metrics_have_nothing_to_be_far_from(spark: SparkSession, lake: Lake):
    lists = lake.read(spark, CANDIDATES)
    lake.remove(lake.partition(METRICS))
    lake.remove(lake.partition(ITEMS, YESTERDAY))
    named = {d.name for d in compared(spark, lake, deployment(lake), lists)[1]}
    assert not named & {"quality_lost", "texts_changed"}
    lake.remove(lake.partition(RECOMMENDATIONS, YESTERDAY))
    assert compared(spark, lake, deployment(lake), lists) == (None, [])
    publish.run(spark, lake, deployment(lake, "publish.report=false"))
    assert lake.manifest(RECOMMENDATIONS)["guardrails"] == {"against": None, "breached": []}


def test_scores_are_compared_with_those_of_their_kind(spark: SparkSession, lake: Lake):
    def drift() -> Found:
        tight = deployment(lake, "publish.guardrails.score_drift=0.01")
        found = compared(spark, lake, tight, lake.read(spark, CANDIDATES))[1]
        return next(difference for difference in found if difference.name == "score_drift")

    place = Path(lake.root, lake.partition(RECOMMENDATIONS, YESTERDAY)) / "_manifest.json"
    manifest = json.loads(place.read_text())
    place.write_text(json.dumps({**manifest, "scored_by": "factors"}))
    assert drift().breached
    place.write_text(json.dumps({**manifest, "scored_by": "rerank"}))
    assert not drift().breached
    assert "of another kind" in drift().told


def test_of_reranked_lists_the_quality_is_theirs(spark: SparkSession, lake: Lake):
    reranked = ("reranked", "all", "ndcg", 10, 0.12, 0.1, 0.14, 3)
    write(lake, METRICS, [*metric_rows(0.3), reranked])
    assert [quality(spark, lake, TODAY, 10, kind) for kind in ("rerank", "combine", None)] == [0.12, 0.3, 0.3]
    assert quality(spark, lake, YESTERDAY, 10, "rerank") is None


def test_metrics_of_other_lists_than_are_to_be_published_are_refused(spark: SparkSession, lake: Lake):
    place = Path(lake.root, lake.partition(METRICS)) / "_manifest.json"
    manifest = json.loads(place.read_text())
    place.write_text(json.dumps({**manifest, "inputs": {"candidates": {"fingerprint": "others"}}}))
    with pytest.raises(UserError, match=r"metrics of .* made from another candidates .* run again from evaluate"):
        publish.run(spark, lake, deployment(lake, "publish.report=false"))


def test_ids_of_another_type_than_before_are_compared_as_they_read(spark: SparkSession, lake: Lake):
    lists = lake.read(spark, CANDIDATES).withColumn("user_id", F.expr("CAST(substr(user_id, 2) AS BIGINT)"))
    value = {difference.name: difference.value for difference in compared(spark, lake, deployment(lake), lists)[1]}
    assert value["users_lost"] == 1
    assert "lists_changed" not in value


def test_nothing_on_any_list_is_too_far_from_something(spark: SparkSession, lake: Lake):
    nothing = lake.read(spark, CANDIDATES).limit(0)
    found = {difference.name: difference for difference in compared(spark, lake, deployment(lake), nothing)[1]}
    assert found["users_lost"].breached
    assert found["coverage_lost"].breached


def test_lists_without_a_score_to_compare_are_beyond_every_bound():
    assert Found("score_drift", float("nan"), 5.0, "").breached
    assert not Found("score_drift", float("nan"), None, "").breached
    assert not Found("users_lost", 0.25, 0.25, "").breached


def test_held_back_has_an_exit_code_of_its_own():
    def held_back() -> None:
        raise HeldBack("too far")

    assert guard(held_back, False) == HELD_BACK == 3
