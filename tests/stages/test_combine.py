"""combine over the ring: what its parts weigh, and that one inner product is the weighted sum of both models' scores."""

import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recspark.data.catalogue import write_catalogue
from recspark.data.splits import Provided
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.item_based import ease, text_gram, word_weights
from recspark.retrieval.combination import Choice
from recspark.stages import combine, new_users
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.combine import CombineConfig
from recspark.stages.combined_alone import IdsAlone
from recspark.stages.combined_world import night_world
from recspark.stages.embed import EmbedConfig
from recspark.stages.factorize import FactorizeConfig
from recspark.stages.line_up import Night
from recspark.stages.list_vectors import ListVectors, list_vectors
from recspark.stages.tune import TuneConfig
from recspark.tables import (
    BASE_TEXT_VECTORS,
    COMBINED_ITEM_VECTORS,
    COMBINED_USER_VECTORS,
    INTERACTIONS,
    ITEM_VECTORS,
    TEXT_VECTORS,
    USER_VECTORS,
)
from tests import ring_world

pytestmark = pytest.mark.slow  # all of them together; begun early

FACTORS = "item_id bigint, vector array<float>, interactions bigint, exposure float"


def settings(**given) -> SimpleNamespace:
    return SimpleNamespace(
        seed=42,
        sequence=None,
        combine=CombineConfig(**given),
        candidates=CandidatesConfig(top_k=4),
        embed=EmbedConfig(blocks=2),
        factorize=FactorizeConfig(embedding_size=2, iterations=2, blocks=2, exposure=False),
        preprocess=SimpleNamespace(split=Provided()),
        tune=TuneConfig(),
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return ring_world.write_lake(tmp_path, valid=True)[0]


@pytest.fixture(scope="module")
def combined(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The ring with valid rows, combined by default."""
    lake = ring_world.write_lake(tmp_path_factory.mktemp("combined"), valid=True)[0]
    combine.run(spark, lake, settings())
    return lake


def vectors(spark: SparkSession, lake: Lake) -> tuple[dict, dict]:
    users, items = (lake.read(spark, t).collect() for t in (COMBINED_USER_VECTORS, COMBINED_ITEM_VECTORS))
    return {r.user_id: np.array(r.vector) for r in users}, {r.item_id: np.array(r.vector) for r in items}


def test_the_weights_are_chosen_on_valid_rows_and_one_product_is_the_weighted_sum(spark: SparkSession, combined: Lake):
    manifest = combined.manifest(COMBINED_USER_VECTORS)
    chosen, tried = manifest["choice"], {json.dumps(row): row["ndcg"] for row in manifest["tried"]}
    assert len(tried) >= 11 * (5 + 2) + 10  # shares with decays and texts, and shares of the popularity
    assert chosen["share"] >= 0.5  # the ring is in who had what together; the factors are random numbers
    (reached,) = (row["ndcg"] for row in manifest["tried"] if chosen.items() <= row.items())
    (before,) = (row["ndcg"] for row in manifest["tried"] if Choice().described().items() <= row.items())
    assert before + sum(turn["gain"] for turn in manifest["turns"] if turn["taken"]) == pytest.approx(reached)
    assert max(tried.values()) - reached < 0.1

    users, items = vectors(spark, combined)
    size = len(items)
    assert all(len(v) == 3 + size for v in (*users.values(), *items.values()))
    had = np.zeros((ring_world.USERS, size))
    for u, i, *_, split in ring_world.events(valid=True):
        if split == "train":
            had[u, i] = 1
    held_out = np.bincount([i for _, i, *_, split in ring_world.events(valid=True) if split == "valid"], minlength=size)
    if chosen["texts"] == "none":
        similar = ease(had.T @ had, 8.5)
        np.testing.assert_allclose(np.array([items[i][3:] for i in range(size)]).T, similar, atol=1e-6)
    factors = np.array([items[i][:2] for i in range(size)])
    for u in (0, 5):
        scores = np.array([users[u] @ items[i] for i in range(size)])
        left = factors @ users[u][:2]
        popular = np.array([items[i][2] for i in range(size)]) * users[u][2]
        right = np.array([items[i][3:] for i in range(size)]) @ users[u][3:]
        np.testing.assert_allclose(scores, left + popular + right, rtol=1e-5)
        personal = 1 - chosen["popularity"]
        assert right.std() == pytest.approx(personal * chosen["share"], rel=1e-3)
        assert left.std() == pytest.approx(personal * (1 - chosen["share"]), rel=1e-3, abs=1e-6)
        assert users[u][2] == pytest.approx(0)  # on the ring, all are met as often
    assert [items[i][2] for i in range(size)] == ((had > 0).sum(0) + held_out).tolist()
    assert (users[ring_world.NOBODY][3:] == 0).all()


def test_the_texts_of_ease_are_those_of_the_encoder_it_names(spark: SparkSession, combined: Lake):
    similar = night_world(spark, combined, settings())[0].similar
    had = np.zeros((ring_world.USERS, ring_world.RING))
    for u, i, *_, split in ring_world.events(valid=True):
        if split == "train":
            had[u, i] = 1
    tables = {"fine_tuned": TEXT_VECTORS, "base": BASE_TEXT_VECTORS}
    assert similar.keys() == {"none", *tables}
    for name, table in tables.items():
        vector = {r.text_hash: r.vector for r in combined.read(spark, table).collect()}
        vectors = np.array([vector[f"text-{i}"] for i in range(ring_world.RING)], np.float32)
        expected = ease(had.T @ had, 8.5, text_gram(vectors, word_weights([""] * len(vectors))), 1.0)
        np.testing.assert_allclose(similar[name].read(), expected, atol=1e-6)


def test_without_texts_it_is_the_same_model_over_other_factors(spark: SparkSession, combined: Lake, tmp_path: Path):
    own = {i: [float(i), 1.0] for i in range(ring_world.RING)}
    factors = spark.createDataFrame([(*row, 8, 1.0) for row in own.items()], FACTORS)
    log = combined.read(spark, INTERACTIONS)
    alone = IdsAlone(spark, combined, settings(), log, factors, str(tmp_path))
    assert alone.world.similar.keys() == {"none"}
    assert alone.choice.share >= 0.5  # chosen for itself: these factors say nothing
    items = {r.item_id: np.array(r.vector) for r in alone.items().collect()}
    folded = spark.createDataFrame([(0, [1.0, 0.0])], "user_id bigint, vector array<float>")
    (user,) = alone.users(folded).collect()
    had = [ring_world.after(0, n) for n in range(ring_world.WALKED)]
    assert set(np.flatnonzero(user.vector[3:])) == {
        *had,
        ring_world.after(0, ring_world.WALKED),
    }  # the valid event is folded in
    assert all(list(vector[:2]) == own[i] for i, vector in items.items())
    had_by_all = np.array([items[i][3:] for i in range(ring_world.RING)])
    assert (np.diag(had_by_all) == 0).all()


def test_a_second_run_writes_the_same_and_other_inputs_are_refused(spark: SparkSession, combined: Lake):
    users, items = vectors(spark, combined)
    combine.run(spark, combined, settings())
    for first, second in zip((users, items), vectors(spark, combined), strict=True):
        assert all((first[key] == second[key]).all() for key in first)
    assert not list_vectors(spark, combined, settings()).repeats

    place = Path(combined.root, combined.partition(COMBINED_USER_VECTORS)) / "_manifest.json"
    written = place.read_text()
    first = Path(combined.root, combined.partition(COMBINED_ITEM_VECTORS)) / "_manifest.json"
    as_it_was = first.read_text()
    first.write_text(json.dumps({**json.loads(as_it_was), "choice": {"share": 0.3, "repeat": None}}))
    with pytest.raises(UserError, match="made by another release of recspark; run again from combine"):
        list_vectors(spark, combined, settings())
    first.write_text(as_it_was)
    place.write_text(json.dumps({**json.loads(written), "combination": "of a run that was cut short"}))
    with pytest.raises(UserError, match="of different runs, one of them cut short; run again from combine"):
        list_vectors(spark, combined, settings())
    place.write_text(written)

    ring_world.write_manifest(combined, ITEM_VECTORS, [], fingerprint="another")
    with pytest.raises(UserError, match="made from another item_vectors than is there now; run again from combine"):
        list_vectors(spark, combined, settings())


def test_without_valid_rows_some_of_train_is_held_out_and_learned_around(spark: SparkSession, tmp_path: Path):
    lake = ring_world.write_lake(tmp_path, valid=False)[0]
    combine.run(spark, lake, settings(hold_outs=2))
    about = lake.manifest(COMBINED_USER_VECTORS)
    assert about["choice"]["share"] >= 0.5
    assert {row["hold_outs"] for row in about["tried"]} == {2}
    assert len(vectors(spark, lake)[0]) == ring_world.USERS + 1


def test_who_may_get_again_what_he_had_gets_it_where_that_is_what_comes(spark: SparkSession, lake: Lake):
    newest = ring_world.WALKED - 1
    again = ring_world.events(valid=False)
    again += [(u, ring_world.after(u, newest), 9, None, None, 1.0, None, "valid") for u in range(ring_world.USERS)]
    ring_world.put(lake, INTERACTIONS, again)
    combine.run(spark, lake, settings(seen="chosen"))
    listed = list_vectors(spark, lake, settings())
    assert listed.again == "newest"
    before = {(r.user_id, r.item_id) for r in listed.seen(lake.read(spark, INTERACTIONS)).collect()}
    users, items = vectors(spark, lake)

    def first(user: int) -> int:
        return max((i for i in items if (user, i) not in before), key=lambda i: users[user] @ items[i])

    assert sum(first(u) == ring_world.after(u, newest) for u in range(ring_world.USERS)) > 0.8 * ring_world.USERS


def test_where_all_take_what_is_new_popularity_by_its_half_life_is_chosen(spark: SparkSession, lake: Lake):
    """Long ago all took item 0, then item 1; what is held out are users without either who take item 1."""
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def row(user: int, item: int, when: int, split: str) -> tuple:
        return (user, item, when, day + datetime.timedelta(days=when), None, 1.0, None, split)

    log = [row(u, 0, 0, "train") for u in range(12)] + [row(u, 1, 90, "train") for u in range(12, 18)]
    log += [row(u, 2 + u % 10, 95 + u % 5, "train") for u in range(18, 24)] + [
        row(u, 1, 100, "valid") for u in range(18, 24)
    ]
    ring_world.put(lake, INTERACTIONS, log)
    combine.run(spark, lake, settings())
    manifest = lake.manifest(COMBINED_USER_VECTORS)
    chosen = manifest["choice"]
    assert chosen["popularity"] > 0
    assert chosen["half_life_days"] is not None
    best = {
        h: max(r["ndcg"] for r in manifest["tried"] if r["popularity"] == 1 and r["half_life_days"] == h)
        for h in (None, 50)
    }
    assert best[50] > best[None]
    listed = list_vectors(spark, lake, settings())
    assert listed.half_life_days == chosen["half_life_days"]
    popular = {r.item_id: r.vector[0] for r in listed.popularity().collect()}
    age = (100 - 90) / listed.half_life_days
    assert popular[1] == pytest.approx(6 * 2**-age + 6, rel=1e-5)
    users, items = vectors(spark, lake)
    assert max((i for i in items if i != 2 + 20 % 10), key=lambda i: users[20] @ items[i]) == 1


def test_a_catalogue_that_does_not_fit_is_said_with_what_it_would_need():
    with pytest.raises(
        UserError, match=r"EASE over 50,000 items needs 55.9 GiB on the driver, and combine.memory_gib is 4"
    ):
        combine.require_memory(50_000, CombineConfig())


def test_nobody_to_choose_on_is_said(spark: SparkSession, lake: Lake):
    one = [(0, 0, 0, None, None, 1.0, None, "train"), (0, 0, 1, None, None, 1.0, None, "valid")]
    ring_world.put(lake, INTERACTIONS, one)
    with pytest.raises(UserError, match="combine: nobody to choose on"):
        combine.run(spark, lake, settings())


def test_a_users_history_folded_in_anew_gives_the_vector_that_combine_gave(
    spark: SparkSession, combined: Lake, tmp_path: Path
):
    """As if user 5 were new: what items say of each other comes from the items' combined vectors."""
    full = combined.read(spark, COMBINED_ITEM_VECTORS).select("item_id", F.col("vector").alias("full"))
    log, items = combined.read(spark, INTERACTIONS), combined.read(spark, ITEM_VECTORS)
    users, lists = combined.read(spark, USER_VECTORS), combined.read(spark, COMBINED_USER_VECTORS)
    listed = ListVectors(full, lists, "nothing", settings().seed)
    night = Night(spark, combined, settings(), log, items, users, listed, None, str(tmp_path))
    folded = users.where("user_id = 5").select("user_id", "vector")
    (made,) = new_users.combined(night, write_catalogue(full, str(tmp_path)), log, folded, str(tmp_path)).collect()
    np.testing.assert_array_equal(made.vector, vectors(spark, combined)[0][5])
