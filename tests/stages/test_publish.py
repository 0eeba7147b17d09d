"""What publish lets through, what it refuses, and what stands in the lake afterwards."""

import logging
import math
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recspark.lake import Lake
from recspark.stages import publish
from recspark.stages.list_checks import list_faults
from recspark.stages.list_vectors import ListVectors
from recspark.stages.publish import PublishRefused
from recspark.stages.report_facts import histogram, whole_number_histogram
from recspark.tables import CANDIDATES, INTERACTIONS, METRICS, RECOMMENDATIONS, REJECTS, RERANKED, TRAINING_LOG, Table
from tests.published_world import EVENTS, HEBREW, LISTS, YESTERDAY, deployment, list_rows, published_lake, score
from tests.table_rows import write


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return published_lake(tmp_path)


def rows(spark: SparkSession, lake: Lake, table: Table = RECOMMENDATIONS, date=None) -> list[tuple]:
    return sorted(tuple(r) for r in lake.read(spark, table, date).collect())


def test_lists_are_published_as_they_are_with_the_models_hash(spark, lake):
    lake.remove(lake.partition(RECOMMENDATIONS))
    publish.run(spark, lake, deployment(lake, "publish.report=false"))
    assert [(u, r, i, m) for u, r, i, _, m, *_ in rows(spark, lake)] == sorted(
        (u, r, i, "model") for u, r, i, _ in list_rows(LISTS)
    )
    assert not Path(lake.path("reports")).exists()


def test_reranked_lists_are_published_with_both_scores_and_checked_by_the_retrievers(spark, lake):
    lists = {"u1": "dcb", "u2": "eda", "u3": "cba"}
    found = [(u, n, i, -float(n), score(i), n / 4) for u, items in lists.items() for n, i in enumerate(items, 1)]
    write(lake, RERANKED, found)
    settings = deployment(lake, "publish.report=false", "rerank={model: {kind: features, depth: 3}}")
    publish.run(spark, lake, settings)
    assert [(u, r, i, s, own) for u, r, i, s, _, _, own in rows(spark, lake)] == [(*row[:4], row[5]) for row in found]
    write(lake, RERANKED, [(*row[:4], row[4] + 0.5, row[5]) for row in found])  # of vectors that are no more
    with pytest.raises(PublishRefused, match="the score is not the product of the two vectors: 9 rows"):
        publish.run(spark, lake, settings)


def test_refused_lists_leave_what_was_published(spark, lake):
    before, yesterday = rows(spark, lake), rows(spark, lake, date=YESTERDAY)
    write(lake, CANDIDATES, list_rows({**LISTS, "u1": "acd"}))  # u1 had a in train
    with pytest.raises(PublishRefused) as refused:
        publish.run(spark, lake, deployment(lake))
    assert "the user has had the item: 1 row, such as user_id u1, rank 1, item_id a" in str(refused.value)
    assert "the newest that is published, of 2026-01-02, stays" in str(refused.value)
    assert (rows(spark, lake), rows(spark, lake, date=YESTERDAY)) == (before, yesterday)
    assert not Path(lake.path("reports")).exists()


def test_denied_items_are_refused_and_their_places_are_not_missed(spark, lake, tmp_path):
    deny = tmp_path / "deny.csv"
    deny.write_text("item_id\na\n")
    settings = deployment(lake, f"candidates.deny={{path: {deny}, format: csv}}", "publish.report=false")
    with pytest.raises(PublishRefused, match="the item is not in the catalogue, or denied: 2 rows"):
        publish.run(spark, lake, settings)
    write(lake, CANDIDATES, list_rows({"u1": "bcd", "u2": "def", "u3": "bcd"}))
    publish.run(spark, lake, settings)
    assert {row[2] for row in rows(spark, lake)} == set("bcdef")


def test_how_many_listed_items_are_held_out_is_said(spark, lake, caplog):
    held_out = sum(item in LISTS[user] for user, item, split in EVENTS if split == "test" and user in LISTS)
    assert held_out
    with caplog.at_level(logging.INFO, logger="recspark"):
        publish.run(spark, lake, deployment(lake, "publish.report=false"))
    assert f"{held_out} listed items are ones that their users have had in the split test" in caplog.text


