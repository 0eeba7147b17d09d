"""`recspark doctor`: what would spoil a night is found before it. A line a check: ok, or what to do.

Every check runs, whatever came of those before it. To add one: write a function of a Checkup in the file of its kind and
name it in CHECKS. It returns what it found, raises UserError with what to do, or returns a Caution: shown, and no failure.
"""

import datetime
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recspark import config as configuration
from recspark import session
from recspark.doctor import cluster, inputs, machine
from recspark.doctor.checkup import Caution, Checkup
from recspark.errors import UserError
from recspark.lake import Lake

CHECKS: tuple[tuple[str, Callable[[Checkup], str]], ...] = (
    ("stages", inputs.stages),
    ("python", machine.python),
    ("java", machine.java),
    ("packages", machine.packages),
    ("memory", machine.memory),
    ("disk", machine.disk),
    ("spark", cluster.spark),
    ("executors", cluster.executors),
    ("ranks", cluster.ranks),
    ("threads", cluster.threads),
    ("arrow", cluster.arrow),
    ("catalog", cluster.catalog),
    ("lake", inputs.lake),
    ("encoder", inputs.encoder),
    ("retriever", inputs.retriever),
    ("interactions", inputs.interactions),
    ("items", inputs.items),
    ("users", inputs.users),
    ("deny list", inputs.deny_list),
)
MARKS = {"ok": "green", "caution": "yellow", "fix": "bold red"}


def run(config_path: str, overrides: list[str], run_date: datetime.date) -> None:
    """Print a line a check. run_date: of the night that is meant; it decides which part of the log has arrived.

    Raises UserError at the end if a check failed, with their number; at once, with all mistakes, for a bad configuration.
    """
    from recspark.pipeline import Deployment

    console, failed = Console(highlight=False), 0
    deployment = configuration.load(config_path, Deployment, overrides)
    show(console, "ok", "settings", f"{config_path} is valid")
    checkup = Checkup(deployment, Lake(deployment.lake, run_date))
    try:
        for name, check in CHECKS:
            mark, says = outcome(check, checkup)
            failed += mark == "fix"
            if says:
                show(console, mark, name, says)
    finally:
        if checkup.started is not None:
            session.stop(checkup.started)
    if failed:
        raise UserError(f"doctor: {failed} of {len(CHECKS)} checks failed; mend what is marked fix")


def outcome(check: Callable[[Checkup], str], checkup: Checkup) -> tuple[str, str]:
    """(mark, what was found or what to do)."""
    try:
        found = check(checkup)
    except UserError as error:
        return "fix", str(error)
    except Exception as error:  # whatever it is, the checks after it run
        return "fix", telling_line(error)
    return ("caution" if isinstance(found, Caution) else "ok"), found


def telling_line(error: Exception) -> str:
    """Of a failure that may carry Spark's stacks of several processes, the line that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if line.startswith("[") or line.partition(":")[0].endswith(("Error", "Exception"))]
    return f"{type(error).__name__}: {(named or lines or [''])[-1]}"


def show(console: Console, mark: str, name: str, says: str) -> None:
    """One line, as soon as it is known; long ones wrap under themselves."""
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8)
    line.add_column(width=13)
    line.add_column(overflow="fold")
    line.add_row(Text(mark, MARKS[mark]), Text(name), Text(says))
    console.print(line)
