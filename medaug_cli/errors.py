"""The errors of medaug: one sentence for a person, one exit code for a script."""


class MedaugError(Exception):
    """Say in one sentence which file, what is wrong with it and what the choices are."""

    exit_code = 1


class UsageError(MedaugError):
    """The command was asked for something that does not fit together (exit code 2)."""

    exit_code = 2


class BadInput(MedaugError):
    """A file or folder that was given holds what cannot be used (exit code 3)."""

    exit_code = 3


class MissingPlugin(MedaugError):
    """A plugin or an optional part is not installed, or does not load (exit code 4)."""

    exit_code = 4


class BrokenContract(MedaugError):
    """A plugin yields what its contract does not allow; the message says what, and what is expected."""


class Interrupted(BaseException):
    """The person or the cluster asked the command to stop (exit code 130): no fault of a file or a plugin.

    As KeyboardInterrupt it is no Exception, so that nothing that handles faults takes it for one.
    """

    exit_code = 130
