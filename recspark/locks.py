"""`recspark unlock`: take away a run's lock, without Spark."""

import datetime

from recspark.errors import UserError
from recspark.lake.lock import RunLock, described, lives
from recspark.lookup import lake_of


def unlock(config_path: str, overrides: list[str], run_date: datetime.date, force: bool = False) -> None:
    """Remove the lock of a run date, and say whose it was.

    Raises UserError if nobody holds it or, unless forced, its holder lives on this machine or is seen to live on another.
    """
    lake = lake_of(config_path, overrides, run_date)
    lock = RunLock(lake, run_date)
    try:
        holder = lock.read()
    except UserError:  # it does not say who holds it
        lock.clear()
        print(f"run date {run_date} of the lake {lake.root} is free; its lock did not say who held it")
        return
    if holder is None:
        raise UserError(f"no run holds run date {run_date} of the lake {lake.root}; there is nothing to unlock")
    if not force and lives(holder, lock.read):
        raise UserError(
            f"the run that holds run date {run_date} lives: {described(holder)}; end it there (--force takes its lock all the same)"
        )
    if lock.remove(holder):
        print(f"run date {run_date} of the lake {lake.root} is free; it was held {described(holder)}")
