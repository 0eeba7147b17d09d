"""What can end a run, apart from bugs: each is told in full, without a stack trace, and decides the exit code."""


class UserError(Exception):
    """The user's to mend: what is wrong, where, what was found and what would do. Exit code 2."""


class RunFailed(Exception):
    """Not the user's doing: ranks were lost, or what was made fails its checks. Exit code 1."""


class HeldBack(RunFailed):
    """The lists are sound, but too far from those published before: nothing was published. Exit code 3."""
