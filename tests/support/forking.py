"""The command line in forks of one process, so that its imports are paid once, killed where a test asks for it."""

import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback

import torch

import medaug_cli

for heavy in ("SimpleITK", "matplotlib.pyplot", "numba", "scipy.stats", "sklearn.ensemble", "sklearn.manifold"):
    importlib.import_module(heavy)  # once, before the forks
for module in pkgutil.walk_packages(medaug_cli.__path__, "medaug_cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
torch.zeros(1)


def medaug(arguments, folder, kill_after=None):
    """Run the command line in a fork of this process, so that its imports are paid once; return its status."""
    child = os.fork()
    if child == 0:
        null, said = os.open(os.devnull, os.O_RDWR), os.open(folder / "said.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for stream, to in ((0, null), (1, said), (2, said)):
            os.dup2(to, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, encoding="utf-8") for stream in (1, 2))
        os.chdir(folder)
        sys.argv = ["medaug", *arguments]
        try:
            from medaug_cli.cli import main

            main()
        except SystemExit as stop:
            os._exit(stop.code or 0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(99)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
