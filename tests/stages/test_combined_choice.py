"""What combine takes of what it tries: gains beyond their standard error, and nothing that only seems to help."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recspark.data.catalogue import write_catalogue
from recspark.errors import UserError
from recspark.retrieval.combination import Choice
from recspark.stages import combined_choice
from recspark.stages.combine import CombineConfig
from recspark.stages.combined_choice import asked_of, choose, crowd_of, paired_gain
from recspark.stages.combined_world import World

SIMILAR = SimpleNamespace(read=lambda: np.eye(2))
WORLD = SimpleNamespace(
    similar={"none": SIMILAR, "base": SIMILAR},
    sides=SimpleNamespace(sequences=object(), popularity=SimpleNamespace(half_lives=(None, 7.0))),
)


@pytest.fixture
def chosen_by(monkeypatch: pytest.MonkeyPatch):
    """Choose by what a function says each of its users has of a choice."""

    def chosen(ndcg, **given) -> combined_choice.Chosen:
        monkeypatch.setattr(combined_choice, "asked_of", lambda *_: ())
        monkeypatch.setattr(combined_choice, "ids_of", lambda _: np.arange(len(ndcg(Choice()))).astype(str))
        monkeypatch.setattr(combined_choice, "measured", lambda _, new, __: {c: ndcg(c) for c in new})
        return choose([(WORLD, None)], CombineConfig(**given), 42, "")

    return chosen


def test_what_all_gain_is_taken_and_what_one_of_many_gains_is_not(chosen_by):
    alike, one = np.full(20, 0.1), np.eye(20)[0] - 0.5 * np.eye(20)[1]

    def ndcg(choice: Choice) -> np.ndarray:
        ours = alike * (1 - abs(choice.share - 0.4)) + 0.01 * alike * (choice.texts == "base")
        return (
            ours + one * choice.sequence - alike * choice.popularity
        )  # the sequence model: one gains much, one loses some

    found = chosen_by(ndcg)
    assert found.choice == Choice(share=0.4, texts="base")
    assert {turn["turn"]: turn["taken"] for turn in found.turns} == {"share": True, "texts": True, "sequence": False}
    refused = next(turn for turn in found.turns if turn["turn"] == "sequence")
    assert refused["gain"] == pytest.approx(0.5 / 20)
    assert refused["standard_error"] == pytest.approx(one.std(ddof=1) / math.sqrt(20))
    assert max(row["ndcg"] for row in found.tried) > ndcg(found.choice).mean()  # what only seemed to help was tried


def test_where_nothing_helps_the_factors_stay_alone_and_so_they_do_for_one_user(chosen_by):
    assert chosen_by(lambda choice: np.full(5, 0.3)).choice == Choice()
    assert chosen_by(lambda choice: np.array([choice.share])).choice == Choice()


@pytest.mark.parametrize(
    ("seen", "again", "repeat"), [("filtered", "nothing", 0.0), ("chosen", "newest", 0.8), ("allowed", "newest", 0.8)]
)
def test_what_may_come_again_is_chosen_where_the_settings_let_it(chosen_by, seen: str, again: str, repeat: float):
    def ndcg(choice: Choice) -> np.ndarray:
        return np.full(9, (choice.again == "newest") * (1 - abs(choice.repeat - 0.8)))

    found = chosen_by(ndcg, seen=seen)
    assert (found.choice.again, found.choice.repeat) == (again, repeat)
    assert ("nothing" in {row["again"] for row in found.tried}) == (seen != "allowed")


def test_turns_go_on_until_none_is_taken(chosen_by):
    """What the first turn chooses is another once the last has had its say."""

    def ndcg(choice: Choice) -> np.ndarray:
        return np.full(9, 1 - abs(choice.share - (0.8 if choice.popularity else 0.3)) + choice.popularity)

    assert chosen_by(ndcg).choice == Choice(share=0.8, popularity=1.0)


def test_the_error_of_a_gain_is_that_of_its_mean_over_users_in_pairs():
    ours, theirs = np.array([0.5, 0.4, 0.9]), np.array([0.4, 0.4, 0.6])
    gain, error = paired_gain(ours, theirs, np.array(["a", "b", "c"]))
    gains = np.array([0.1, 0.0, 0.3])
    assert gain == pytest.approx(gains.mean())
    assert error == pytest.approx(math.sqrt(((gains - gains.mean()) ** 2).sum() / 2 / 3))


def test_to_ask_the_same_users_the_same_again_makes_no_gain_surer():
    draw = np.random.default_rng(0)
    ours, theirs, users = draw.random(30), draw.random(30), np.arange(30).astype(str)
    once = paired_gain(ours, theirs, users)
    assert paired_gain(np.tile(ours, 3), np.tile(theirs, 3), np.tile(users, 3)) == pytest.approx(once)
    assert paired_gain(ours, theirs, np.full(30, "a"))[1] == math.inf


@pytest.mark.parametrize(("worth", "taken"), [(0.5, True), (-0.05, False)])
def test_several_hold_outs_choose_together_and_the_sequence_model_by_those_that_have_it(
    monkeypatch: pytest.MonkeyPatch, worth: float, taken: bool
):
    """The first draw alone would take a share of .9, which is no merit of a sequence model; the others have none, and say nothing of it."""
    best, asked = {0: 0.9, 1: 0.3, 2: 0.3}, {}
    without = SimpleNamespace(**{**vars(WORLD), "sides": SimpleNamespace(**{**vars(WORLD.sides), "sequences": None})})
    worlds = [(SimpleNamespace(**vars(world), number=n), None) for n, world in enumerate((WORLD, without, without))]

    def measured(one, new, _):  # type: ignore[no-untyped-def]
        asked.setdefault(one.world.number, set()).update(new)
        share = {c: (1 - abs(c.share - best[one.world.number])) * (1 - c.popularity) for c in new}
        return {c: np.full(4, share[c] + worth * c.sequence * (c.share > 0)) for c in new}

    monkeypatch.setattr(combined_choice, "asked_of", lambda *_: ())
    monkeypatch.setattr(combined_choice, "ids_of", lambda _: np.arange(4).astype(str))
    monkeypatch.setattr(combined_choice, "measured", measured)
    found = choose(worlds, CombineConfig(), 42, "")
    turns = [(turn["turn"], turn["hold_outs"]) for turn in found.turns if turn["taken"]]
    assert turns == [("share", 3), ("sequence", 1)][: 1 + taken]
    tried = {(row["share"], row["sequence"]): row["hold_outs"] for row in found.tried}
    assert (tried[0.3, 0.0], tried[0.9, 1.0]) == (3, 1)
    assert any(choice.sequence for choice in asked[0])
    assert not any(choice.sequence for choice in asked[1] | asked[2])
    assert found.choice == (Choice(share=0.9, sequence=1.0) if taken else Choice(share=0.3))


def test_a_draw_that_asks_nobody_is_left_out_and_the_first_must_not_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(combined_choice, "asked_of", lambda world, *_: world.asks)
    monkeypatch.setattr(combined_choice, "ids_of", lambda _: np.arange(4).astype(str))
    monkeypatch.setattr(combined_choice, "measured", lambda _, new, __: {c: np.full(4, c.share) for c in new})
    some, none = (SimpleNamespace(**vars(WORLD), asks=asks) for asks in ((), None))
    found = choose([(some, None), (none, None)], CombineConfig(), 42, "")
    assert (found.choice.share, found.turns[0]["hold_outs"]) == (1.0, 1)
    with pytest.raises(UserError, match="nobody to choose on"):
        choose([(none, None), (some, None)], CombineConfig(), 42, "")


EVENTS = "user_id bigint, item_id bigint, order_key double, split string"


def test_users_are_drawn_among_those_who_can_be_asked(spark: SparkSession, tmp_path: Path):
    """Twenty want something; three of them had something before, one of these has no vector and one had only what is no longer sold."""
    items = spark.createDataFrame([(i, [1.0]) for i in range(4)], "item_id bigint, vector array<float>")
    users = spark.createDataFrame([(u, [1.0]) for u in range(20) if u != 7], "user_id bigint, vector array<float>")
    events = spark.createDataFrame([(6, 0, 0.0, "train"), (7, 0, 0.0, "train"), (8, 9, 0.0, "history")], EVENTS)
    wanted = spark.createDataFrame([(u, 1) for u in range(20)], "user_id bigint, item_id bigint")
    world = World(write_catalogue(items, str(tmp_path)), users, events, {}, None)
    denied = spark.createDataFrame([(3,), (2,), (99,)], "item_id bigint")
    asked = asked_of(world, wanted, CombineConfig(choose_users=1), 42, str(tmp_path), denied)
    (asked_user,) = asked.users.collect()
    assert (asked_user.user_id, asked_user.history, asked_user.wanted) == (6, [0], [1])
    assert asked.denied.tolist() == [2, 3]


def test_what_is_denied_nobody_gets_whatever_may_come_again():
    popularity = SimpleNamespace(half_lives=(None,), of=lambda _: np.array([3.0, 2.0, 1.0], np.float32))
    sides = SimpleNamespace(catalogue=SimpleNamespace(items=3), personal=lambda _: {}, popularity=popularity)
    users = pa.table({"user_id": [1], "history": [[1]], "wanted": [[2]]})
    seen = pa.table({"user_id": [1], "position": [1], "never": [False]})
    crowd = crowd_of(users, seen, sides, np.array([0]))
    assert {again: barred.tolist() for again, barred in crowd.barred.items()} == {
        "nothing": [[True, True, False]],
        "newest": [[True, False, False]],
        "all": [[True, False, False]],
    }
