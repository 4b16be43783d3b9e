"""The command line in this process, where neither its end nor its imports are what is tested."""

import signal
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout

from medaug_cli.cli import main

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def medaug(arguments, folder):
    """Run the command line in a folder; return its status, and leave there what it said in said.txt."""
    line, handlers = sys.argv, [signal.getsignal(each) for each in SIGNALS]
    sys.argv = ["medaug", *map(str, arguments)]
    with (folder / "said.txt").open("w", encoding="utf-8") as said, chdir(folder):
        try:
            with redirect_stdout(said), redirect_stderr(said):
                main()
        except SystemExit as stop:
            return stop.code or 0
        finally:
            sys.argv = line
            for each, handler in zip(SIGNALS, handlers, strict=True):
                signal.signal(each, handler)
    return 0
