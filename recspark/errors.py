"""Errors that are the user's to mend, as opposed to bugs: they are shown in full, without a stack trace."""


class UserError(Exception):
    """What is wrong, where, what was found and what would do, in one message. The command line exits with 2."""
