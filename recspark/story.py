"""Where the run's story goes: short lines to the terminal, JSON lines to a file beside the lake."""

import datetime
import json
import logging
import sys
import time

from recspark.lake import Lake

RECORD_FIELDS = ("stage", "event", "rows_in", "rows_out", "seconds")


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, message, and what a stage's end brings."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: getattr(record, name) for name in RECORD_FIELDS if hasattr(record, name)}
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        return json.dumps(
            {"time": when, "level": record.levelname, "message": record.getMessage(), **extra}, default=str
        )


class Terminal(logging.Formatter):
    """The message, with the time; warnings and errors say what they are."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {prefix}{record.getMessage()}"


def open_log(lake: Lake, verbosity: int = 0) -> str:
    """Send the logger `recspark` to the terminal and to a file of this run; returns the file's path."""
    path = lake.log_path(f"run-{time.strftime('%H%M%S')}.jsonl")
    log = logging.getLogger("recspark")
    for old in list(log.handlers):
        log.removeHandler(old)
        old.close()
    terminal, file = logging.StreamHandler(sys.stderr), logging.FileHandler(path)
    terminal.setFormatter(Terminal())
    terminal.setLevel({-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}[verbosity])
    file.setFormatter(JsonLines())
    log.handlers[:] = [terminal, file]
    log.setLevel(logging.DEBUG)
    log.propagate = False
    return path
