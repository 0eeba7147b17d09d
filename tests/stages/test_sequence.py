"""sequence on the ring, where everybody walks on by one, and combine with it; one rank in this process."""

from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.data.splits import Random
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.sequence import SequenceShape
from recspark.stages import combine, sequence
from recspark.stages.combined_alone import IdsAlone
from recspark.stages.sequence import SequenceConfig, list_parts, saved
from recspark.stages.tune import TuneConfig
from recspark.tables import (
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    INTERACTIONS,
    ITEM_VECTORS,
    SEQUENCE_EXAMPLES,
    SEQUENCE_LOG,
)
from tests import ring_world
from tests.ring_world import RING, USERS, WALKED, after
from tests.stages import test_combine

SMALL = SequenceConfig(
    inputs="both",
    shape=SequenceShape(size=16, layers=1, heads=1, longest=4),
    dropout=0.0,
    learning_rate=1e-2,
    warmup_steps=2,
    epochs=30,
    batch_size=8,
    num_processes=1,
    launcher="local",
    reader="arrow",
)


def settings(**given) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(test_combine.settings(**given)), "sequence": SMALL})


@pytest.fixture(scope="module")
def learned(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = ring_world.write_lake(tmp_path_factory.mktemp("sequence"), valid=True)[0]
    sequence.run(spark, lake, settings())
    return lake


def test_after_the_newest_comes_the_next_on_the_ring(spark: SparkSession, learned: Lake, tmp_path):
    items = spark.createDataFrame([(i, 0.0) for i in range(RING)], "item_id bigint, number double")
    catalogue = write_catalogue(items, str(tmp_path))
    histories = [(u, [after(u, n) for n in (2, 1, 0)]) for u in range(RING)]
    users = spark.createDataFrame(histories, "user_id bigint, history array<int>")
    of_items, of_users = list_parts(saved(spark, learned, settings()), catalogue, users)
    vectors = {r.item_id: np.array(r.vector) for r in of_items.collect()}
    for row in of_users.collect():
        first = max(vectors, key=lambda i: vectors[i] @ np.array(row.vector))
        assert first == after(row.user_id, 3)


def test_its_tables_hold_what_it_learned_from_and_how_it_went(spark: SparkSession, learned: Lake):
    rows = learned.read(spark, SEQUENCE_EXAMPLES).collect()
    assert sum(r.part == "train" for r in rows) == USERS
    assert sum(r.part == "valid" for r in rows) == USERS / 2
    losses = [r.valid_loss for r in learned.read(spark, SEQUENCE_LOG).orderBy("epoch").collect()]
    assert min(losses) < losses[0] / 2


def test_combine_takes_it_as_its_third_part(spark: SparkSession, learned: Lake, tmp_path):
    combine.run(spark, learned, settings())
    manifest = learned.manifest(COMBINED_USER_VECTORS)
    chosen = manifest["choice"]
    alone = max(row["ndcg"] for row in manifest["tried"] if row["sequence"] == 1)
    assert alone == pytest.approx(1)  # what was held out is the next on the ring
    assert max(row["ndcg"] for row in manifest["tried"]) == pytest.approx(1)

    users, items = test_combine.vectors(spark, learned)
    assert all(len(v) == 2 + SMALL.shape.size + 1 + RING for v in (*users.values(), *items.values()))
    middle = slice(2, 2 + SMALL.shape.size)
    of_sequences = np.array([items[i][middle] for i in range(RING)]) @ users[0][middle]
    assert of_sequences.std() == pytest.approx((1 - chosen["popularity"]) * chosen["sequence"], rel=1e-3, abs=1e-6)

    factors = spark.createDataFrame([(i, [float(i), 1.0]) for i in range(RING)], "item_id bigint, vector array<float>")
    ids = IdsAlone(spark, learned, settings(), learned.read(spark, INTERACTIONS), factors, str(tmp_path))
    assert ids.choice.texts == "none"
    assert (ids.sides.sequences is not None) == (ids.choice.sequence > 0)
    assert learned.read(spark, COMBINED_ITEM_VECTORS).count() == len(ids.items().collect())


def test_without_texts_it_learns_the_same_examples_by_vectors_of_their_own(
    spark: SparkSession, learned: Lake, tmp_path
):
    found = sequence.sequences_of_ids(spark, learned, settings(), str(tmp_path)).items()
    assert found.shape == (RING, SMALL.shape.size)
    assert not np.allclose(found, saved(spark, learned, settings()).items())


def test_a_second_run_learns_the_same_and_other_tables_are_refused(spark: SparkSession, tmp_path):
    lake = ring_world.write_lake(tmp_path, valid=False)[0]
    with pytest.raises(UserError, match=r"model sequence of run date .* is not in the lake"):
        saved(spark, lake, settings())
    sequence.run(spark, lake, settings())  # without valid rows, some train rows are held out
    assert lake.read(spark, SEQUENCE_EXAMPLES).where("part = 'valid'").count() > 0
    first = lake.model_of_date("sequence")
    sequence.run(spark, lake, settings())
    assert lake.model_of_date("sequence").content_hash == first.content_hash
    other = settings()
    other.tune = TuneConfig(validation=Random(test=0.3))
    with pytest.raises(UserError, match="has learned from rows that would be held out now"):
        saved(spark, lake, other)
    ring_world.write_manifest(lake, ITEM_VECTORS, [], fingerprint="another")
    with pytest.raises(UserError, match="learned from another item_vectors than is there now; run again from sequence"):
        saved(spark, lake, settings())


def test_a_log_without_one_event_after_another_is_said(spark: SparkSession, tmp_path):
    lake = ring_world.write_lake(tmp_path, valid=True)[0]
    once = [(u, after(u, 0), 0, None, None, 1.0, None, "train") for u in range(USERS)]
    ring_world.put(lake, INTERACTIONS, [*once, (0, after(0, WALKED), 1, None, None, 1.0, None, "valid")])
    with pytest.raises(UserError, match="sequence: 0 users have a train event after another, too few for 1 ranks"):
        sequence.run(spark, lake, settings())