# ---- the checks


def faults(
    spark: SparkSession,
    lists: list[tuple],
    had: list[tuple],
    users: str = "u1",
    items: str = "abcd",
    top_k: int = 3,
) -> list[str]:
    """list_faults of lists (user, rank, item, score), had (user, item); users and items named by words and letters."""
    return list_faults(
        spark.createDataFrame(lists, "user_id string, rank int, item_id string, score float").coalesce(1),
        spark.createDataFrame([(u, [1.0, 0.0]) for u in users.split()], "user_id string, vector array<float>").coalesce(
            1
        ),
        spark.createDataFrame([(i, [score(i), 0.0]) for i in items], "item_id string, vector array<float>").coalesce(1),
        spark.createDataFrame(had, "user_id string, item_id string").coalesce(1),
        top_k,
    )


def test_good_lists_have_no_fault(spark):
    """A full list; and one of a user who has had, twice, all items but d, and one that is no longer in the catalogue."""
    lists = [("u1", 1, "a", 0.6), ("u1", 2, "b", 0.5), ("u1", 3, "c", 0.4), ("u2", 1, "d", 0.3)]
    had = [("u2", i) for i in "abcz"] * 2
    assert faults(spark, lists, had, "u1 u2") == []


def test_every_fault_is_found_counted_and_shown(spark):
    """One fault a user, but for `unknown`; everyone is due three of the four items."""
    nan, infinite = math.nan, math.inf
    lists = [
        ("gap", 1, "a", 0.6),
        ("gap", 3, "b", 0.5),
        ("gap", 4, "c", 0.4),
        ("risen", 1, "b", 0.5),
        ("risen", 2, "a", 0.6),
        ("risen", 3, "c", 0.4),
        ("wild", 1, "a", infinite),
        ("wild", 2, "b", 0.5),
        ("wild", 3, "c", nan),
        ("twice", 1, "a", 0.6),
        ("twice", 2, "a", 0.6),
        ("twice", 3, "b", 0.5),
        ("had", 1, "a", 0.6),
        ("had", 2, "b", 0.5),
        ("had", 3, "c", 0.4),
        ("unknown", 1, "f", 0.1),
        ("unknown", 2, "e", 0.1),
        ("unknown", 3, "f", 0.1),
        ("short", 1, "a", 0.6),
        ("short", 2, "b", 0.5),
        ("stale", 1, "a", 0.65),
        ("stale", 2, "b", 0.5),
        ("stale", 3, "c", 0.4),
        ("stranger", 1, "a", 0.6),
        ("stranger", 2, "b", 0.5),
        ("stranger", 3, "c", 0.4),
    ]
    found = faults(spark, lists, [("had", "a")], "gap risen wild twice had unknown short stale nobody")
    found = [line.partition("such as")[0] + line.partition("such as ")[2].partition(",")[0] for line in found]
    assert found == [
        "ranks do not run from 1 without a gap: 2 rows, user_id gap",
        "the score is not a finite number: 2 rows, user_id wild",
        "the score is higher than the one above: 2 rows, user_id risen",  # and NaN, which Spark holds greater than all
        "the item stands in the list twice: 2 rows, user_id twice",
        "the user has had the item: 1 row, user_id had",
        "the item is not in the catalogue, or denied: 3 rows, user_id unknown",
        "the list belongs to a user without a vector: 1 row, user_id stranger",
        "the list is shorter or longer than it can be: 2 rows, user_id nobody",
        "the score is not the product of the two vectors: 3 rows, user_id stale",
    ]


def test_list_longer_than_top_k_is_a_fault(spark):
    lists = [("u1", rank, item, score(item)) for rank, item in enumerate("abcd", 1)]
    assert faults(spark, lists, []) == [
        "the list is shorter or longer than it can be: 1 row, such as user_id u1, items 4, due 3"
    ]


