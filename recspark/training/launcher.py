"""Start the ranks of a training and wait for them: by Horovod on Spark, by Spark's TorchDistributor, or in this process.

The only importer of Horovod. Whatever goes wrong, the wait ends within the timeouts with an error that says which rank and
why. A task is a function of (ranks, reporter) that must be picklable.
"""

import _thread
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from pyspark.sql import SparkSession
from torch import Tensor, nn

from recspark.config import Settings
from recspark.errors import RunFailed, UserError
from recspark.training.status import HEARTBEAT, Reporter, Status, read_statuses

LauncherKind = Literal["horovod", "torch", "local"]
GRACE = 15.0  # seconds that the launcher has to end by itself after a rank has failed
POLL = 0.5
ECHO = "HorovodInternalError"  # what the other ranks say when one has died


class TrainingFailed(RunFailed):
    """A rank failed, died, stood still or did not start; the message says which and why."""


class LaunchSettings(Settings):
    """How many ranks, by what, and for how long they are waited for."""

    launcher: LauncherKind = Field("horovod", description="horovod | torch | local (this process, one rank)")
    num_processes: int = Field(2, ge=1, description="ranks; each takes one task slot")
    threads_per_process: int = Field(1, ge=1, description="threads of a rank's BLAS and torch")
    start_timeout: float = Field(120, gt=0, description="seconds until every rank must have started")
    lost_timeout: float = Field(60, gt=0, description="seconds without a heartbeat after which a rank counts as dead")
    stall_timeout: float = Field(600, gt=0, description="seconds a living rank may take for one step")


class Ranks(Protocol):
    """What the training loop needs of the processes it runs beside."""

    rank: int
    size: int
    local_rank: int

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Give all ranks rank 0's trainable parameters, and have their gradients averaged from now on."""

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], max_norm: float) -> None:
        """Clip the averaged gradients to a norm and update."""

    def sum(self, numbers: Tensor) -> Tensor:
        """Element-wise sum over the ranks."""


class LocalRanks:
    """One rank: this process."""

    rank, size, local_rank = 0, 1, 0

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return model, optimizer

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], max_norm: float) -> None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()

    def sum(self, numbers: Tensor) -> Tensor:
        return numbers


class HorovodRanks:
    """Ranks of a Horovod job: gradients are averaged while the backward pass still runs."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self.hvd: Any = hvd
        self.rank, self.size, self.local_rank = hvd.rank(), hvd.size(), hvd.local_rank()

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.hvd.broadcast_parameters(learning, root_rank=0)
        return model, self.hvd.DistributedOptimizer(optimizer, named_parameters=learning)

    def step(self, optimizer: Any, parameters: list[nn.Parameter], max_norm: float) -> None:
        optimizer.synchronize()
        nn.utils.clip_grad_norm_(parameters, max_norm)
        with optimizer.skip_synchronize():
            optimizer.step()

    def sum(self, numbers: Tensor) -> Tensor:
        return self.hvd.allreduce(numbers, op=self.hvd.Sum)


class TorchRanks(LocalRanks):
    """Ranks of a torch.distributed job, their gradients averaged by DistributedDataParallel."""

    def __init__(self) -> None:
        import torch.distributed as dist

        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        self.dist = dist
        self.rank, self.size, self.local_rank = dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"])

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        for parameter in (p for p in model.parameters() if p.requires_grad):
            self.dist.broadcast(parameter.data, src=0)
        # All ranks loaded the same frozen weights from the same folder: sending them again would be most of the start.
        return nn.parallel.DistributedDataParallel(model, init_sync=False, broadcast_buffers=False), optimizer

    def sum(self, numbers: Tensor) -> Tensor:
        total = numbers.clone()
        self.dist.all_reduce(total)
        return total


Task = Callable[[Ranks, Reporter], None]


def launch(
    spark: SparkSession,
    settings: LaunchSettings,
    task: Task,
    status_folder: str,
    watch: Callable[[dict[int, Status]], None],
    log_path: str,
) -> None:
    """Run the task on every rank; returns when all are done.

    watch is called about twice a second with what the ranks say. Raises TrainingFailed; UserError if there are fewer task
    slots than ranks, or the launcher is not installed.
    """
    check_launch(spark, settings)
    failure: BaseException | None = None
    watcher = Watcher(spark, settings, status_folder, watch)
    watcher.start()
    thread_errors, threading.excepthook = threading.excepthook, note_thread_error
    try:  # in this thread: Horovod sets signal handlers, which only the main thread may
        STARTERS[settings.launcher](spark, settings, task, status_folder, log_path)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and not watcher.why:
            stop(spark, read_statuses(status_folder))
            raise
        failure = error
    finally:
        watcher.finish()
        threading.excepthook = thread_errors
    statuses = read_statuses(status_folder)
    if watcher.why or failure or any(statuses.get(r, Status(r)).state != "done" for r in range(settings.num_processes)):
        stop(spark, statuses)
        raise TrainingFailed(explain(settings, statuses, watcher.why, failure, log_path)) from failure


def check_launch(spark: SparkSession, settings: LaunchSettings) -> None:
    """UserError if the ranks could never all run at once, or what starts them is missing."""
    if settings.launcher == "local":
        if settings.num_processes != 1:
            raise UserError(f"finetune.launcher local runs one rank; num_processes is {settings.num_processes}")
        return
    slots = spark.sparkContext.defaultParallelism // int(spark.conf.get("spark.task.cpus", "1") or 1)
    if slots < settings.num_processes:
        raise UserError(
            f"finetune.num_processes is {settings.num_processes}, but Spark has {slots} task slots; "
            f"give it more cores (spark.master, executors) or set finetune.num_processes={slots}"
        )
    if settings.launcher == "horovod":
        try:
            import horovod.spark
            import horovod.torch  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"finetune.launcher is horovod, which is not here ({error}); install it or set launcher: torch"
            ) from None


def note_thread_error(error: threading.ExceptHookArgs) -> None:
    """A launcher's own threads fail when their job is stopped; `launch` says why in one place, without their traces."""
    logging.getLogger("recspark").debug("in thread %s: %s", error.thread, error.exc_value)


