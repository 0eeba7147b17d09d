"""tune over a lake of twenty users and ten items: users and items of one parity belong together."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from recspark import config
from recspark.data.splits import LeaveLastOut, Provided, Random, Temporal
from recspark.errors import RunFailed, UserError
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig
from recspark.models.objectives import InfoNce
from recspark.pipeline import Deployment
from recspark.stages import factorize, finetune, trials, tune
from recspark.stages.provenance import TOKENIZED_BY, tokenized_by
from recspark.stages.validation import hold_out_interactions, validation_interactions
from recspark.tables import INTERACTIONS, ITEMS, TRIALS, USERS
from tests.vector_world import Event, table_frame

pytestmark = pytest.mark.slow  # all of them together; begun early

USER_IDS, ITEM_IDS = range(20), range(10)
Splits = dict[tuple[int, int], str]  # of (user, item)


def events() -> list[Event]:
    """Each user has four of the five items of its parity: two of them train, then one valid, one test."""
    split = ("train", "train", "valid", "test")
    return [(u, (u % 2 + 2 * (u // 2 + n)) % 10, split[n]) for n in range(4) for u in USER_IDS]


def interactions(spark: SparkSession, rows: list[Event]) -> Any:
    frame = [(u, i, order, None, None, 1.0, None, split) for order, (u, i, split) in enumerate(rows)]
    return table_frame(spark, INTERACTIONS, frame)


def splits(spark: SparkSession, rows: list[Event], split: Any, validation: Any = None, **drawn: int) -> Splits:
    """In the lake of the trials, or with `draw`, where combine chooses."""
    settings: Any = SimpleNamespace(
        seed=42, preprocess=SimpleNamespace(split=split), tune=SimpleNamespace(validation=validation)
    )
    relabel = hold_out_interactions if drawn else validation_interactions
    made = relabel(interactions(spark, rows), settings, **drawn).collect()
    assert len({(r.user_id, r.item_id) for r in made}) == len(made)
    return {(r.user_id, r.item_id): r.split for r in made}


# ---- the lake of trials


def test_valid_becomes_test_and_no_test_row_is_left(spark: SparkSession):
    found = splits(spark, events(), Temporal(valid=0.1))
    want = {(u, i): "test" if s == "valid" else s for u, i, s in events() if s != "test"}
    assert found == want
    assert len(found) == 60


def test_without_valid_rows_the_last_fifth_of_the_training_time_is_the_test(spark: SparkSession):
    rows = [(u, i, "train") for u, i, s in events() if s != "test"] + [(0, 99, "test"), (1, 98, "masked")]
    found = splits(spark, rows, Temporal(test=0.2))
    assert [found[u, i] for u, i, s in rows[:48]] == ["train"] * 48
    assert [found[u, i] for u, i, s in rows[48:60]] == ["test"] * 12
    assert (0, 99) not in found
    assert found[1, 98] == "masked"


def test_combine_holds_out_half_as_much_again_and_again_and_what_is_set_as_it_is_set(spark: SparkSession):
    rows = [(u, i, "train") for u, i, s in events() if s != "test"]
    first, second = (splits(spark, rows, Provided(), draw=draw) for draw in (0, 1))
    assert (
        first
        == splits(spark, rows, Random(test=0.2), draw=0)
        == splits(spark, rows, Provided(), Random(test=0.1), draw=0)
    )
    held_out = {pair for pair, split in splits(spark, rows, Provided()).items() if split == "test"}
    assert {pair for pair, split in first.items() if split == "test"} < held_out
    assert first != second
    assert second == splits(spark, rows, Provided(), draw=1)
    whole = splits(spark, rows, Provided(), Random(test=0.2))
    assert splits(spark, rows, Provided(), Random(test=0.2), draw=0) == whole
    last = LeaveLastOut()
    assert splits(spark, rows, last, draw=0) == splits(spark, rows, last)


def test_without_valid_rows_a_given_split_is_drawn_by_hash_and_a_set_one_as_it_is_set(spark: SparkSession):
    rows = [(u, i, "train") for u, i, s in events() if s != "test"]
    by_hash = splits(spark, rows, Provided())
    assert 3 <= list(by_hash.values()).count("test") <= 24  # 12 are to be expected of 60
    assert by_hash == splits(spark, rows, Random(test=0.2))
    last = splits(spark, rows, Provided(), LeaveLastOut())
    assert [last[u, i] for u, i, s in events() if s == "valid"] == ["test"] * 20


def test_history_stays_with_those_who_take_part_only(spark: SparkSession):
    rows = [*events(), (0, 50, "history"), (77, 50, "history"), (77, 51, "test")]
    found = splits(spark, rows, Provided())
    assert found[0, 50] == "history"
    assert not any(user == 77 for user, _ in found)


def test_items_are_hidden_anew_so_that_validation_has_cold_ones(spark: SparkSession):
    found = splits(spark, events(), Temporal(valid=0.1, cold_item_fraction=0.5))
    cold = {i for (_, i), s in found.items() if s == "masked"}
    assert cold
    assert not any(i in cold for (_, i), s in found.items() if s == "train")
    assert any(i in cold for (_, i), s in found.items() if s == "test")


# ---- whole studies


@pytest.fixture
def night(spark: SparkSession, lake: Lake, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> "Night":
    monkeypatch.setenv("TUNE_TEST_ENCODER", str(tiny_encoder))
    return Night(spark, lake, tiny_encoder)


class Night:
    """A lake, to be filled as preprocess does, and its deployment, whose encoder's path comes from the environment."""

    def __init__(self, spark: SparkSession, lake: Lake, encoder: Path):
        self.spark, self.lake, self.file, self.encoder = spark, lake, Path(lake.root).parent / "night.yaml", encoder

    def preprocessed(self) -> None:
        """Fill the lake."""
        spark, lake, settings = self.spark, self.lake, EncoderConfig(path=str(self.encoder), max_length=8)
        items = [(i, f"film {i}", "", f"hash-{i}", [2, 5 + i % 2, 7 + i, 3], {}) for i in ITEM_IDS]
        lake.write(table_frame(spark, ITEMS, items), ITEMS, **{TOKENIZED_BY: tokenized_by(settings)})
        lake.write(table_frame(spark, USERS, [(u, 3, None) for u in USER_IDS]), USERS)
        lake.write(interactions(spark, events()), INTERACTIONS)

    def deployment(self, space: dict[str, Any], **more: Any) -> Deployment:
        raw = {
            "lake": self.lake.root,
            "encoder": {"path": "${TUNE_TEST_ENCODER}", "max_length": 8},
            "preprocess": {
                "interactions": {"path": "none", "columns": {"timestamp": "t"}},
                "items": {"path": "none", "text": "{title}"},
            },
            "factorize": {"embedding_size": 4, "iterations": 1, "blocks": 1, "exposure": False},
            "finetune": {
                "adaptation": {"kind": "frozen"},
                "epochs": 2,
                "batch_size": 4,
                "launcher": "local",
                "num_processes": 1,
                "reader": "arrow",
                "validation_fraction": 0.3,
            },
            "embed": {"blocks": 1},
            "candidates": {"top_k": 4},
            "evaluate": {"replicates": 100},
            "tune": {"space": space, "metric": {"k": 3}, "study": "one", **more},
        }
        self.file.write_text(yaml.safe_dump(raw))
        made = config.load(self.file, Deployment)
        self.lake.facts = {"settings": config.dump(made, self.file)}
        return made

    def run(self, space: dict[str, Any], **more: Any) -> list[Any]:
        tune.run(self.spark, self.lake, self.deployment(space, **more))
        return self.lake.read(self.spark, TRIALS).orderBy("number").collect()