def test_what_was_had_in_any_split_but_test_must_not_come_again(spark, lake):
    splits = ("train", "valid", "history", "masked", "test")
    log = [("u3", f"i{n}", n, None, None, 1.0, None, split) for n, split in enumerate(splits)]
    write(lake, INTERACTIONS, [*log, ("u3", "i1", 0, None, None, 1.0, None, "train")])
    interactions = lake.read(spark, INTERACTIONS)
    nothing = interactions.limit(0)

    def seen(again: str) -> set[str]:
        found = ListVectors(nothing, nothing, again, 42).seen(interactions).collect()
        return {row["item_id"] for row in found}

    assert seen("nothing") == {"i0", "i1", "i2", "i3"}
    assert seen("newest") == {"i0", "i1", "i3"}  # what was masked is no newest item, and may never come
    assert seen("all") == {"i3"}


# ---- the report's numbers


def test_report_is_written_and_escapes_what_stands_in_titles(spark, lake):
    lake.record_stage("evaluate", {"candidates": 9}, {"metrics": 7}, 2.0)
    lake.record_stage("candidates", {"item_vectors": 6}, {"candidates": 9}, 1.0)
    lake.facts["settings"] = {"candidates": {"top_k": 3}}
    publish.run(spark, lake, deployment(lake))
    text = Path(lake.path("reports/run_date=2026-01-02/report.html")).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#39;gotcha&#39;)&lt;/script&gt; &amp; &#34;Sons&#34;" in text
    assert HEBREW in text
    assert text.index("<th>candidates</th>") < text.index(
        "<th>evaluate</th>"
    )  # the pipeline's order, not the alphabet's
    assert "null_item_id" in text
    assert "top_k: 3" in text
    assert ("write", "report") in [(t.action, t.name) for t in lake.traffic]


def test_report_does_without_metrics_training_and_rejects(spark, lake):
    for table in (METRICS, TRAINING_LOG, REJECTS):
        lake.remove(lake.partition(table))
    publish.run(spark, lake, deployment(lake))
    text = Path(lake.path("reports/run_date=2026-01-02/report.html")).read_text(encoding="utf-8")
    assert "the stage evaluate did not run" in text


def test_lists_are_counted(spark, lake):
    """Nine entries: a, b, c, d, e on some list, f on none; c, d and e were never met in training, and have five entries."""
    from recspark.stages.report_facts import collect_facts

    facts = collect_facts(spark, lake, deployment(lake), lake.read(spark, RECOMMENDATIONS), "")
    lists = facts.lists
    assert (
        lists.users,
        lists.entries,
        lists.catalogue,
        lists.shown,
        lists.shown_first,
        lists.cold_entries,
    ) == (3, 9, 6, 5, 5, 5)
    assert [users for _, users in lists.most_shown] == [2, 2, 2, 2, 1]
    assert facts.rejects == [("interactions", "null_item_id", 3), ("items", "no_text", 1)]
    (example,) = [e for e in facts.examples if e.user == "u1"]
    assert [e.note for e in example.history] == ["2025-12-01, rated 4.5"]
    assert [e.marked for e in example.recommendations] == [False, True, False]  # c is in u1's test


def test_histogram_puts_the_greatest_in_the_last_bin(spark):
    found = histogram(spark.createDataFrame([(0.0,), (1.0,), (4.0,)], "x float"), "x")
    assert found is not None
    assert (found.edges[0], found.edges[-1], found.counts[0], found.counts[10], found.counts[-1]) == (
        0.0,
        4.0,
        1,
        1,
        1,
    )
    assert histogram(spark.createDataFrame([], "x float"), "x") is None


def test_equal_scores_make_one_bar(spark):
    found = histogram(spark.createDataFrame([(2.0,), (2.0,)], "x float"), "x")
    assert found is not None
    assert sum(found.counts) == 2


def test_many_whole_numbers_share_bins():
    assert whole_number_histogram({3: 2, 5: 1}).counts == [2, 0, 1]
    wide = whole_number_histogram({1: 5, 100: 7})
    assert (len(wide.counts), sum(wide.counts), wide.counts[0], wide.counts[-1]) == (34, 12, 5, 7)
