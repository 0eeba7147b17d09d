"""Which version of a model is promoted, and every promotion and rollback there was: one file, replaced as one.

The log alone says what is promoted, so the two cannot disagree, however a command ended. Two people who promote in the same
moment are not kept apart: the later file stands.
"""

import datetime
import getpass
from typing import Any

from recspark.errors import UserError
from recspark.lake.registry import Registry

PROMOTE, ROLLBACK = "promote", "rollback"


def log_of(registry: Registry) -> list[dict[str, Any]]:
    """Entries (at, by, act, version), the oldest first."""
    place = _place(registry)
    return registry.files.get_json(place)["log"] if registry.files.exists(place) else []


def history(registry: Registry) -> list[str]:
    """The versions that rollbacks go back through; the last is the promoted one."""
    stack: list[str] = []
    for entry in log_of(registry):
        if entry["act"] == PROMOTE:
            stack.append(entry["version"])
        else:
            stack.pop()
    return stack


def promoted(registry: Registry) -> str | None:
    """The promoted version, if there is one."""
    return next(reversed(history(registry)), None)


def promote(registry: Registry, version: str) -> None:
    """Make a version the promoted one.

    Raises UserError if it is that already, unknown, or damaged.
    """
    if promoted(registry) == version:
        raise UserError(f"version {version} of model {registry.name} is promoted already")
    registry.version(version).require_whole()
    _append(registry, PROMOTE, version)


def before(registry: Registry) -> str:
    """The version that a rollback would go back to.

    Raises UserError if there is none.
    """
    stack = history(registry)
    if len(stack) < 2:
        found = f"{stack[0]} is the only one" if stack else "none has been"
        raise UserError(
            f"model {registry.name}: no version was promoted before; {found}. To go back to training every night, "
            "set embed.retriever: tonight"
        )
    return stack[-2]


def rollback(registry: Registry) -> str:
    """Go back to the version that was promoted before; returns it.

    Raises UserError if there is none, or it is damaged.
    """
    version = before(registry)
    registry.version(version).require_whole()
    _append(registry, ROLLBACK, version)
    return version


def _append(registry: Registry, act: str, version: str) -> None:
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = {"at": at, "by": who(), "act": act, "version": version}
    registry.files.write_json(_place(registry), {"promoted": version, "log": [*log_of(registry), entry]})


def _place(registry: Registry) -> str:
    return f"models/{registry.name}/promotions.json"


def who() -> str:
    """The user of this process; in a container without a name for it, "unknown"."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
