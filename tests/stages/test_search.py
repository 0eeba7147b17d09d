"""A table of queries against a whole small lake: its lists by hand and by the command's own way, and input that does not fit."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recspark import runner
from recspark import search as command
from recspark.data.sources import Source
from recspark.data.text import text_hash
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages import queries, search
from recspark.tables import ITEMS, SEARCH_RESULTS, TEXT_VECTORS, USER_VECTORS
from tests.published_world import deployment
from tests.search_world import TEXTS, encoded, search_lake
from tests.table_rows import write

ROWS = (
    "query_id string, user_id string, query string, text_hash string, token_ids array<int>, cut boolean, known boolean"
)
LONG = "war and love and war and love"


@pytest.fixture
def lake(tmp_path: Path, tiny_encoder: Path) -> Lake:
    return search_lake(tmp_path, tiny_encoder)


def run(spark, lake: Lake, rows: list[dict], *overrides: str, **settings) -> dict:
    """query_id -> [(item, score)] by rank, after the lists were found well-formed."""
    path = Path(lake.root).parent / "queries.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    given = [f"search.queries={{path: {path}, format: jsonl}}", *overrides]
    given += [f"search.{name}={value}" for name, value in settings.items()]
    search.run(spark, lake, deployment(lake, *given))
    frame = lake.read(spark, SEARCH_RESULTS).toPandas().sort_values(["query_id", "rank"])
    assert set(frame.model_hash) == {lake.model_manifest("retriever")["content_hash"]}
    for _, one in frame.groupby("query_id"):
        assert one["rank"].tolist() == list(range(1, len(one) + 1))
        assert (np.diff(one.score) <= 0).all()
    return {q: list(zip(one.item_id, one.score, strict=True)) for q, one in frame.groupby("query_id")}


def test_lists_are_the_cosines_sorted_whatever_the_blocks(spark, lake, tmp_path):
    rows = [{"query_id": n, "query": text} for n, text in enumerate(TEXTS.values())]
    lists = run(spark, lake, rows, top_k=6, queries_per_block=1)
    cosines = encoded(tmp_path / "retriever", list(TEXTS.values()))
    for n, (own, row) in enumerate(zip(TEXTS, cosines @ cosines.T, strict=True)):
        found, scores = zip(*lists[n], strict=True)
        assert TEXTS[found[0]] == TEXTS[own]
        assert sorted(found) == list(TEXTS)
        np.testing.assert_allclose(scores, row[["abcdef".index(i) for i in found]], atol=1e-5)
        assert found.index("f") == found.index("a") + 1  # one text, a tie: by id
    assert not Path(lake.scratch("search")).joinpath("queries").exists()


def test_words_users_and_odd_queries_at_once_as_the_command_answers_them(spark, lake, caplog, monkeypatch):
    rows = [
        {"query_id": "plain", "query": "  <b>Red&nbsp;robots</b> "},
        {"query_id": "u1", "query": "love", "user_id": "u1"},
        {"query_id": "u2", "query": "love", "user_id": "u2"},
        {"query_id": "even", "query": "love", "user_id": "u3"},
        {"query_id": "stranger", "query": "love", "user_id": "u9"},
        {"query_id": "long", "query": LONG},
        {"query_id": "unknown", "query": "東京"},
        {"query_id": "blank", "query": " \u200b "},
        {"query_id": "null", "query": None},
    ]
    with caplog.at_level(logging.WARNING, logger="recspark"):
        lists = run(spark, lake, rows, top_k=6, bm25_weight=0.5, personal_weight=0.2)
    assert set(lists) == {"plain", "u1", "u2", "even", "stranger", "long", "unknown"}
    for said in ("2 of 9 queries have no text", "1 of 9 queries are longer", "1 of 9 queries hold nothing"):
        assert said in caplog.text
    assert "1 of 4 user ids are not in user_vectors" in caplog.text
    assert lists["even"] == lists["stranger"]
    assert lists["unknown"][0][0] == "e"  # unknown to the model, and a word of e's text

    index = command.open_index(lake)
    for name, query, user in (
        ("plain", "Red robots", None),
        ("u1", "love", "u1"),
        ("u2", "love", "u2"),
        ("even", "love", "u3"),
        ("long", LONG, None),
        ("unknown", "東京", None),
    ):
        (scores,) = index.scores([query], 0.5)
        scores = scores + (0.2 * index.preferences(user) if user else 0)
        found, given = zip(*lists[name], strict=True)
        np.testing.assert_allclose(given, scores[["abcdef".index(i) for i in found]], atol=1e-5)
        np.testing.assert_allclose(given, np.sort(scores)[::-1], atol=1e-5)


# ---- what does not fit


def test_without_queries_the_error_says_what_to_set(spark, lake):
    with pytest.raises(UserError, match=r"search.queries is not set; give it files with columns query_id and query"):
        search.run(spark, lake, deployment(lake))


def test_what_search_lacks_is_said_before_the_night_begins(lake, monkeypatch):
    with pytest.raises(UserError, match=r"search.queries is not set"):
        runner.check(deployment(lake), ["preprocess", "search"])
    monkeypatch.setitem(sys.modules, "bm25s", None)
    words = deployment(lake, "search.queries={path: q.parquet}", "search.bm25_weight=0.1")
    with pytest.raises(UserError, match="BM25 needs the package bm25s"):
        runner.check(words, ["preprocess", "search"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"query": "x"}', r"lacks column query_id; it has \['query'\]"),
        ('{"id": 1}', "lacks column query_id and query"),
        ('{"query_id": 1.5, "query": "x"}', "column query_id of .* is double; ids are strings or integers"),
        ('{"query_id": 1, "query": "x", "user_id": [1]}', "column user_id of .* is array<bigint>"),
        ('{"query_id": 1, "query": 7}', "column query of .* is bigint; queries are strings"),
        ("", "is empty"),
        (None, "cannot be read as jsonl"),
    ],
)
def test_a_table_of_queries_that_cannot_do_is_the_users_error(spark, tmp_path, text, said):
    path = tmp_path / "queries.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=rf"search.queries: .*{said}"):
        queries.read_queries(spark, Source(path=str(path), format="jsonl"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("1", "x"), ("1", "y"), ("2", "z")], "query_id 1 stands there 2 times"),
        ([("1", "x"), (None, "y")], "query_id is null in 1 rows"),
        ([("1", ""), ("2", "")], "none of 2 queries has text"),
        ([], "none of 0 queries has text"),
    ],
)
def test_ids_twice_or_missing_and_no_text_at_all_are_the_users_error(spark, rows, said):
    asked = spark.createDataFrame([(i, None, query, "hash", [1], False, True) for i, query in rows], ROWS)
    with pytest.raises(UserError, match=said):
        queries.require_queries(asked)


def test_a_list_longer_than_the_catalogue_is_the_users_error_and_nothing_is_written(spark, lake):
    with pytest.raises(UserError, match=r"search.top_k is 7, but the catalogue has 6 items; set search.top_k to 6 or"):
        run(spark, lake, [{"query_id": 1, "query": "love"}], top_k=7)
    assert not lake.has(SEARCH_RESULTS)


def test_vectors_of_another_model_are_the_users_error(spark, lake):
    write(lake, USER_VECTORS, [("u1", [1.0, 0.0], 1, "an earlier model")])
    asked = spark.createDataFrame([("1", "u1")], "query_id string, user_id string")
    with pytest.raises(UserError, match="user_vectors of run date 2026-01-02 come from another model"):
        search.known_users(spark, lake, asked, 0.1, lake.model_manifest("retriever")["content_hash"])
    write(lake, TEXT_VECTORS, [(text_hash("red"), "an earlier model", [1.0])])
    with pytest.raises(UserError, match=r"text_vectors .* another model \(an earlier m….*run again from embed"):
        run(spark, lake, [{"query_id": 1, "query": "love"}])


def test_items_without_a_vector_are_the_users_error(lake):
    with pytest.raises(
        UserError, match=r"5 of the 6 items of run date 2026-01-02 have vectors; run the stage embed again"
    ):
        search.require_whole_catalogue(lake, 5, 1, "search.top_k")


@pytest.mark.parametrize("table", [ITEMS, TEXT_VECTORS], ids=lambda table: table.name)
def test_a_lake_without_its_tables_is_the_users_error(spark, lake, table):
    lake.remove(lake.partition(table))
    with pytest.raises(UserError, match=f"table {table.name} of run date 2026-01-02 is not in the lake"):
        run(spark, lake, [{"query_id": 1, "query": "love"}])


def test_user_ids_of_any_type_meet_as_text(spark, lake):
    model_hash = lake.model_manifest("retriever")["content_hash"]
    write(lake, USER_VECTORS, [(196, [1.0, 0.0], 1, model_hash)], pa.int64())
    asked = spark.createDataFrame([("q", "196"), ("r", "0196")], "query_id string, user_id string")
    (row,) = search.known_users(spark, lake, asked, 0.1, model_hash).collect()
    assert (row.query_id, row.preference) == ("q", [1.0, 0.0])
    assert search.known_users(spark, lake, asked, 0.0, model_hash) is None
