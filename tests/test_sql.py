"""Each query of jobs/sql, in Spark and in DuckDB over the same small lake: the same answer, and the one worked out by hand."""

import re
from pathlib import Path

import duckdb
import pytest

from recspark.evaluation import verdict
from recspark.lake import Lake
from recspark.sql import duckdb_views, spark_views, table_names
from recspark.tables import CANDIDATES, INTERACTIONS, RECOMMENDATIONS
from tests.published_world import TITLES, TODAY, YESTERDAY, list_rows, published_lake
from tests.table_rows import write

FOLDER = Path(__file__).parent.parent / "jobs/sql"
QUERIES = sorted(FOLDER.glob("*.sql"))
PARAMETERS = (
    "CREATE OR REPLACE TEMPORARY VIEW parameters AS "
    "SELECT DATE '2026-01-02' AS run_date, 'u1' AS user_id, 'genres' AS attribute, ' ' AS separator"
)
ANSWERS = {
    "user_list": [
        (1, "b", TITLES[1], 0.5, {"genres": "Action"}),
        (2, "c", TITLES[2], 0.4, {"genres": "Drama"}),
        (3, "d", TITLES[3], 0.3, {}),
    ],
    # u1 and u2 stayed, u3 is new, u4 has gone; u1 has d in place of e, of three items two are kept.
    "today_against_yesterday": [(TODAY, YESTERDAY, 2, 1, 1, 0.5, 0.0, 0.8333)],
    "items_in_and_out": [("d", TITLES[3], 1, 0, 2), ("e", TITLES[4], 0, 1, 1)],
    # Three events outside the test, on a, b and c; nine list entries: a 2, b 2, c 2, d 2, e 1.
    "coverage_by_attribute": [
        ("Action", 2, 2, 1.0, 0.6667, 0.4444),
        ("Drama", 2, 2, 1.0, 0.3333, 0.3333),
        ("Sci-Fi", 2, 1, 0.5, 0.3333, 0.2222),
    ],
    "model_against_baselines": [
        ("all", "als", 10, 0.2, 0.18, 0.22, 0.0, 0.0, 3),
        ("all", "full", 10, 0.3, 0.28, 0.32, 0.1, 0.05, 3),
        ("all", "popularity", 10, 0.1, 0.08, 0.12, -0.1, 0.0, 3),
        ("all", "text_after", 10, 0.15, 0.13, 0.17, -0.05, 0.0, 3),
        ("all", "text_before", 10, 0.12, 0.1, 0.14, -0.08, 0.0, 3),
    ],
    "rejects_by_reason": [
        ("interactions", "null_item_id", 3, 0, '{"n":0}'),
        ("items", "no_text", 1, 2, '{"item_id":"x"}'),
    ],
}


def test_the_models_that_are_no_baselines_are_those_of_the_report():
    text = (FOLDER / "model_against_baselines.sql").read_text()
    (ours,) = re.findall(r"model NOT IN \(([^)]*)\)", text)
    assert set(re.findall(r"'(\w+)'", ours)) == set(verdict.OURS)


class Engine:
    """Spark or DuckDB with the lake's views."""

    def __init__(self, execute):
        self.execute = execute

    def answer(self, sql: str) -> list[tuple]:
        return [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in self.execute(sql)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    return published_lake(tmp_path_factory.mktemp("sql's"))


@pytest.fixture(scope="module")
def engines(spark, lake) -> dict[str, Engine]:
    connection = duckdb.connect()
    duckdb_views(connection, lake)
    spark_views(spark, lake)
    return {
        "spark": Engine(lambda sql: [tuple(r) for r in spark.sql(sql).collect()]),
        "duckdb": Engine(lambda sql: connection.execute(sql).fetchall()),
    }


def test_every_query_is_here_and_in_the_readme():
    assert len(QUERIES) >= 4
    assert sorted(ANSWERS) == [path.stem for path in QUERIES]
    readme = (FOLDER / "README.md").read_text()
    assert [path.name for path in QUERIES if f"`{path.name}`" not in readme] == []


@pytest.mark.parametrize("engine", ["spark", "duckdb"])
@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_answer_is_right(engines, engine, path):
    engines[engine].execute(PARAMETERS)
    assert engines[engine].answer(path.read_text()) == ANSWERS[path.stem]


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_first_run_has_nothing_to_compare_with_and_works(engines, path):
    first_run = PARAMETERS.replace("2026-01-02", "2026-01-01")
    answers = []
    for engine in engines.values():
        engine.execute(first_run)
        answers.append(engine.answer(path.read_text()))
    assert answers[0] == answers[1]


def test_whole_values_where_no_separator_is_given(engines):
    answers = []
    for engine in engines.values():
        engine.execute(PARAMETERS.replace("' ' AS separator", "'' AS separator"))
        answers.append(engine.answer((FOLDER / "coverage_by_attribute.sql").read_text()))
    assert [row[0] for row in answers[0]] == ["Drama", "Action", "Action Sci-Fi", "Sci-Fi"]
    assert answers[0] == answers[1]


def test_views_are_of_tables_that_are_there_with_a_column_of_dates(spark, lake, engines):
    assert "candidates" in table_names(lake)
    assert "base_text_vectors" not in table_names(lake)
    for engine in engines.values():
        assert engine.answer("SELECT DISTINCT run_date FROM items ORDER BY run_date") == [
            (YESTERDAY,),
            (TODAY,),
        ]


def test_views_are_of_what_manifests_lead_to_and_of_files_beside_a_manifest(spark, tmp_path):
    beside = published_lake(tmp_path)
    led_to = Lake(beside.root, TODAY.replace(day=3))
    for only in ("rank = 1", "rank <= 2"):  # what the manifest led to before is in no view
        led_to.write(beside.look(spark, RECOMMENDATIONS).where(only), RECOMMENDATIONS)
    counted = "SELECT run_date, max(rank) AS longest FROM recommendations GROUP BY run_date ORDER BY run_date"
    spark_views(spark, beside)
    connection = duckdb.connect()
    duckdb_views(connection, beside)
    found = [tuple(row) for row in spark.sql(counted).collect()]
    assert [longest for date, longest in found] == [3, 3, 2]
    assert connection.sql(counted).fetchall() == found
    assert "version" not in spark.table("recommendations").columns
    assert "version" not in connection.table("recommendations").columns


def test_new_date_is_seen_when_views_are_made_again(spark, tmp_path):
    lake = published_lake(tmp_path)
    spark_views(spark, lake)
    lake.fs.delete_dir(lake.path(CANDIDATES.name))
    write(Lake(lake.root, TODAY.replace(day=3)), RECOMMENDATIONS, list_rows({"u9": "a"}, "model", None, None))
    assert set(spark_views(spark, lake)) == {
        "items",
        "recommendations",
        "metrics",
        "interactions",
        "users",
        "rejects",
        "user_vectors",
        "item_vectors",
        "training_log",
    }
    assert spark.sql("SELECT user_id FROM recommendations WHERE run_date = DATE '2026-01-03'").collect()[0][0] == "u9"
    assert spark.table(INTERACTIONS.name).count() == 4
