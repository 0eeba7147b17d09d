"""The study: which settings are tried next, what became of each trial, kept in a file that a killed run goes on from.

Optuna's tree-structured Parzen estimator suggests (Bergstra et al. 2011). It is seeded anew for each trial, by the seed and the number of
trials that count, so that a study that was killed suggests what an undisturbed one would have.
"""

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from recspark.config import Settings
from recspark.errors import RunFailed, UserError
from recspark.tuning.space import Raw, Space, own_values, suggest

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial, Trial

OnEpoch = Callable[[int, float], None]

log = logging.getLogger("recspark")


class Pruned(Exception):
    """Ends a trial that does worse, epoch by epoch, than those before it."""


class Median(Settings):
    """A trial ends whose held-out loss so far is worse than the median of the trials before it at the same epoch."""

    kind: Literal["median"] = "median"
    startup_trials: int = Field(4, ge=1, description="trials that are never pruned, to compare with")
    warmup_epochs: int = Field(1, ge=0, description="epochs that a trial has before it may be pruned")

    def make(self) -> "BasePruner":
        from optuna.pruners import MedianPruner

        return MedianPruner(self.startup_trials, self.warmup_epochs)


class Never(Settings):
    """Every trial is trained to its end."""

    kind: Literal["never"] = "never"

    def make(self) -> "BasePruner":
        from optuna.pruners import NopPruner

        return NopPruner()


Pruner = Annotated[Median | Never, Field(discriminator="kind")]


@dataclass(frozen=True)
class Plan:
    """What is searched, from where, and for how long. identity: what a study must have been begun with to be gone on with."""

    name: str
    space: Space
    model: type[BaseModel]
    own: Raw  # the deployment's settings
    trials: int
    seed: int
    startup_trials: int
    pruner: Pruner
    minutes: float | None
    identity: str


@dataclass(frozen=True)
class Outcome:
    """What a trial's metric came to, with its interval."""

    value: float
    low: float | None
    high: float | None
    users: int


@dataclass(frozen=True)
class TrialRecord:
    """What became of a trial. params: path to value as JSON, of what differs from or was searched beside the deployment's own.

    state: complete, pruned, failed or interrupted (by a kill; its settings were tried again). losses: held out, by epoch.
    """

    number: int
    state: str
    own: bool
    params: dict[str, str]
    value: float | None
    low: float | None
    high: float | None
    users: int | None
    losses: list[float]
    seconds: float | None
    message: str | None
    settings: Raw = field(default_factory=dict)


Objective = Callable[[Raw, OnEpoch], Outcome]  # (values by path, whom to tell of each epoch's held-out loss)


def open_study(path: str, plan: Plan) -> "optuna.Study":
    """The study in the file, or a new one whose first trial is the deployment's own settings.

    A trial that a killed run left is marked, and its settings are queued again. Raises UserError if the file's study was begun with
    other settings, or optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError(
            f"tune needs optuna, which is not here ({error}); install recspark's extra tune (pip install 'recspark-….whl[tune]')"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(path))
    study = optuna.create_study(
        study_name=plan.name, storage=storage, direction="maximize", pruner=plan.pruner.make(), load_if_exists=True
    )
    if study.user_attrs.setdefault("identity", plan.identity) != plan.identity:
        raise UserError(
            f"the study {plan.name} in {path} was begun with another space, metric, seed, deployment or preprocessed lake; "
            "set tune.study to another name, or remove its folder"
        )
    study.set_user_attr("identity", plan.identity)
    if not study.trials:
        study.enqueue_trial(own_values(plan.space, plan.model, plan.own), user_attrs={"own": True})
    retry_interrupted(study, plan)
    return study


def retry_interrupted(study: "optuna.Study", plan: Plan) -> None:
    """Mark what a killed run left running, and queue the same settings again."""
    from optuna.trial import Trial, TrialState

    for left in study.get_trials(states=(TrialState.RUNNING,)):
        if left.user_attrs.get("own"):
            study.enqueue_trial(own_values(plan.space, plan.model, plan.own), user_attrs={"own": True})
        else:
            study.enqueue_trial(left.params)
        Trial(study, left._trial_id).set_user_attr("interrupted", True)
        study.tell(left.number, state=TrialState.FAIL)
        log.info("  trial %d was interrupted; its settings are tried again", left.number)


def counted(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials that are over, those left out that a kill interrupted."""
    return [t for t in study.trials if t.state.is_finished() and not t.user_attrs.get("interrupted")]


