"""tune: better settings, searched on validation rows only; run only when named.

A trial is the night's own stages, from the first that its settings change to evaluate, in a lake of its own without a test row. The best
settings are written as a configuration; how much they gain is said beside the deployment's own, which are the first trial.
"""

import logging
import traceback
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import yaml
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession

from recspark.config import Seed, Settings, parse
from recspark.data.splits import Split
from recspark.errors import RunFailed, UserError
from recspark.evaluation.study_report import StudyFacts, render_study
from recspark.exits import user_error_in
from recspark.lake import Lake, Traffic
from recspark.models.objectives import PairObjective
from recspark.stages.trials import SEARCHED, TRIAL, key_of, make_trial_lake, name_of, run_stages, trial_settings
from recspark.tables import INTERACTIONS, ITEMS, METRICS, TRIALS
from recspark.tuning.space import Range, Raw, has_key, put, value_at
from recspark.tuning.study import (
    Median,
    Never,
    OnEpoch,
    Outcome,
    Plan,
    Pruned,
    Pruner,
    TrialRecord,
    best_of,
    counted,
    go_on,
    open_study,
    records,
)

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items", "users")
OUTPUTS = ("trials",)
# What changes the held-out loss itself: between trials that differ in it, the losses say nothing.
LOSS_DEPENDS_ON = (
    *("factorize.", "finetune.objective.", "finetune.pairs."),
    *("finetune.validation_fraction", "finetune.max_positives"),
)
BY_PAIR_ALSO = ("finetune.batch_size",)  # an example's candidates are those of its step

log = logging.getLogger("recspark")


class Metric(Settings):
    """What a trial is judged by: a row of the metrics table, on validation rows. More is better."""

    model: Literal["full", "text_after", "text_before"] = Field("full", description="as in the table metrics")
    metric: Literal["ndcg", "recall", "map", "map_min", "mrr", "hit_rate", "precision"] = Field(
        "ndcg", description="as in the table metrics"
    )
    k: int = Field(10, ge=1, description="length of the list that is judged")
    slice: Literal["all", "warm", "cold"] = Field("all", description="which items are ranked and relevant")

    def __str__(self) -> str:
        return f"{self.metric}@{self.k} of {self.model}, {self.slice} items"


class TuneConfig(Settings):
    """What is searched, by what measure, for how long."""

    space: dict[str, Range] = Field({}, description="dotted path of a setting: what it may be")
    trials: int = Field(20, ge=1, description="of the whole study, the deployment's own settings among them")
    metric: Metric = Metric()
    validation: Split | None = Field(
        None,
        description="how a test is drawn from the train rows, where no row is valid; if not set, as the night's was",
    )
    study: str | None = Field(
        None, pattern=r"^[\w.-]+$", description="its folder under the lake's tuning/; the run date if not set"
    )
    timeout_minutes: float | None = Field(None, gt=0, description="no trial is begun after it")
    seed: Seed | None = Field(None, description="of the suggestions; the deployment's if not set")
    startup_trials: int = Field(10, ge=1, description="drawn evenly before the sampler goes by what it has seen")
    pruner: Pruner = Median()


