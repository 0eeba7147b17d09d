"""Run stages in one Spark application and tell the story: what each reads, what it wrote, how long it took."""

import argparse
import datetime
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from recspark import config as configuration
from recspark import session
from recspark.errors import UserError
from recspark.exits import guard
from recspark.lake import Lake
from recspark.lake.catalog import require_metastore, teller
from recspark.lake.lock import RunLock
from recspark.pipeline import STAGES, TRAINING, Deployment, stage_name
from recspark.stages.publish import FORCED
from recspark.stages.versions import NEWEST, TONIGHT, chosen_retriever, keep_card, settled
from recspark.story import open_log

log = logging.getLogger("recspark")


@dataclass(frozen=True)
class Request:
    """What the command line asks for. verbosity: -1 quiet, 0, 1 verbose. force: publish beyond the guardrails, too."""

    config: str
    run_date: datetime.date
    overrides: Sequence[str] = ()
    verbosity: int = 0
    force: bool = False


def run(request: Request, names: Sequence[str]) -> None:
    """Run the named stages, in order.

    Raises UserError for what the user can mend; RunFailed if another run of the date is under way, ranks were lost or the lists fail
    their checks; the tables of earlier stages stay.
    """
    deployment = configuration.load(request.config, Deployment, list(request.overrides))
    settings = configuration.dump(deployment, request.config, request.overrides)
    facts = {"settings": settings, **({FORCED: True} if request.force else {})}
    lake = Lake(deployment.lake, request.run_date, facts=facts)
    log_path = open_log(lake, request.verbosity)
    names = planned(lake, deployment, names)
    if not names:
        return
    check(deployment, names)
    lake.lock = RunLock(lake, request.run_date)
    with lake.lock.held(log.warning):
        run_stages(lake, deployment, request, names, log_path)


def check(deployment: Deployment, names: Sequence[str]) -> None:
    """What stages have against their settings, before Spark starts.

    Raises UserError with all of it.
    """
    faults = []
    for name in names:
        try:
            getattr(STAGES[name], "check", lambda _: None)(deployment)
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))


def run_stages(lake: Lake, deployment: Deployment, request: Request, names: Sequence[str], log_path: str) -> None:
    """One Spark application, from its start to the list of what was made."""
    spark = session.build(deployment.spark)
    if request.verbosity > 0:
        spark.sparkContext.setLogLevel("WARN")
    began = time.time()
    log.info("recspark: %s, run date %s, lake %s", ", ".join(names), request.run_date, lake.root)
    try:
        if deployment.publish.catalog:
            require_metastore(spark, deployment.publish.catalog)
            lake.tell = teller(spark, lake, deployment.publish.catalog)
        for position, name in enumerate(names, 1):
            run_stage(spark, lake, deployment, name, f"{position}/{len(names)}")
    finally:
        session.stop(spark)
    log.info("done in %.0f s; what was made:", time.time() - began)
    for made in [t for t in lake.traffic if t.action == "write"]:
        log.info("  %-20s %s %s", made.name, f"{made.rows:>9,} rows" if made.rows is not None else " " * 14, made.path)
    log.info("  %-20s %14s %s", "log", "", log_path)


def planned(lake: Lake, deployment: Deployment, names: Sequence[str]) -> list[str]:
    """The stages to run of those that were named: one alone always, but where embed.retriever is newest; of several, not those without a
    section, nor, before an embed that takes a version of the retriever that is there, those that train.

    Raises UserError if that version is not there, or nothing is left to run.
    """
    idle, setting = [stage_name(stage) for stage in TRAINING], deployment.embed.retriever
    alone = len(names) == 1
    if alone and not (setting == NEWEST and names[0] in idle):
        return list(names)
    there = [name for name in names if alone or getattr(deployment, name) is not None]
    if not there:
        raise UserError(
            f"nothing to run: the configuration has no section {', none '.join(names)}; write one, or name other stages"
        )
    names = there
    if not alone and "embed" not in names:
        return names
    choice, why = settled(lake, deployment)
    if choice == TONIGHT:
        if why and "finetune" in names:
            log.info("a retriever is trained: %s", why)
        elif why:
            log.warning("a retriever is due to be trained (%s), and finetune is not among the stages that are run", why)
        return names
    version = chosen_retriever(lake, choice)
    log.info(
        "nothing is trained: embed.retriever is %s, version %s%s; left out: %s",
        setting,
        version.id,
        f" ({why})" if why else "",
        ", ".join(name for name in names if name in idle) or "none",
    )
    return [name for name in names if name not in idle]


def never_made(deployment: Deployment) -> set[str]:
    """Outputs of the stages that the configuration has no section for."""
    left_out = (stage for name, stage in STAGES.items() if getattr(deployment, name) is None)
    return {output for stage in left_out for output in stage.OUTPUTS}


def run_stage(spark, lake: Lake, deployment: Deployment, name: str, position: str) -> None:  # type: ignore[no-untyped-def]
    """One stage, with a line before and a line after."""
    stage, before, began = STAGES[name], len(lake.traffic), time.time()
    reads = ", ".join(given for given in stage.INPUTS if given not in never_made(deployment))
    log.info("[%s] %s: reads %s", position, name, reads, extra={"stage": name, "event": "start"})
    lake.begin(name)
    stage.run(spark, lake, deployment)
    spark.catalog.clearCache()
    seconds = time.time() - began
    traffic = lake.traffic[before:]
    rows_in = {t.name: t.rows for t in traffic if t.action == "read" and t.rows is not None}
    rows_out = {t.name: t.rows for t in traffic if t.action == "write"}
    wrote = ", ".join(n if rows is None else f"{n} {rows:,}" for n, rows in rows_out.items())
    log.info(
        "[%s] %s: wrote %s; %.1f s",
        position,
        name,
        wrote or "nothing",
        seconds,
        extra={"stage": name, "event": "end", "rows_in": rows_in, "rows_out": rows_out, "seconds": round(seconds, 3)},
    )
    lake.record_stage(name, rows_in, rows_out, seconds)
    for model in [n.removeprefix("models/") for n in rows_out if n.startswith("models/")]:
        keep_card(lake, model, lake.model_of_date(model).id)


def submit(stage: str) -> None:
    """What a job does: one stage, its settings from the command line. Exits with the code of `guard`."""
    parser = argparse.ArgumentParser(
        description=STAGES[stage].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="the deployment's YAML")
    parser.add_argument(
        "--run-date", type=datetime.date.fromisoformat, default=datetime.date.today(), help="YYYY-MM-DD; today"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=c", dest="overrides", help="override a setting"
    )
    parser.add_argument("--force", action="store_true", help="publish beyond the guardrails, too")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    request = Request(given.config, given.run_date, given.overrides, given.verbose - given.quiet, given.force)
    sys.exit(guard(lambda: run(request, [stage]), given.verbose))
