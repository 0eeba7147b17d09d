"""From what ended a run to the exit code and what is said of it."""

import errno
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from py4j.protocol import Py4JError, Py4JNetworkError
from safetensors import SafetensorError

from recspark.errors import HeldBack, RunFailed, UserError
from recspark.signals import Signals

DONE, FAILURE, USER_MISTAKE, HELD_BACK, INTERRUPTED = 0, 1, 2, 3, 130
WORKER_DAEMON = "recspark.worker_daemon"  # the first that Spark asks a worker's Python for (session.py)
# Of Hadoop, by the checksum that it keeps beside a file; of Parquet, in Spark and in pyarrow; and of safetensors.
DAMAGED = (
    *("ChecksumException: ", "is not a Parquet file", "Could not read footer for file"),
    *("this is not a parquet file", "Parquet file size is 0 bytes"),
    f"{SafetensorError.__name__}: ",  # of a model's weights
)
REFUSED = (
    os.strerror(errno.EACCES),  # of a file system, in Python and in Java
    "AccessControlException",  # of HDFS
    "AccessDenied",  # of object stores by Spark
    "ACCESS_DENIED",  # and by pyarrow
)
GONE = ("[FAILED_READ_FILE.FILE_NOT_EXIST]", "[PATH_NOT_FOUND]")  # Spark's conditions
PYARROW = ("Could not open Parquet input source", "Error creating dataset")  # begins what names the file itself
UNANSWERED = re.compile(r"An error occurred while calling \S+")  # py4j's, without what Java had to say of it
RUN_AGAIN = "what was published stays, and a re-run goes on"

log = logging.getLogger("recspark")


def guard(act: Callable[[], None], verbose: bool) -> int:
    """Run `act`; returns the exit code. Only a bug, or `verbose`, prints a stack trace."""
    with Signals() as asked:
        return answered(act, asked, verbose)


def answered(act: Callable[[], None], asked: Signals, verbose: bool) -> int:
    """See `guard`."""
    try:
        act()
    except (UserError, RunFailed) as error:
        tell(error, verbose)
        return USER_MISTAKE if isinstance(error, UserError) else HELD_BACK if isinstance(error, HeldBack) else FAILURE
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        if asked.came():  # an interrupt where the JVM is asked may be lost, and what it cut off fails instead
            if verbose:
                traceback.print_exc()
            return interrupted()
        if mended := user_error_in(error):
            tell(mended, verbose)
            return USER_MISTAKE
        if damaged := damaged_file_in(error):
            tell(
                UserError(
                    f"a file is damaged: {damaged}; of a table or model of the lake, run again from the stage that writes it, of raw data, mend the file"
                ),
                verbose,
            )
            return USER_MISTAKE
        if gone := gone_file_in(error):
            tell(
                RunFailed(f"what was being read is gone, written anew or removed by another run: {gone}; {RUN_AGAIN}"),
                verbose,
            )
            return FAILURE
        if refused := refusal_in(error):
            tell(
                UserError(f"access is refused: {refused}; run as who may read and write there, or have access given"),
                verbose,
            )
            return USER_MISTAKE
        if full := full_disk_in(error):
            tell(
                RunFailed(f"a disk is full: {full}; make room for the lake and for Spark's local folders; {RUN_AGAIN}"),
                verbose,
            )
            return FAILURE
        if jvm_is_gone(error):
            tell(RunFailed(f"Spark's JVM has ended, killed or out of memory ({error}); {RUN_AGAIN}"), verbose)
            return FAILURE
        traceback.print_exc()
        return FAILURE
    return DONE


def interrupted() -> int:
    """What is said of it, and its exit code."""
    print(f"recspark: interrupted; {RUN_AGAIN}", file=sys.stderr)
    return INTERRUPTED


def tell(error: BaseException, verbose: bool) -> None:
    """Say what ended the run, in the run's log if there is one yet."""
    if log.handlers:
        log.error("%s", error)
    else:
        print(f"recspark: {error}", file=sys.stderr)
    if verbose:
        traceback.print_exception(error)


def user_error_in(error: BaseException) -> UserError | None:
    """A UserError that was raised inside a Spark worker arrives as text in Spark's own exception; so does that there is no recspark there."""
    marker = f"{UserError.__module__}.{UserError.__qualname__}: "
    for line in str(error).splitlines():
        if line.startswith(marker):
            return UserError(line.removeprefix(marker))
        if line.endswith(f": No module named {WORKER_DAEMON}"):
            return UserError(
                f"the Python of Spark's workers has no recspark: {line.strip()}; install it there, or ship an environment (docs/cluster.md)"
            )
    return None


def jvm_is_gone(error: BaseException) -> bool:
    """Whether Spark's bridge to its JVM found nobody at the other end, or was cut off while it asked."""
    bridged = any("py4j" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
    cut_off = type(error) is Py4JError and UNANSWERED.fullmatch(str(error)) is not None
    return isinstance(error, Py4JNetworkError) or cut_off or (isinstance(error, ConnectionError) and bridged)


def full_disk_in(error: BaseException) -> str:
    """The line that says so; empty if none does."""
    return line_with((os.strerror(errno.ENOSPC),), error)


def refusal_in(error: BaseException) -> str:
    """The line that says that a file, folder or bucket may not be read or written; empty if none does."""
    return line_with(REFUSED, error)


def line_with(signs: tuple[str, ...], error: BaseException) -> str:
    """The first line with one of the signs, of the error or of what caused it, in this process, Spark's JVM or a worker; empty if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        for line in str(seen).splitlines():
            if any(sign in line for sign in signs):
                return line.strip().removeprefix("Caused by: ")
        seen = seen.__cause__ or seen.__context__
    return ""


def gone_file_in(error: BaseException) -> str:
    """What Spark says of a file or folder that had been found and no longer was there; empty if nothing."""
    return next((line.strip() for line in str(error).splitlines() if any(sign in line for sign in GONE)), "")


def damaged_file_in(error: BaseException) -> str:
    """The file that Spark, or this process, could not read as what it should be, with what is said of it; empty if none was."""
    if isinstance(error, SafetensorError):
        return str(error)
    for line in str(error).splitlines():
        if any(sign in line for sign in DAMAGED):
            said = line.strip().removeprefix("Caused by: ").removeprefix("pyarrow.lib.ArrowInvalid: ")
            return said if said.startswith(PYARROW) or ": " not in said else said.partition(": ")[2]
    return ""


@dataclass(frozen=True)
class Leftovers:
    """A hook for what ends a thread, in the driver and in Spark's Python workers: those that Horovod leaves behind fail when the ranks are
    stopped and their pipes are closed, and that is told to nobody; others go to the hook that was there before."""

    before: Callable[[threading.ExceptHookArgs], object]

    def __call__(self, error: threading.ExceptHookArgs) -> None:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.exc_traceback)]
        if any(name.startswith("horovod.") for name in modules):
            note_thread_error(error)
        else:
            self.before(error)


def note_thread_error(error: threading.ExceptHookArgs) -> None:
    """A launcher's own threads fail when their job is stopped; `recspark.training.launcher.launch` says why in one place, without their traces."""
    log.debug("in thread %s: %s", error.thread, error.exc_value)