def check(config: "Deployment") -> None:
    """Before the night's other stages run. Raises UserError where nothing is to be searched."""
    if not config.tune.space:
        raise UserError(
            "tune: tune.space is empty; name settings and what they may be, such as "
            "tune.space: {finetune.adaptation.learning_rate: {kind: float, low: 1.0e-4, high: 1.0e-2, log: true}}"
        )


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions, items and users; write trials, and under tuning/ the study, best.yaml and report.html.

    Raises UserError where nothing is to be searched, a table is missing, or what fails would fail every trial; RunFailed where no
    trial came to its end.
    """
    check(config)
    folder = f"tuning/{config.tune.study or lake.run_date}"
    trials = lake.within(f"{folder}/lake")
    tables = key_of(*(lake.manifest(table)["fingerprint"] for table in (INTERACTIONS, ITEMS)), str(lake.run_date))
    tables = key_of(tables, config.seed, config.model_dump(mode="json")["tune"]["validation"])
    base = trial_settings(lake, config)
    plan = plan_of(config, base, folder, tables)
    study = open_study(lake.local_file(f"{folder}/study.journal"), plan)
    log.info(
        "  study %s: %s, %d trials in all, %d of them done",
        folder,
        config.tune.metric,
        plan.trials,
        len(counted(study)),
    )

    def objective(values: Raw, on_epoch: OnEpoch) -> Outcome:
        make_trial_lake(spark, lake, trials, config, tables)
        settings = parse(put(base, values), type(config), [], source="the trial's settings")
        try:
            run_stages(spark, trials, settings, tables, on_epoch, put(lake.facts.get("settings", {}), values))
        except Exception as error:  # a kill leaves the checkpoints, to go on from
            for stage in TRIAL:
                trials.clear_scratch(name_of(stage))
            raise failure_of(spark, error) from error
        return outcome_of(trials.read(spark, METRICS), config.tune.metric)

    def after(record: TrialRecord) -> None:
        log.info("  %s", line_of(record))
        if best_of(records(study)) == record:
            lake.write_file(f"{folder}/best.yaml", best_yaml(lake, record, config))

    go_on(study, plan, objective, after)
    finish(spark, lake, config, folder, records(study))


def plan_of(config: "Deployment", base: Raw, folder: str, tables: str) -> Plan:
    """The study's plan; says so where trials cannot be pruned."""
    tune, pruner = config.tune, config.tune.pruner
    reason = why_not_prune(config)
    if reason and not isinstance(pruner, Never):
        log.info("  no trial is pruned: %s", reason)
        pruner = Never()
    seed = config.seed if tune.seed is None else tune.seed
    searched = {name: base[name] for name in (*SEARCHED, "evaluate", "encoder", "seed")}
    space = {path: one.model_dump(mode="json") for path, one in tune.space.items()}
    identity = key_of(space, tune.metric.model_dump(), seed, searched, tables)
    return Plan(
        folder.rpartition("/")[2],
        tune.space,
        type(config),
        base,
        tune.trials,
        seed,
        tune.startup_trials,
        pruner,
        tune.timeout_minutes,
        identity,
    )


def why_not_prune(config: "Deployment") -> str | None:
    """Why held-out losses cannot tell a bad trial, if so."""
    if not config.finetune.validation_fraction:
        return "finetune.validation_fraction is 0, so that no loss is held out"
    by_pair = isinstance(config.finetune.objective, PairObjective)
    changing = [p for p in config.tune.space if p.startswith(LOSS_DEPENDS_ON + (BY_PAIR_ALSO if by_pair else ()))]
    return (
        f"{', '.join(changing)} changes the held-out loss itself, so that trials cannot be compared by it"
        if changing
        else None
    )


def failure_of(spark: SparkSession, error: Exception) -> Exception:
    """What a trial's failure is to the study: the same, or RunFailed for what Spark could not do. Without Spark there is no next trial."""
    if isinstance(error, UserError | RunFailed | Pruned):
        return error
    log.debug("%s", "".join(traceback.format_exception(error)))
    try:
        spark.range(1).count()
    except Exception:
        return error
    lines = str(error).strip().splitlines() or [""]
    return user_error_in(error) or RunFailed(f"{type(error).__name__}: {lines[0]}")


def outcome_of(metrics: DataFrame, metric: Metric) -> Outcome:
    """The metric's row. Raises UserError if nobody could be judged."""
    found = metrics.where(metrics["slice"] == metric.slice).where(metrics.model == metric.model)
    row = found.where(metrics.metric == metric.metric).where(metrics.k == metric.k).first()
    if row is None:
        raise UserError(
            f"tune: nobody can be judged by {metric}: no validation row is with an item of that slice that its user has not "
            "had before; set tune.metric.slice to all, or hold out more"
        )
    return Outcome(row["value"], row["low"], row["high"], row["users"])


# ---- what comes of it


