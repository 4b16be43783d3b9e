"""How commands speak: results on stdout, everything else on stderr."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

import typer

from medaug_cli.commands.table_lines import table_lines
from medaug_cli.errors import UsageError
from medaug_cli.tables import Table, printable

if TYPE_CHECKING:
    from rich.progress import Progress

Params = ParamSpec("Params")
QUIET_SECONDS = 30.0  # between lines where stderr is no terminal


def say(sentence: str) -> None:
    """Tell the person something, on stderr."""
    sys.stderr.write(printable(sentence) + "\n")


def answer(value: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print the result: one JSON object (ASCII, whatever the terminal takes), or a text for a person."""
    _release_stdout()
    sys.stdout.write((json.dumps(value, allow_nan=False) if as_json else printable(text)) + "\n")


def show(table: Table) -> None:
    """Print a table and its notes on stdout."""
    _release_stdout()
    notes = [printable(sentence) for sentence in table.notes]
    if sys.stdout.isatty():
        notes = [typer.style(sentence, dim=True) for sentence in notes]
    sys.stdout.writelines(f"{line}\n" for line in [*table_lines(table, shutil.get_terminal_size().columns), *notes])


def answering(command: Callable[Params, None]) -> Callable[Params, None]:
    """Keep stdout for a command's answer: what plugins and their libraries print there goes to stderr."""

    @wraps(command)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> None:
        _refuse_infinite(kwargs)
        _reserve_stdout()
        try:
            command(*args, **kwargs)
        except SystemExit as error:  # commands leave by typer.Exit; this is a plugin or a library
            raise RuntimeError(f"it asked to exit: {error}") from error
        finally:
            _release_stdout()

    return run


def _refuse_infinite(options: Mapping[str, Any]) -> None:
    """Raise UsageError where an option is "nan" or "inf": numbers for Python, and no amount of anything here."""
    for name, value in options.items():
        numbers = value if isinstance(value, list) else [value]
        wrong = next((each for each in numbers if isinstance(each, float) and not math.isfinite(each)), None)
        if wrong is not None:
            raise UsageError(f"--{name.replace('_', '-')} {wrong}: expected a finite number")


_reserved: list[tuple[TextIO, int | None]] = []  # the stdout of a command that has not answered, its descriptor's copy


def _reserve_stdout() -> None:
    if _reserved:
        return
    stdout, copy = sys.stdout, None
    if sys.__stdout__ is not None and stdout is sys.__stdout__:  # for programs that plugins start
        with suppress(OSError, ValueError):
            stdout.flush()
            copy = os.dup(1)
            os.dup2(2, 1)
    _reserved.append((stdout, copy))
    sys.stdout = sys.stderr


def _release_stdout() -> None:
    while _reserved:
        stdout, copy = _reserved.pop()
        sys.stdout = stdout
        if copy is not None:
            os.dup2(copy, 1)
            os.close(copy)


class Bar:
    """A progress bar on a terminal; a line now and then elsewhere."""

    def __init__(self, progress: "Progress | None", title: str, total: float):
        self._progress, self._title, self._total, self._done = progress, title, total, 0.0
        self._task = progress.add_task(title, total=total, note="") if progress else None
        self._spoke = time.monotonic()
        self._began: tuple[float, float] | None = None  # when, and what was done then

    def to(self, done: float, note: str = "") -> None:
        """Move the bar to `done` of its total."""
        self._done = done
        self._began = self._began or (time.monotonic(), done)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._spoke > QUIET_SECONDS:
            self._spoke = time.monotonic()
            say(f"{self._title}: {100 * done / self._total:.0f} % {note}{self._left()}".rstrip())

    def _left(self) -> str:
        """Return ", 12 min left" at the pace so far; nothing before there is a pace."""
        started, before = self._began or (0.0, 0.0)
        gone, made = time.monotonic() - started, self._done - before
        if made <= 0 or not 0 < self._total < float("inf"):
            return ""
        left = gone * max(0.0, self._total - self._done) / made
        return f", {left / 60:.0f} min left" if left >= 60 else f", {left:.0f} s left"

    def by(self, more: float, note: str = "") -> None:
        """Move the bar on by `more`."""
        self.to(self._done + more, note)


@contextmanager
def bar(title: str, total: float, shown: bool = True) -> Iterator[Bar]:
    """Show progress on stderr while the block runs."""
    if not shown or not sys.stderr.isatty():
        yield Bar(None, title, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress, title, total)


def numbers(done: int, values: Mapping[str, float]) -> str:
    """Return "12,800 loss 0.41" for a progress line."""
    return " ".join([f"{done:,}", *(f"{name} {value:.3g}" for name, value in values.items())])
