"""What many tests share: one Spark session, an empty lake, and an encoder small enough to be made on the spot."""

import datetime
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tests import jvm

# Before anything loads a BLAS: the session and its workers run with one thread each, as in production.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JDK_JAVA_OPTIONS", jvm.OPTIONS)
# Workers and ranks are processes of their own, some started in other folders, and take their tasks from these modules.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")))
)

import pytest
from pyspark.sql import SparkSession

from recspark.lake import Lake
from recspark.session import SparkSettings, build
from tests.tiny_encoder import make_tiny_encoder

RUN_DATE = datetime.date(2026, 1, 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole nights first: two workers would else wait for the last of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    conf = {"spark.sql.shuffle.partitions": "2", "spark.ui.showConsoleProgress": "false"}
    session = build(SparkSettings(master="local[2]", conf=conf))
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A run sends the package's log to files of its own, and no further; the next test finds it as it was."""
    log = logging.getLogger("recspark")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), RUN_DATE)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and 16 dimensions with random weights, and a tokenizer of letters."""
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"))
