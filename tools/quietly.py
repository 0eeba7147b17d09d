"""Run one long command: its output goes to a log, a person sees that it moves, and a failure shows the log's tail."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL_LINES = 25
SECONDS_BETWEEN_LINES = 20  # where the output is no terminal, such as in CI


def run(
    command: Sequence[str | Path],
    label: str,
    log: Path,
    step: str = r"",
    env: Mapping[str, str] | None = None,
) -> None:
    """Run the command. `step` is a pattern: its last match in the log is shown beside the elapsed seconds.

    Raises SystemExit, after the log's tail, if the command fails. If this process is interrupted or told to end, the
    command and its children end with it.
    """
    print(f"{label} ...", flush=True)
    name = label.partition(" (")[0]
    start = shown = time.monotonic()
    reached = ""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                now = time.monotonic()
                if now - shown >= (1 if sys.stdout.isatty() else SECONDS_BETWEEN_LINES):
                    reached = last_match(step, log) or reached
                    show_progress(now - start, reached)
                    shown = now
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise SystemExit(f"\nset-up: interrupted while {name}; the same command begins that step anew") from None
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        print("\n".join(f"    {line}" for line in tail))
        raise SystemExit(f"set-up: {name}: failed (exit {process.returncode}); the whole log is {log}")
    print(f"  done in {time.monotonic() - start:.0f} s", flush=True)


def show_progress(seconds: float, step: str) -> None:
    """One line that rewrites itself on a terminal, a line of its own elsewhere."""
    line = f"  {seconds:4.0f} s  {step}"[:100]
    print(
        f"\r\x1b[K{line}" if sys.stdout.isatty() else line,
        end="" if sys.stdout.isatty() else "\n",
        flush=True,
    )


def last_match(pattern: str, log: Path) -> str:
    """The last match of the pattern in the end of the log, or nothing."""
    if not pattern:
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 50_000))
        found = re.findall(pattern, file.read().decode(errors="replace"), flags=re.MULTILINE)
    return found[-1] if found else ""
