import pytest

from recspark.errors import UserError
from tests.doctor.visit import checkup


def test_without_a_session_what_needs_one_is_not_checked():
    with pytest.raises(UserError, match="not checked, for Spark did not start"):
        _ = checkup().session


def test_before_spark_starts_the_settings_say_whether_it_is_local():
    visit = checkup()
    assert visit.is_local
    for master in ("yarn", "spark://host:7077", None):
        visit.deployment.spark.master = master  # type: ignore[misc]
        assert not visit.is_local


def test_a_session_that_runs_says_so_itself(spark):
    visit = checkup()
    visit.deployment.spark.master = "yarn"  # type: ignore[misc]
    visit.started = spark
    assert visit.session is spark
    assert visit.is_local  # the tests' session is