class Watcher(threading.Thread):
    """Reads what the ranks say of themselves while they are launched, and ends a launch that would never end."""

    def __init__(
        self,
        spark: SparkSession,
        settings: LaunchSettings,
        status_folder: str,
        watch: Callable[[dict[int, Status]], None],
    ):
        super().__init__(name="recspark-watcher", daemon=True)
        self.spark, self.settings, self.status_folder, self.watch = spark, settings, status_folder, watch
        self.began, self.failed_at, self.why, self.over = time.time(), 0.0, "", threading.Event()

    def run(self) -> None:
        while not self.over.wait(POLL):
            statuses = read_statuses(self.status_folder)
            self.watch(statuses)
            self.why = self.reason_to_stop(statuses, time.time())
            if self.why:
                stop(self.spark, statuses)
                if not self.over.wait(GRACE):
                    _thread.interrupt_main()
                return

    def finish(self) -> None:
        """Stop watching, after a last look."""
        self.over.set()
        self.join()
        self.watch(read_statuses(self.status_folder))

    def reason_to_stop(self, statuses: dict[int, Status], now: float) -> str:
        """Why the launch would never end by itself, or nothing."""
        missing = [r for r in range(self.settings.num_processes) if r not in statuses]
        if missing and now - self.began > self.settings.start_timeout:
            return f"rank {missing[0]} did not start within start_timeout ({self.settings.start_timeout:.0f} s)"
        for status in (s for s in statuses.values() if not s.over):
            if now - status.beat > self.settings.lost_timeout:
                return f"rank {status.rank} gave no sign of life for lost_timeout ({self.settings.lost_timeout:.0f} s)"
            if now - status.moved > self.settings.stall_timeout:
                return f"rank {status.rank} did not move on for stall_timeout ({self.settings.stall_timeout:.0f} s)"
        if any(s.state == "failed" for s in statuses.values()):
            self.failed_at = self.failed_at or now
            if now - self.failed_at > GRACE:
                return "a rank failed, and the others did not end by themselves"
        return ""


def stop(spark: SparkSession, statuses: dict[int, Status]) -> None:
    """End what still runs: the Spark tasks that hold the ranks, and ranks of this machine by their process id."""
    spark.sparkContext.cancelAllJobs()
    for status in statuses.values():
        if not status.over and status.host == socket.gethostname() and status.pid != os.getpid():
            try:
                os.kill(status.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def explain(
    settings: LaunchSettings, statuses: dict[int, Status], why: str, failure: BaseException | None, log_path: str
) -> str:
    """Which rank, and why; a rank's failure that only echoes another's comes last."""
    lines = [f"fine-tuning by {settings.launcher} failed" + (f": {why}" if why else "")]
    # The one that has been silent longest first: the others wait for it.
    silent = sorted((s for s in statuses.values() if not s.over), key=lambda s: min(s.beat, s.moved))
    failed = sorted((s for s in statuses.values() if s.state == "failed"), key=lambda s: (ECHO in s.why, s.rank))
    for status in silent:
        lines.append(f"  {place(status)} (process {status.pid}): {last_sign(status, bool(why))}")
    lines += [f"  {place(status)}: {status.why}" for status in failed]
    if not failed and not silent and failure:
        lines.append(f"  {type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}")
    if Path(log_path).exists():
        said = [line for line in Path(log_path).read_text(errors="replace").splitlines() if line.strip()]
        lines += [f"  last said: {said[-1]}"] if said and not statuses else []
        lines.append(f"  the ranks' own output: {log_path}")
    return "\n".join(lines)


def last_sign(status: Status, stopped: bool) -> str:
    """What can be said of a rank that did not say how it ended. stopped: the launch was ended from here, by a timeout."""
    if stopped and time.time() - status.beat < 3 * HEARTBEAT:
        return f"alive, but its last step was {time.time() - status.moved:.0f} s ago"
    return "ended without a word; killed, or out of memory?"


def place(status: Status) -> str:
    return f"rank {status.rank} on {status.host}, epoch {status.epoch}, step {status.step}"


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
    with Path(log_path).open("w") as log:
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

    distributor = TorchDistributor(settings.num_processes, local_mode=False, use_gpu=torch.cuda.is_available())
    distributor.run(torch_rank, task, status_folder, rank_environment(settings))


def torch_rank(task: Task, status_folder: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    guarded(TorchRanks, task, status_folder, int(os.environ["RANK"]))


def start_local(spark: SparkSession, settings: LaunchSettings, task: Task, status_folder: str, log_path: str) -> None:
    guarded(LocalRanks, task, status_folder, 0)


STARTERS = {"horovod": start_horovod, "torch": start_torch, "local": start_local}
