"""What counts as relevant, and what is kept off the lists, where a user may get again what he had."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.stages.judged_models import truth_and_seen
from recspark.stages.list_vectors import ListVectors

SCHEMA = "user_id string, item_id string, order_key bigint, split string, weight double"
HAD = [("u", "a", 1, "train", 1.0), ("u", "b", 2, "train", 0.5), ("u", "hidden", 3, "masked", 1.0)]
HAD += [("looked on", "a", 1, "train", 0.0)]  # so nothing is known of him, and he is not judged
WANTED = [(user, item, 9, "test", 1.0) for user in ("u", "looked on") for item in ("a", "b", "hidden", "new")]


@pytest.mark.parametrize(
    ("again", "relevant", "barred"),
    [
        ("nothing", {"new"}, {"a", "b", "hidden"}),
        ("newest", {"a", "b", "new"}, {"a", "hidden"}),
        ("all", {"a", "b", "new"}, {"hidden"}),
    ],
)
def test_what_was_had_counts_where_any_of_it_may_come_again_and_the_masked_never(
    spark: SparkSession, tmp_path: Path, again: str, relevant: set[str], barred: set[str]
) -> None:
    names = sorted({item for _, item, *_ in HAD + WANTED})
    items = spark.createDataFrame([(name, [1.0]) for name in names], "item_id string, vector array<float>")
    log, catalogue = spark.createDataFrame(HAD + WANTED, SCHEMA), write_catalogue(items, str(tmp_path))
    nothing = items.limit(0)
    truth, seen = truth_and_seen(log, catalogue, 42, str(tmp_path), ListVectors(nothing, nothing, again, 42))
    assert {(row.user_id, names[row.position]) for row in truth.collect()} == {("u", item) for item in relevant}
    assert {names[row.position] for row in seen.collect() if row.user_id == "u"} == barred
