"""Where raw tables come from: files of a format, or a Spark SQL query over named files; and their failures, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from py4j.protocol import Py4JJavaError
from pydantic import Field, StringConstraints, field_validator, model_validator
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession

from recspark.config import Settings
from recspark.errors import UserError, failing

# RFC 4180 doubles a quote inside quotes, where Spark wants a backslash; and files of one folder whose headers differ
# would be read by position without a word.
CSV_OPTIONS: dict[str, str | bool] = {"header": True, "escape": '"', "enforceSchema": False}

DATA_EXCEPTION = "22"  # class of SQLSTATE: a cast, a division, an index that a value does not allow

Format = Literal["parquet", "csv", "jsonl"]
Options = dict[str, str | bool | int | float]
SourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]


class Files(Settings):
    """How files are read."""

    format: Format = Field("parquet", description="CSV columns are strings; JSON lines and Parquet keep their types")
    options: Options = Field({}, description="handed to Spark's reader")

    @field_validator("options")
    @classmethod
    def _no_inference(cls, options: Options) -> Options:
        if any(name.lower() == "inferschema" for name in options):
            raise ValueError(
                "inferSchema would make an id 007 a 7; CSV is read as strings, numbers are told by their look"
            )
        return options


class Source(Files):
    """Files that `sql` may name as a table."""

    path: str = Field(description="file, folder or glob that Spark can read")


class RawTable(Files):
    """Where a raw table comes from: `path`, or `sql` over preprocess.sources."""

    path: str | None = Field(None, description="file, folder or glob that Spark can read")
    sql: str | None = Field(
        None, description="instead of path: a Spark SQL query over the tables in preprocess.sources"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "RawTable":
        if (self.path is None) == (self.sql is None):
            raise ValueError("give one of path and sql")
        return self


def open_raw(spark: SparkSession, where: str, table: RawTable, folders: list[str] | None = None) -> DataFrame:
    """The raw frame of `path` or `sql`, all columns; views of the sources must stand (see `source_views`). folders: the only ones of the path."""
    if table.path is not None:
        return open_files(spark, where, table.path, table.format, table.options, folders)
    assert table.sql is not None  # the settings say: one of the two
    # pyspark would print the failed query's whole Java stack as JSON, beside the one line that we raise
    PySparkLogger.getLogger("SQLQueryContextLogger").setLevel("CRITICAL")
    with spark_errors(f"{where}.sql"):
        return spark.sql(table.sql)


def open_files(
    spark: SparkSession, where: str, path: str, kind: Format, options: Options, folders: list[str] | None = None
) -> DataFrame:
    """Files as a frame; UserError if they are not there, not readable as what they are said to be, or empty.

    folders: sub-folders of the path, named column=value, that alone are read.
    """
    given = {**CSV_OPTIONS, **options} if kind == "csv" else dict(options)
    if folders and not any(name.lower() == "basepath" for name in given):
        given["basePath"] = path
    with spark_errors(f"{where}: {path} cannot be read as {kind}"):
        frame = spark.read.format({"jsonl": "json"}.get(kind, kind)).options(**given).load(folders or path)
    if not frame.columns:
        raise UserError(f"{where}: {path} is empty; expected {kind} with named columns")
    return frame


def sub_folders(spark: SparkSession, where: str, path: str, column: str) -> dict[str, str]:
    """Value to folder of the sub-folders column=value that a folder has; none of a glob."""
    if any(sign in path for sign in "*?[{"):
        return {}
    context: Any = spark.sparkContext
    hadoop = context._jvm.org.apache.hadoop.fs.Path
    with spark_errors(f"{where}: {path}"):
        system = hadoop(path).getFileSystem(context._jsc.hadoopConfiguration())
        found = system.globStatus(hadoop(f"{path}/{column}=*")) or []
    folders = [status.getPath() for status in found if status.isDirectory()]
    return {folder.getName().partition("=")[2]: folder.toString() for folder in folders}


@contextmanager
def source_views(spark: SparkSession, sources: dict[str, Source]) -> Iterator[None]:
    """While it lasts, SQL knows the sources by name; frames made within stay valid after."""
    try:
        for name, source in sources.items():
            where = f"preprocess.sources.{name}"
            open_files(spark, where, source.path, source.format, source.options).createOrReplaceTempView(name)
        yield
    finally:
        for name in sources:
            spark.catalog.dropTempView(name)


@contextmanager
def spark_errors(where: str) -> Iterator[None]:
    """Spark's complaint about a path, a query or a file becomes one line of UserError; of RunFailed where a service did not answer."""
    try:
        yield
    except PySparkException as error:
        hint = "; name its files in preprocess.sources" if error.getCondition() == "TABLE_OR_VIEW_NOT_FOUND" else ""
        raise failing(f"{where}: {str(error).strip().splitlines()[0]}{hint}", str(error)) from error
    except Py4JJavaError as error:
        raise failing(f"{where}: {root_cause(error)}", str(error)) from error


@contextmanager
def file_errors(where: str) -> Iterator[None]:
    """A raw file that turns out broken while rows are read, or a value that a query of the settings cannot make something of, becomes a
    UserError, or RunFailed where a service did not answer; any other failure passes as it is."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if isinstance(error, PySparkException) and (error.getSqlState() or "").startswith(DATA_EXCEPTION):
            raise UserError(f"{where}: {str(error).strip().splitlines()[0]}") from error
        lines = [line for line in str(error).splitlines() if "FAILED_READ_FILE" in line]
        if not lines or "FILE_NOT_EXIST" in lines[0]:  # replaced while it was read
            raise
        found = lines[0].rpartition("] ")[2].partition(" SQLSTATE")[0].strip()
        raise failing(f"{where}: {found} {root_cause(error)}", str(error)) from error


def root_cause(error: Exception) -> str:
    """The innermost cause that a Java stack names, in one line."""
    lines = str(error).splitlines()
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return causes[-1] if causes else next((line[2:] for line in lines if line.startswith(": ")), lines[0])
