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
from recspark.stages.sequence import HELD_OUT, MODEL, SequenceConfig, best_epoch, list_parts, saved
from recspark.stages.tune import TuneConfig
from recspark.tables import (
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    INTERACTIONS,
    ITEM_VECTORS,
    SEQUENCE_EXAMPLES,
    SEQUENCE_EXAMPLES_ALL,
    SEQUENCE_LOG,
)
from tests import ring_world
from tests.ring_world import RING, USERS, WALKED, after
from tests.stages import test_combine

pytestmark = pytest.mark.slow  # all of them together; begun early

NAMES = (MODEL, HELD_OUT)
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

    rows = [(i, [float(i), 1.0], 8, 1.0) for i in range(RING)]
    factors = spark.createDataFrame(rows, test_combine.FACTORS)
    ids = IdsAlone(spark, learned, settings(), learned.read(spark, INTERACTIONS), factors, str(tmp_path))
    assert ids.choice.texts == "none"
    assert ids.world.sides.sequences is not None
    assert learned.read(spark, COMBINED_ITEM_VECTORS).count() == len(ids.items().collect())


def test_without_texts_it_learns_the_same_examples_by_vectors_of_their_own(
    spark: SparkSession, learned: Lake, tmp_path
):
    tonight, held_out = sequence.sequences_of_ids(spark, learned, settings(), str(tmp_path))
    found = tonight.items()
    assert found.shape == (RING, SMALL.shape.size)
    assert not np.allclose(found, saved(spark, learned, settings()).items())
    assert (found == held_out.items()).all()


def test_a_second_run_learns_the_same_and_other_tables_are_refused(spark: SparkSession, tmp_path):
    lake = ring_world.write_lake(tmp_path, valid=False)[0]
    with pytest.raises(UserError, match=r"model sequence of run date .* is not in the lake"):
        saved(spark, lake, settings())
    sequence.run(spark, lake, settings())
    first = {name: lake.model_of_date(name).content_hash for name in NAMES}
    sequence.run(spark, lake, settings())
    assert {name: lake.model_of_date(name).content_hash for name in NAMES} == first
    other = settings()
    other.tune = TuneConfig(validation=Random(test=0.3))
    with pytest.raises(UserError, match="has learned from rows that would be held out now"):
        saved(spark, lake, other)
    ring_world.write_manifest(lake, ITEM_VECTORS, [], fingerprint="another")
    with pytest.raises(UserError, match="learned from another item_vectors than is there now; run again from sequence"):
        saved(spark, lake, settings())


def test_without_valid_rows_it_stops_by_some_of_train_and_learns_once_more_from_all(
    spark: SparkSession, learned: Lake, tmp_path
):
    assert len({learned.model_of_date(name).content_hash for name in NAMES}) == 1  # nothing to learn once more from
    assert not learned.has(SEQUENCE_EXAMPLES_ALL)
    lake = ring_world.write_lake(tmp_path, valid=False)[0]
    sequence.run(spark, lake, settings())

    def wanted(table, part: str) -> int:
        rows = lake.read(spark, table).where(f"part = '{part}'").collect()
        return sum(np.frombuffer(row.wanted, "<i4").sum() for row in rows)

    assert wanted(SEQUENCE_EXAMPLES, "valid") > 0
    assert wanted(SEQUENCE_EXAMPLES_ALL, "train") == USERS * (WALKED - 1)
    assert wanted(SEQUENCE_EXAMPLES_ALL, "valid") == 0
    assert wanted(SEQUENCE_EXAMPLES, "train") < USERS * (WALKED - 1)
    assert len({lake.model_of_date(name).content_hash for name in NAMES}) == 2
    best = best_epoch([row.asDict() for row in lake.read(spark, SEQUENCE_LOG).collect()])
    assert 0 < best <= SMALL.epochs


def test_the_best_epoch_is_the_first_of_the_lowest_loss_and_the_last_where_none_is_known():
    def rows(*losses: float | None) -> list[dict]:
        return [{"epoch": epoch, "valid_loss": loss} for epoch, loss in enumerate(losses)]

    assert best_epoch(rows(3.0, 2.0, 1.0, 1.0, 2.0)) == 2
    assert best_epoch(rows(None, None, None)) == 2


def test_a_log_without_one_event_after_another_is_said(spark: SparkSession, tmp_path):
    lake = ring_world.write_lake(tmp_path, valid=True)[0]
    once = [(u, after(u, 0), 0, None, None, 1.0, None, "train") for u in range(USERS)]
    ring_world.put(lake, INTERACTIONS, [*once, (0, after(0, WALKED), 1, None, None, 1.0, None, "valid")])
    with pytest.raises(UserError, match="sequence: 0 users have a train event after another, too few for 1 ranks"):
        sequence.run(spark, lake, settings())
