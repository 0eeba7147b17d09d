"""Studies of an objective that a child can see: the nearer x is to 3, the better. No Spark."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from recspark.config import Settings
from recspark.errors import RunFailed, UserError
from recspark.tuning.space import FloatRange, IntRange
from recspark.tuning.study import Median, Never, Outcome, Plan, TrialRecord, best_of, go_on, open_study, records


class Section(Settings):
    x: float = 0.0
    n: int = Field(1, ge=1)


class Whole(Settings):
    a: Section = Section()


SPACE = {"a.x": FloatRange(low=-5, high=5), "a.n": IntRange(low=1, high=4)}


def plan(trials: int, identity: str = "one", pruner: Median | Never = Never()) -> Plan:  # noqa: B008
    return Plan("s", SPACE, Whole, {"a": {"x": 0.0, "n": 1}}, trials, 7, 3, pruner, None, identity)


def nearness(values: dict, on_epoch: object) -> Outcome:
    value = -abs(values["a.x"] - 3)
    return Outcome(value, value - 1, value + 1, 10)


def studied(path: Path, asked: Plan, objective=nearness) -> list[TrialRecord]:
    study = open_study(str(path / "study.journal"), asked)
    go_on(study, asked, objective, lambda record: None)
    return records(study)


def test_the_first_trial_is_the_deployments_own_and_a_later_one_is_better(tmp_path: Path):
    found = studied(tmp_path, plan(12))
    assert len(found) == 12
    assert found[0].own
    assert found[0].settings == {"a.n": 1, "a.x": 0.0}
    assert found[0].value == -3
    best = best_of(found)
    assert best is not None
    assert best.value == max(r.value for r in found)
    assert best.value > -1


def test_two_studies_of_one_seed_suggest_the_same(tmp_path: Path):
    one, other = studied(tmp_path / "one", plan(8)), studied(tmp_path / "other", plan(8))
    assert [r.params for r in one] == [r.params for r in other]
    assert len({str(r.params) for r in one}) == 8


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.tuning.test_study import nearness, plan, studied
calls = 0
def dies(values, on_epoch):
    global calls
    calls += 1
    if calls == 5:
        os._exit(9)
    return nearness(values, on_epoch)
studied(Path({folder!r}), plan(8), dies)
"""


def test_a_killed_study_goes_on_and_suggests_what_an_undisturbed_one_does(tmp_path: Path):
    repository = str(Path(__file__).parents[2])
    code = KILLED.format(repository=repository, folder=str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": repository})
    assert done.returncode == 9
    found = studied(tmp_path / "killed", plan(8))
    assert [r.state for r in found].count("interrupted") == 1
    assert found[4].state == "interrupted"
    assert found[5].params == found[4].params
    undisturbed = studied(tmp_path / "undisturbed", plan(8))
    assert [r.params for r in found if r.state != "interrupted"] == [r.params for r in undisturbed]


def test_more_trials_go_on_from_those_there_are(tmp_path: Path):
    first = studied(tmp_path, plan(3))
    assert studied(tmp_path, plan(5))[:3] == first


def test_another_space_does_not_go_on_with_the_same_file(tmp_path: Path):
    studied(tmp_path, plan(1))
    with pytest.raises(UserError, match=r"begun with another space.*set tune\.study to another name"):
        studied(tmp_path, plan(1, identity="another"))


def test_a_trial_that_dies_is_recorded_and_the_study_goes_on(tmp_path: Path):
    def dies(values: dict, on_epoch: object) -> Outcome:
        if values["a.x"] != 0:
            raise RunFailed(f"the loss is not finite with {values['a.x']}")
        return nearness(values, on_epoch)

    found = studied(tmp_path, plan(4), dies)
    assert [r.state for r in found] == ["complete", "failed", "failed", "failed"]
    assert "the loss is not finite" in str(found[1].message)
    assert best_of(found) == found[0]


def test_the_same_failure_twice_at_the_start_ends_the_study(tmp_path: Path):
    def dies(values: dict, on_epoch: object) -> Outcome:
        raise UserError(f"the table is missing, after {abs(values['a.x']):.0f} s")

    with pytest.raises(UserError, match="the table is missing"):
        studied(tmp_path, plan(9), dies)
    assert len(records(open_study(str(tmp_path / "study.journal"), plan(9)))) == 2


def test_a_trial_whose_losses_are_worse_than_the_median_is_pruned_after_the_warm_up(tmp_path: Path):
    told = []

    def trains(values: dict, on_epoch) -> Outcome:
        number = len(told)
        told.append(0)
        for epoch in range(4):
            told[-1] = epoch
            on_epoch(epoch, 9.0 if number == 3 else 1.0)
        return nearness(values, on_epoch)

    found = studied(tmp_path, plan(5, pruner=Median(startup_trials=2, warmup_epochs=2)), trains)
    assert [r.state for r in found] == ["complete", "complete", "complete", "pruned", "complete"]
    assert told == [3, 3, 3, 2, 3]
    assert found[3].value is None
    assert found[3].losses == [9.0, 9.0, 9.0]
    assert found[3].message == "after epoch 2, with a held-out loss of 9"