RATE = {"finetune.head_learning_rate": {"kind": "float", "low": 0.001, "high": 0.1, "log": True}}


def test_a_study_of_the_nights_own_stages(night: Night, monkeypatch: pytest.MonkeyPatch):
    night.preprocessed()
    ran = []
    for stage in (factorize, finetune):
        monkeypatch.setattr(stage, "run", spied(stage, ran))
    own, other = night.run(RATE, trials=2)
    assert ran == ["factorize", "finetune", "finetune"]
    assert (own.number, own.own, own.state, own.users) == (0, True, "complete", 20)
    assert (other.number, other.own, other.state) == (1, False, "complete")
    assert 0 <= own.value <= 1
    assert len(own.losses) == len(other.losses) == 3
    assert own.losses[0] == other.losses[0]  # before the first step
    assert own.losses[2] != other.losses[2]

    folder = Path(night.lake.path("tuning/one"))
    assert not (folder / "lake").exists()
    text = (folder / "best.yaml").read_text()
    best = config.load(folder / "best.yaml", Deployment)
    chosen = max((own, other), key=lambda r: (r.value, -r.number))
    assert best.finetune.head_learning_rate == float(chosen.params["finetune.head_learning_rate"])
    assert best.factorize == night.deployment({}).factorize
    assert "${TUNE_TEST_ENCODER}" in text
    assert "tiny" not in text.split("preprocess:")[0].replace("TUNE_TEST_ENCODER", "")
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "finetune.head_learning_rate" in page


