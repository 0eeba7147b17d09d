"""Popularity by several half-lives, worked out by hand."""

import datetime

import numpy as np
import pytest

from recspark.data.catalogue import write_catalogue
from recspark.data.popularity import SPANS, half_lives_of, popularity

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
EVENTS = "item_id bigint, event_time timestamp"


@pytest.fixture
def catalogue(spark, tmp_path):
    return write_catalogue(
        spark.createDataFrame([(i, 0.0) for i in (10, 20, 30)], "item_id bigint, n double"), str(tmp_path)
    )


def test_an_event_a_half_life_before_the_newest_counts_half(spark, catalogue, tmp_path):
    days = [(10, 0), (10, 4), (20, 2), (40, 4)]  # 40 is no item
    log = spark.createDataFrame([(i, DAY + datetime.timedelta(days=d)) for i, d in days], EVENTS)
    assert half_lives_of(log) == (None, *(4 * part for part in SPANS))
    found = popularity(log, catalogue, (None, 2.0), str(tmp_path))
    np.testing.assert_allclose(found.of(None), [2, 1, 0])
    np.testing.assert_allclose(found.of(2.0), [1.25, 0.5, 0])


@pytest.mark.parametrize("times", [[None, None], [DAY, DAY]])
def test_without_times_that_differ_all_events_count_alike(spark, catalogue, tmp_path, times):
    log = spark.createDataFrame(list(zip([10, 10], times, strict=True)), EVENTS)
    assert half_lives_of(log) == (None,)
    np.testing.assert_allclose(popularity(log, catalogue, (None, 3.0), str(tmp_path)).of(3.0), [2, 0, 0])


def test_of_no_event_nothing_is_popular(spark, catalogue, tmp_path):
    log = spark.createDataFrame([], EVENTS)
    assert half_lives_of(log) == (None,)
    assert popularity(log, catalogue, (None,), str(tmp_path)).of(None).tolist() == [0, 0, 0]
