"""Checks of Spark: the session, the executors' Python, slots, threads, Arrow, the catalog."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recspark import session
from recspark.doctor.checkup import Caution, Checkup
from recspark.doctor.machine import cores
from recspark.errors import UserError
from recspark.lake.catalog import require_metastore
from recspark.training.launcher import check_launch

PATIENCE = 60  # seconds until an executor must have answered
COMPARED = ("pyspark", "numpy", "pandas", "pyarrow", "torch", "transformers")
LARGE_BATCH = 100_000


def spark(checkup: Checkup) -> str:
    """Starts the session that the other checks use."""
    if not checkup.java:
        raise UserError("not started, for Java is missing")
    settings = checkup.deployment.spark
    conf = {
        session.PYTHON_DAEMON: "pyspark.daemon",
        **settings.conf,
    }  # which asks for no recspark, that may be missing there
    checkup.started = session.build(settings.model_copy(update={"conf": conf}), "recspark doctor")
    context = checkup.started.sparkContext
    return f"{checkup.started.version}, master {context.master}, {context.defaultParallelism // session.task_threads(checkup.started)} task slots"


def executors(checkup: Checkup) -> str:
    """Asks the executors' Python for its version and packages, and compares."""
    context = checkup.session.sparkContext
    slots, training = max(1, context.defaultParallelism), checkup.trainings
    modules = ["recspark", "petastorm"] if any(s.reader == "petastorm" for s in training) else ["recspark"]
    modules += ["horovod"] if any(s.launcher == "horovod" for s in training) else []
    timer = threading.Timer(PATIENCE, context.cancelAllJobs)
    timer.start()
    try:
        ask = probe_of(COMPARED, modules, folder_here(checkup.deployment.encoder.path))
        answers = context.parallelize(range(slots), slots).mapPartitions(ask).collect()
    except Exception as error:
        if not timer.is_alive():
            raise UserError(
                f"no executor did a task within {PATIENCE} s; are there any, and do they have a core free?"
            ) from error
        raise
    finally:
        timer.cancel()
    checkup.probes = list({answer["host"]: answer for answer in answers}.values())
    wrong = [fault for probe in checkup.probes for fault in differences(probe)]
    if wrong:
        raise UserError("; ".join(wrong) + "; give driver and executors the same environment")
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{len(checkup.probes)} host{'s' if len(checkup.probes) > 1 else ''}, Python {python} and packages as the driver's"


def probe_of(
    packages: Iterable[str], modules: Iterable[str], encoder: str | None
) -> Callable[[Iterable[int]], Iterator[dict[str, Any]]]:
    """A function for mapPartitions. It is sent whole and needs nothing of recspark, which may be what is missing there."""

    def probe(_: Iterable[int]) -> Iterator[dict[str, Any]]:
        import importlib.metadata
        import importlib.util
        import os
        import socket
        import sys
        from pathlib import Path

        versions: dict[str, str | None] = {}
        for name in packages:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = None
        yield {
            "host": socket.gethostname(),
            "python": tuple(sys.version_info[:2]),
            "versions": versions,
            "missing": [name for name in modules if importlib.util.find_spec(name) is None],
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "encoder": encoder is None or Path(encoder).is_dir(),
        }

    return probe


def folder_here(path: str) -> str | None:
    """The folder as the driver means it, wherever a worker stands; None for what each worker fetches itself."""
    return str(Path(path).absolute()) if Path(path).is_dir() else None


def differences(probe: dict[str, Any]) -> list[str]:
    """In what a host is not as the driver."""
    host, found = probe["host"], []
    if probe["python"] != tuple(sys.version_info[:2]):
        found.append(
            f"{host} runs Python {'.'.join(map(str, probe['python']))}, the driver {'.'.join(map(str, sys.version_info[:2]))}"
        )
    found += [f"{host} has no {name}" for name in probe["missing"]]
    for name, there in probe["versions"].items():
        try:
            here = version(name)
        except PackageNotFoundError:
            continue
        if there != here:
            found.append(f"{host} has {name} {there}, the driver {here}" if there else f"{host} has no {name}")
    return found


def ranks(checkup: Checkup) -> str:
    """A task slot for each rank at once, and what starts them, of every section that trains."""
    found = []
    for settings in checkup.trainings:
        check_launch(checkup.session, settings)
        found.append(
            f"{settings.section}: {settings.num_processes} by {settings.launcher}, reading by {settings.reader}"
        )
    return "; ".join(found)


def catalog(checkup: Checkup) -> str:
    """A metastore, where tables are to be registered."""
    database = checkup.deployment.publish.catalog
    if database is None:
        return "none asked for"
    require_metastore(checkup.session, database)
    return f"tables go to {database}"


def threads(checkup: Checkup) -> str:
    """Threads against cores: more of the former run, but slower than fewer would."""
    settings, task = checkup.deployment.finetune, session.task_threads(checkup.session)
    says = f"{task} a task (spark.task.cpus), {settings.threads_per_process} a rank"
    worries = []
    if settings.launcher != "local" and settings.threads_per_process > task:
        worries.append(
            f"a rank holds {task} core{'s' if task > 1 else ''}; set finetune.threads_per_process={task}, or spark.task.cpus higher"
        )
    running = checkup.session.sparkContext.defaultParallelism
    if checkup.is_local and running > cores():
        worries.append(f"{running} tasks on {cores()} cores; set spark.master=local[{cores()}]")
    told = {probe["threads"] for probe in checkup.probes}
    if told - {str(task)}:
        worries.append(f"OMP_NUM_THREADS is {', '.join(map(str, told))} on the executors; unset it")
    return Caution(f"{says}: {'; '.join(worries)}") if worries else says


def arrow(checkup: Checkup) -> str:
    """Rows really go to Python and back by Arrow; and the settings that decide how."""
    spark = checkup.session
    if spark.range(4).mapInArrow(lambda batches: batches, "id bigint").count() != 4:
        raise UserError("rows that went to Python by Arrow did not all come back")
    conf = {
        name: str(spark.conf.get(f"spark.sql.{name}"))
        for name in (
            "execution.arrow.pyspark.enabled",
            "execution.arrow.maxRecordsPerBatch",
            "session.timeZone",
        )
    }
    enabled, batch, zone = conf.values()
    worries = []
    if enabled != "true":
        worries.append("spark.sql.execution.arrow.pyspark.enabled is off: small tables take the slow way")
    if not 0 < int(batch) <= LARGE_BATCH:
        worries.append(
            f"spark.sql.execution.arrow.maxRecordsPerBatch is {batch}: batches of vectors may not fit; {session.DEFAULTS['spark.sql.execution.arrow.maxRecordsPerBatch']} is usual"
        )
    if zone != "UTC":
        worries.append(f"spark.sql.session.timeZone is {zone}: days of events are cut there; UTC is usual")
    says = f"works; {batch} rows a batch, time zone {zone}"
    return Caution(f"{says}: {'; '.join(worries)}") if worries else says