def spied(stage: Any, ran: list[str]) -> Any:
    run, name = stage.run, trials.name_of(stage)

    def told(*arguments: Any, **more: Any) -> None:
        ran.append(name)
        run(*arguments, **more)

    return told


def stubbed(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """`act(settings)` in the place of a trial's stages."""
    monkeypatch.setattr(Lake, "manifest", lambda *_: {"fingerprint": "rows"})
    monkeypatch.setattr(tune, "make_trial_lake", lambda *_: None)
    monkeypatch.setattr(tune, "run_stages", lambda spark, lake, settings, *_: act(settings))
    monkeypatch.setattr(Lake, "read", lambda *_: None)
    monkeypatch.setattr(tune, "outcome_of", lambda *_: tune.Outcome(0.5, 0.4, 0.6, 20))


def test_a_trial_that_dies_is_recorded_with_its_message(night: Night, monkeypatch: pytest.MonkeyPatch):
    deployment = night.deployment(RATE, trials=3)
    with monkeypatch.context() as patch:
        stubbed(patch, fails_above(0.001))
        tune.run(night.spark, night.lake, deployment)
    found = night.lake.read(night.spark, TRIALS).orderBy("number").collect()
    assert [r.state for r in found] == ["complete", "failed", "failed"]
    assert found[1].message == "the loss is not finite at epoch 1"


def fails_above(rate: float) -> Any:
    def act(settings: Deployment) -> None:
        if settings.finetune.head_learning_rate > rate:
            raise RunFailed("the loss is not finite at epoch 1")

    return act


def test_a_study_none_of_whose_trials_ends_says_why(night: Night, monkeypatch: pytest.MonkeyPatch):
    stubbed(monkeypatch, fails_above(0.0))
    with pytest.raises(RunFailed, match="the loss is not finite at epoch 1"):
        tune.run(night.spark, night.lake, night.deployment(RATE, trials=1))


def test_a_missing_table_is_said_before_the_first_trial(night: Night):
    with pytest.raises(UserError, match="table interactions of run date 2026-01-02 is not in the lake"):
        night.run(RATE)


def test_losses_that_cannot_be_compared_prune_nothing(night: Night):
    assert tune.why_not_prune(night.deployment(RATE)) is None
    weight = {"factorize.unobserved_weight": {"kind": "float", "low": 0.1, "high": 0.2}}
    assert "factorize.unobserved_weight changes the held-out loss" in str(tune.why_not_prune(night.deployment(weight)))
    size = night.deployment({"finetune.batch_size": {"kind": "choice", "of": [8, 16]}})
    assert tune.why_not_prune(size) is None
    by_pair = size.finetune.model_copy(update={"objective": InfoNce()})
    told = tune.why_not_prune(size.model_copy(update={"finetune": by_pair}))
    assert "finetune.batch_size changes the held-out loss" in str(told)


def test_an_empty_space_is_a_mistake(night: Night):
    with pytest.raises(UserError, match=r"tune\.space is empty"):
        night.run({})