def go_on(study: "optuna.Study", plan: Plan, objective: Objective, after: Callable[[TrialRecord], None]) -> None:
    """Try settings until the plan's trials, or its time, are used up. after: called when a trial is over.

    A trial that fails is recorded, and the study goes on; the error is raised if all trials so far have failed and the last two
    say the same but for numbers: it would hit every one.
    """
    from optuna.samplers import TPESampler

    began = time.time()
    while (done := len(counted(study))) < plan.trials:
        if plan.minutes is not None and time.time() - began > 60 * plan.minutes:
            log.info("  tune.timeout_minutes is over after %d of %d trials; run again to go on", done, plan.trials)
            return
        study.sampler = TPESampler(n_startup_trials=plan.startup_trials, seed=seed_of(plan.seed, done))
        trial = study.ask()
        error = run_trial(study, trial, plan, objective)
        after(records(study)[trial.number])
        if error is not None and hits_all(records(study)):
            raise error


def seed_of(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def run_trial(study: "optuna.Study", trial: "Trial", plan: Plan, objective: Objective) -> Exception | None:
    """One trial to its end, whatever that is, recorded; returns what failed it."""
    from optuna.trial import TrialState

    own = own_values(plan.space, plan.model, plan.own) if trial.user_attrs.get("own") else None
    values = suggest(trial, plan.space, plan.model, plan.own, list(own) if own is not None else None)
    trial.set_user_attr("values", json.dumps(values))

    def on_epoch(epoch: int, loss: float) -> None:
        trial.report(-loss, epoch)
        if trial.should_prune():
            raise Pruned(f"after epoch {epoch}, with a held-out loss of {loss:.5g}")

    began, error = time.time(), None
    facts: dict[str, Any] = {}
    value, state = None, TrialState.FAIL
    try:
        outcome = objective(values, on_epoch)
        facts, value, state = {**vars(outcome)}, outcome.value, TrialState.COMPLETE
    except Pruned as pruned:
        facts, state = {"message": str(pruned)}, TrialState.PRUNED
    except (UserError, RunFailed) as failed:
        facts, error = {"message": str(failed)}, failed
    for name, fact in {**facts, "seconds": round(time.time() - began, 3)}.items():
        trial.set_user_attr(name, fact)
    study.tell(trial, value, state)
    return error


def hits_all(found: Sequence[TrialRecord]) -> bool:
    """Whether nothing but failures came out, and the last two are one and the same but for numbers."""
    over = [r for r in found if r.state != "interrupted"]
    if len(over) < 2 or any(r.state != "failed" for r in over):
        return False
    last, before = ("".join(c for c in r.message or "" if not c.isdigit()) for r in (over[-1], over[-2]))
    return last == before


def records(study: "optuna.Study") -> list[TrialRecord]:
    """What became of every trial that is over, by number."""
    return [record_of(t) for t in study.trials if t.state.is_finished()]


def record_of(trial: "FrozenTrial") -> TrialRecord:
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    about, values = trial.user_attrs, json.loads(trial.user_attrs.get("values", "{}"))
    return TrialRecord(
        number=trial.number,
        state="interrupted" if about.get("interrupted") else names[trial.state],
        own=bool(about.get("own")),
        params={path: json.dumps(value) for path, value in values.items()},
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        low=about.get("low"),
        high=about.get("high"),
        users=about.get("users"),
        losses=[-v for _, v in sorted(trial.intermediate_values.items())],
        seconds=about.get("seconds"),
        message=about.get("message"),
        settings=values,
    )


def best_of(found: Sequence[TrialRecord]) -> TrialRecord | None:
    """The complete trial of the highest value, the earliest of equals; None where none is complete."""
    complete = [r for r in found if r.value is not None]
    return min(complete, key=lambda r: (-(r.value or 0.0), r.number), default=None)
