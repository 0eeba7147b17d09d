"""Start the ranks, one function a launcher; each returns when its ranks have ended."""

import os
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import SparkSession

from recspark.session import signals_kept
from recspark.training.launcher.ranks import HorovodRanks, LocalRanks, Ranks, TorchRanks
from recspark.training.launcher.settings import LaunchSettings
from recspark.training.status import Reporter

Task = Callable[[Ranks, Reporter], None]


def guarded(ranks: Callable[[], Ranks], task: Task, status_folder: str, rank: int) -> None:
    """Run the task on this rank, and say how it ended."""
    reporter = Reporter(status_folder, rank)
    try:
        task(ranks(), reporter)
        reporter.update(state="done")
    except BaseException as error:
        reporter.failed(error)
        raise


def rank_environment(settings: LaunchSettings) -> dict[str, str]:
    """Environment of every rank."""
    threads = str(settings.threads_per_process)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        # On CPUs Horovod's background thread takes time from the compute; it need not look up more often than this (ms).
        "HOROVOD_CYCLE_TIME": "20",
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": str(int(settings.stall_timeout)),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(int(max(settings.start_timeout, 30))),
    }


def start_horovod(spark: SparkSession, settings: LaunchSettings, task: Task, status_folder: str, log_path: str) -> None:
    import horovod.spark

    environment = {**os.environ, **rank_environment(settings)}
    # Horovod has signals end its ranks, and leaves that so: nothing but SIGKILL would end the run afterwards.
    with signals_kept(), Path(log_path).open("w") as log:
        horovod.spark.run(
            horovod_rank,
            args=(task, status_folder),
            num_proc=settings.num_processes,
            env=environment,
            verbose=0,
            start_timeout=int(settings.start_timeout),
            use_gloo=True,
            stdout=log,
            stderr=log,
        )


def horovod_rank(task: Task, status_folder: str) -> None:
    guarded(HorovodRanks, task, status_folder, int(os.environ["HOROVOD_RANK"]))


def start_torch(spark: SparkSession, settings: LaunchSettings, task: Task, status_folder: str, log_path: str) -> None:
    from pyspark.ml.torch.distributor import TorchDistributor

    # The ranks' GPUs are Spark's to give; a driver may have none.
    gpus = float(spark.sparkContext.getConf().get("spark.task.resource.gpu.amount", "0") or 0) >= 1
    distributor = TorchDistributor(settings.num_processes, local_mode=False, use_gpu=gpus)
    distributor.run(torch_rank, task, status_folder, rank_environment(settings))


def torch_rank(task: Task, status_folder: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    guarded(TorchRanks, task, status_folder, int(os.environ["RANK"]))


def start_local(spark: SparkSession, settings: LaunchSettings, task: Task, status_folder: str, log_path: str) -> None:
    guarded(LocalRanks, task, status_folder, 0)


STARTERS = {"horovod": start_horovod, "torch": start_torch, "local": start_local}
