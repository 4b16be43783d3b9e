"""The standard streams of a program whose caller closed them, or whose reader has gone."""

import os
import sys

from medaug_cli.errors import MedaugError


def open_standard_streams() -> None:
    """Put the null device where a standard stream is closed.

    The next file to be opened would take its number, and what a library prints would go into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", errors="replace", closefd=False))


def flush_answer() -> None:
    """Print what waits on stdout; raise MedaugError where that cannot be done."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        raise MedaugError(
            f"the result cannot be printed ({error.strerror or error}); all files that were written are complete"
        ) from error
