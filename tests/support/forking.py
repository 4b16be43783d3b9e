"""The command line in forks of one process, so that its imports are paid once, killed where a test asks for it."""

import builtins
import functools
import gc
import importlib
import io
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import medaug_cli
from medaug_cli.outlet import Outlet

HEAVY = (
    "SimpleITK", "torch", "torch._dynamo", "matplotlib.pyplot", "numba", "scipy.stats", "sklearn.ensemble",
    "sklearn.manifold", "h5py", "jinja2", "safetensors.torch", "PIL.ImageFont", "PIL.JpegImagePlugin", "PIL.features",
    "medaug_plugins.readers",
)  # fmt: skip


@functools.cache
def _load():
    """Import what commands import, once before the first fork, and keep it from the garbage collector of forks."""
    for module in pkgutil.walk_packages(medaug_cli.__path__, "medaug_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for heavy in HEAVY:
        importlib.import_module(heavy)
    gc.collect()
    gc.freeze()


def forked(work, folder, said="said.txt"):
    """Call a function in a fork of this process, so that its imports are paid once; return the fork.

    It runs in `folder`, reads nothing, and writes into the file `said` there.
    """
    _load()
    child = os.fork()
    if child:
        return child
    import torch

    null, told = os.open(os.devnull, os.O_RDWR), os.open(folder / said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for stream, to in ((0, null), (1, told), (2, told)):
        os.dup2(to, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, encoding="utf-8") for stream in (1, 2))
    os.chdir(folder)
    torch.set_num_threads(1)  # threads that the parent may have begun are not in the fork, which would wait for them
    try:
        work()
    except SystemExit as stop:
        os._exit(stop.code or 0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(99)
    os._exit(0)


def command(arguments, prepare=lambda: None):
    """Return a function that calls `prepare` and runs the command line."""

    def work():
        sys.argv = ["medaug", *map(str, arguments)]
        prepare()
        from medaug_cli.cli import main

        main()

    return work


def started(arguments, folder, prepare=lambda: None, said="said.txt"):
    """Run the command line in a fork of this process, where `prepare` is called first; return the fork."""
    return forked(command(arguments, prepare), folder, said)


def ended(child):
    """Wait for a fork and return its status: an exit code, or a signal's number below zero."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def medaug(arguments, folder, kill_after=None, prepare=lambda: None):
    """Run the command line in a fork; return its status."""
    child = started(arguments, folder, prepare)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return ended(child)


def spoken(arguments, folder, prepare=lambda: None):
    """Run the command line in a fork; return its status, what it printed, and what it said on stderr."""
    with tempfile.TemporaryDirectory() as place:
        printed, said = (Path(place) / name for name in ("printed.txt", "said.txt"))

        def apart():
            os.dup2(os.open(printed, os.O_CREAT | os.O_WRONLY), 1)
            prepare()

        code = ended(started(arguments, folder, apart, said))
        return code, printed.read_text(encoding="utf-8"), said.read_text(encoding="utf-8")


def together(first, second, folder):
    """Run two command lines at the same time; return their statuses and what each said."""
    children = [started(line, folder, said=f"said{i}.txt") for i, line in enumerate((first, second))]
    codes = [ended(child) for child in children]
    return codes, [(folder / f"said{i}.txt").read_text(encoding="utf-8") for i in range(2)]


CHANGES = ("replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "truncate", "ftruncate", "fsync")


def dying(call, counter=None, inside=False, names=CHANGES):
    """Return what makes a process die right before its change number `call` to the disk; a counter hears of each.

    Changes are what Python asks the system for: renames, removals, new folders, flushes, and files opened to write;
    with `inside` also what HDF5 and torch write into a file, piece by piece, and with `names` those of `os` alone.
    """

    def prepare():
        seen, here = [0], os.getpid()

        def dies(change):
            def changed(*arguments, **options):
                if os.getpid() != here:
                    return change(*arguments, **options)
                if counter is not None:
                    os.write(counter, b".")
                if seen[0] == call:
                    os.kill(here, signal.SIGKILL)
                seen[0] += 1
                return change(*arguments, **options)

            return changed

        for name in names:
            setattr(os, name, dies(getattr(os, name)))
        if names != CHANGES:
            return
        if inside:
            Outlet.write = dies(Outlet.write)
        opened = io.open

        def opens(file, mode="r", *arguments, **options):
            change = dies(opened) if set(mode) & set("wax+") else opened
            return change(file, mode, *arguments, **options)

        io.open = builtins.open = opens

    return prepare


def changes_of(arguments, folder, inside=False):
    """Run the command line and return how often it changes the disk."""
    counting = folder / ".counted"
    counter = os.open(counting, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)  # a pipe takes 64 kB
    try:
        code = medaug(arguments, folder, prepare=dying(-1, counter, inside))
        assert code == 0, (folder / "said.txt").read_text(encoding="utf-8")
        return counting.stat().st_size
    finally:
        os.close(counter)
        counting.unlink()
