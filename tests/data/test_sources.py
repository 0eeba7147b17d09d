"""Files and queries are opened, and what they fail with is one line."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from recspark.data.sources import RawTable, Source, file_errors, open_files, open_raw, root_cause, source_views
from recspark.errors import RunFailed, UserError, failing
from tests.data.conftest import Write


def test_sql_joins_sources_and_leaves_no_view_behind(spark: SparkSession, write: Write) -> None:
    sources = {
        "films": Source(path=write("f.csv", "id,title\n1,Red\n2,Blue\n"), format="csv"),
        "plots": Source(path=write("p.jsonl", '{"film": "1", "plot": "Long."}\n'), format="jsonl"),
    }
    table = RawTable(sql="SELECT id, title, plot FROM films LEFT JOIN plots ON id = film")
    with source_views(spark, sources):
        frame = open_raw(spark, "here", table)
    assert sorted(tuple(r) for r in frame.collect()) == [("1", "Red", "Long."), ("2", "Blue", None)]
    assert not {"films", "plots"} & {table.name for table in spark.catalog.listTables()}


def test_views_go_also_where_a_source_fails(spark: SparkSession, write: Write) -> None:
    sources = {
        "films": Source(path=write("f.csv", "id\n1\n"), format="csv"),
        "plots": Source(path="nowhere.parquet"),
    }
    with (
        pytest.raises(UserError, match=r"preprocess\.sources\.plots: nowhere\.parquet cannot be read as parquet"),
        source_views(spark, sources),
    ):
        pass
    assert not {"films", "plots"} & {table.name for table in spark.catalog.listTables()}


def test_a_table_that_sql_does_not_know_has_a_hint(spark: SparkSession) -> None:
    with pytest.raises(UserError, match=r"^here\.sql: .*nowhere.*; name its files in preprocess\.sources$"):
        open_raw(spark, "here", RawTable(sql="SELECT * FROM nowhere"))


def test_only_a_file_that_is_broken_becomes_the_users_error() -> None:
    with pytest.raises(AnalysisException), file_errors("pretrain"):
        raise AnalysisException("another matter")
    broken = AnalysisException(
        "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file a.parquet. SQLSTATE: KD001\n"
        "Caused by: java.lang.RuntimeException: a.parquet is not a Parquet file"
    )
    said = r"^pretrain: Encountered error while reading file a\.parquet\. .*not a Parquet file"
    with pytest.raises(UserError, match=said), file_errors("pretrain"):
        raise broken


def test_the_innermost_cause_is_the_one_that_is_told() -> None:
    stack = "An error occurred.\n: org.Spark: job\nCaused by: java.One\n\tat x\nCaused by: java.Two: disk"
    assert root_cause(RuntimeError(stack)) == "java.Two: disk"
    assert root_cause(RuntimeError("An error occurred.\n: org.Spark: job\n\tat x")) == "org.Spark: job"
    assert root_cause(RuntimeError("plain")) == "plain"


def test_files_with_other_headers_in_one_folder_are_refused(spark: SparkSession, write: Write) -> None:
    write("two/a.csv", "id,title\n1,a\n")
    folder = str(Path(write("two/b.csv", "title,id\nb,2\n")).parent)
    with pytest.raises(Exception, match="CSV header does not conform to the schema"):
        open_files(spark, "here", folder, "csv", {}).collect()


@pytest.mark.parametrize("origin", [{}, {"path": "a", "sql": "SELECT 1"}])
def test_a_table_has_one_origin(origin: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="give one of path and sql"):
        RawTable(**origin)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["inferSchema", "inferschema"])  # Spark takes either
def test_inferring_csv_types_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="007"):
        Source(path="a", format="csv", options={name: "true"})


def test_csv_reads_doubled_quotes(spark: SparkSession, write: Write) -> None:
    frame = open_files(spark, "here", write("a.csv", 'id,title\n1,"""Great"", she said"\n'), "csv", {})
    assert frame.collect() == [("1", '"Great", she said')]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("java.net.SocketTimeoutException: Read timed out", RunFailed),
        ("com.amazonaws.AmazonS3Exception: Please reduce your request rate (Status Code: 503; SlowDown)", RunFailed),
        (
            "java.io.IOException: part-00503 is no CSV\n\tat org.apache.spark.SparkPlan.execute(SparkPlan.scala:503)",
            UserError,
        ),
    ],
)
def test_a_service_that_does_not_answer_is_told_from_a_file_that_is_wrong(said: str, kind: type) -> None:
    assert type(failing("raw: cannot be read", said)) is kind
