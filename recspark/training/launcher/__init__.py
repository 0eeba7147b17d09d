"""Start the ranks of a training and wait for them: by Horovod on Spark, by Spark's TorchDistributor, or in this process.

The only importer of Horovod. Whatever goes wrong, the wait ends within the timeouts with an error that says which rank and
why. A task is a function of (ranks, reporter) that must be picklable.
"""

import logging
import threading
from collections.abc import Callable

import pyarrow.fs as pafs
from pyspark.sql import SparkSession

from recspark.errors import RunFailed, UserError
from recspark.exits import Leftovers, note_thread_error
from recspark.signals import Signals
from recspark.training.launcher.ranks import Gathered, LocalRanks, Ranks
from recspark.training.launcher.settings import LaunchSettings
from recspark.training.launcher.starters import STARTERS, Task
from recspark.training.launcher.watcher import Watcher, ended_by_watcher, explain, stop
from recspark.training.status import Status

STARTS = 3  # at most, where a port was taken
PORT_TAKEN = ("EADDRINUSE", "Address already in use")

log = logging.getLogger("recspark")

__all__ = ["Gathered", "LaunchSettings", "LocalRanks", "Ranks", "TrainingFailed", "check_launch", "launch"]


class TrainingFailed(RunFailed):
    """A rank failed, died, stood still or did not start; the message says which and why."""


def launch(
    spark: SparkSession,
    settings: LaunchSettings,
    task: Task,
    status_folder: str,
    watch: Callable[[dict[int, Status]], None],
    log_path: str,
) -> None:
    """Run the task on every rank; returns when all are done.

    A launcher looks for a free port where its ranks will meet; where another has taken it by then, they are started again, twice at most.
    watch is called about twice a second with what the ranks say; what it raises ends the ranks, and is raised from here. Raises
    TrainingFailed; UserError if there are fewer task slots than ranks, or the launcher is not installed.
    """
    check_launch(spark, settings)
    for start in range(1, STARTS + 1):
        folder = f"{status_folder}/start-{start}"  # what the ranks of another start said is not these ranks' word
        fs, path = pafs.FileSystem.from_uri(folder)
        fs.create_dir(path)
        try:
            launch_once(spark, settings, task, folder, watch, log_path)
            return
        except TrainingFailed as error:
            if start == STARTS or not port_was_taken(error):
                raise
        log.warning("%s: the port where its ranks meet was taken meanwhile; they are started again", settings.section)


def port_was_taken(error: BaseException | None) -> bool:
    """Whether it, or what caused it, says that an address was in use."""
    while error is not None:
        if any(sign in str(error) for sign in PORT_TAKEN):
            return True
        error = error.__cause__
    return False


def launch_once(
    spark: SparkSession,
    settings: LaunchSettings,
    task: Task,
    status_folder: str,
    watch: Callable[[dict[int, Status]], None],
    log_path: str,
) -> None:
    """See `launch`; the ranks are started once."""
    failure: BaseException | None = None
    signals = Signals()
    watcher = Watcher(spark, settings, status_folder, watch, signals)
    before, threading.excepthook = threading.excepthook, note_thread_error
    with signals:
        watcher.start()
        try:  # in this thread: Horovod sets signal handlers, which only the main thread may
            with ended_by_watcher():
                STARTERS[settings.launcher](spark, settings, task, status_folder, log_path)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and not watcher.why:
                stop(spark, watcher.statuses())
                raise
            failure = error
        finally:
            threading.excepthook = before if isinstance(before, Leftovers) else Leftovers(before)
            watcher.finish()
    statuses = watcher.statuses()
    if signals.came():
        stop(spark, statuses)
        signals.raise_again()
    if watcher.why or failure or any(statuses.get(r, Status(r)).state != "done" for r in range(settings.num_processes)):
        stop(spark, statuses)
        if watcher.cut:
            raise watcher.cut
        raise TrainingFailed(explain(settings, statuses, watcher.why, failure, log_path)) from failure


def check_launch(spark: SparkSession, settings: LaunchSettings) -> None:
    """UserError if the ranks could never all run at once, or what starts them is missing."""
    if settings.launcher == "local":
        if settings.num_processes != 1:
            raise UserError(
                f"{settings.section}.launcher local runs one rank; num_processes is {settings.num_processes}"
            )
        return
    slots = spark.sparkContext.defaultParallelism // int(spark.conf.get("spark.task.cpus", "1") or 1)
    if slots < settings.num_processes:
        here = (spark.sparkContext.master or "").startswith("local")
        # On a cluster, executors may still be on their way: another try may find them.
        raise (UserError if here else TrainingFailed)(
            f"{settings.section}.num_processes is {settings.num_processes}, but Spark has {slots} task slots{'' if here else ' by now'}; "
            f"give it more cores (spark.master, executors) or set {settings.section}.num_processes={slots}"
        )
    if settings.launcher == "horovod":
        try:
            import horovod.spark
            import horovod.torch  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"{settings.section}.launcher is horovod, which is not here ({error}); install it or set launcher: torch"
            ) from None