def finish(spark: SparkSession, lake: Lake, config: "Deployment", folder: str, found: list[TrialRecord]) -> None:
    """The table, the report, and the result in the log. The lake of trials goes. Raises RunFailed if no trial is complete."""
    lake.write(trials_frame(spark, folder.rpartition("/")[2], found), TRIALS)
    lake.remove(f"{folder}/lake")
    best = best_of(found)
    if best is None:
        failures = "\n".join(f"  trial {r.number}: {r.message}" for r in found if r.message)
        raise RunFailed(f"tune: none of {len(found)} trials came to its end\n{failures}")
    log.info("%s", readable(found))
    log.info("%s", verdict_of(found, best, config.tune.metric))
    raw = config.model_dump(mode="json")
    own = {path: value_at(raw, path) for path in config.tune.space if has_key(type(config), raw, path)}
    trials, said = pd.DataFrame(map(vars, found)), verdict_of(found, best, config.tune.metric)
    facts = StudyFacts(
        folder.rpartition("/")[2],
        str(lake.run_date),
        str(config.tune.metric),
        said,
        trials,
        best.number,
        own,
        scales(config),
    )
    lake.write_file(f"{folder}/best.yaml", best_yaml(lake, best, config))  # a run that was killed may have left it out
    path = lake.write_file(f"{folder}/report.html", render_study(facts))
    for name, where in (("best settings", lake.path(f"{folder}/best.yaml")), ("report", path)):
        lake.traffic.append(Traffic("write", name, None, where))


def scales(config: "Deployment") -> dict[str, str]:
    """How each searched path is drawn on an axis: linear, log or choice."""
    return {
        path: "choice" if one.kind == "choice" else "log" if one.log else "linear"
        for path, one in config.tune.space.items()
    }


def best_yaml(lake: Lake, best: TrialRecord, config: "Deployment") -> str:
    """The whole configuration with the best settings in place; what came from the environment stands as the file had it."""
    settings = put(lake.facts.get("settings") or config.model_dump(mode="json"), best.settings)
    header = f"# The best settings of a study: {config.tune.metric}, {best.value:.4f} on validation rows of {lake.run_date} (trial {best.number}).\n"
    return header + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def trials_frame(spark: SparkSession, study: str, found: list[TrialRecord]) -> DataFrame:
    rows: list[tuple[Any, ...]] = [
        (r.number, study, r.state, r.own, r.params, r.value, r.low, r.high, r.users, r.losses, r.seconds, r.message)
        for r in found
    ]
    return spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in TRIALS.columns)).coalesce(1)


def verdict_of(found: list[TrialRecord], best: TrialRecord, metric: Metric) -> str:
    """Whether anything was gained, in a sentence."""
    own = next((r for r in found if r.own and r.value is not None), None)
    if best.own:
        return f"The deployment's own settings are the best that was tried: {metric}, {interval(best)}."
    if own is None:
        return f"Trial {best.number} is the best: {metric}, {interval(best)}. The deployment's own settings did not come to their end."
    apart = best.low is not None and own.high is not None and best.low > own.high
    seen = "the intervals are apart" if apart else "the intervals touch: the gain may be chance"
    return f"Trial {best.number} is the best: {metric}, {interval(best)}; the deployment's own settings have {interval(own)}; {seen}."


def interval(record: TrialRecord) -> str:
    span = "" if record.low is None else f" [{record.low:.4f}, {record.high:.4f}]"
    return f"{record.value:.4f}{span}"


def line_of(record: TrialRecord) -> str:
    """A trial in a line."""
    came_to = interval(record) if record.value is not None else record.state
    params = ", ".join(f"{path}={value}" for path, value in record.params.items()) or "nothing changed"
    why = f"; {(record.message or '').splitlines()[0]}" if record.message else ""
    whose = "own settings" if record.own else params
    return f"trial {record.number}: {came_to}; {record.seconds or 0:.0f} s; {whose}{why}"


def readable(found: list[TrialRecord]) -> str:
    """The trials for people, the best first."""
    order = sorted(found, key=lambda r: (r.value is None, -(r.value or 0.0), r.number))
    return "\n".join(["trials, the best first:", *(f"  {line_of(record)}" for record in order)])
