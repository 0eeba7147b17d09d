"""What can end a run, apart from bugs: each is told in full, without a stack trace, and decides the exit code."""

import re


class UserError(Exception):
    """The user's to mend: what is wrong, where, what was found and what would do. Exit code 2."""


class RunFailed(Exception):
    """Not the user's doing: ranks were lost, or what was made fails its checks. Exit code 1."""


# What Spark, Hadoop and pyarrow say of a network or a service that may answer a little later.
TRANSIENT = re.compile(
    "SocketTimeout|ConnectTimeout|ConnectException|NoRouteToHost|UnknownHost|StandbyException|RetriableException|SafeModeException|SlowDown|"
    "Service ?Unavailable|[Ss]tatus [Cc]ode: 503|Connection re(set|fused)|[Tt]imed out|Temporary failure in name resolution|Could not resolve host"
)


def failing(told: str, said: str) -> Exception:
    """The error to raise with this message. said: all that is known of the cause.

    RunFailed, which a scheduler tries again, where a network or a service did not answer; else UserError.
    """
    return (RunFailed if TRANSIENT.search(said) else UserError)(told)


class HeldBack(RunFailed):
    """The lists are sound, but too far from those published before: nothing was published. Exit code 3."""
