"""How commands speak: results on stdout, everything else on stderr."""

import json
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, TextIO

import typer

from medaug_cli.commands.progress_line import FULL, in_words, progress_line
from medaug_cli.commands.table_lines import table_lines
from medaug_cli.errors import UsageError
from medaug_cli.tables import Table, printable
from medaug_cli.words import counted, duration

Params = ParamSpec("Params")
FIRST_SECONDS, QUIET_SECONDS = 5.0, 30.0  # until the first sentence where stderr is not a terminal, and between two


def say(sentence: str) -> None:
    """Tell the person something, on stderr."""
    sys.stderr.write(_fitting(printable(sentence), sys.stderr) + "\n")


def advise(facts: Sequence[str]) -> None:
    """Say what a person may want to change, after the answer."""
    for fact in facts:
        say(fact)


def answer(value: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print the result: one JSON object (ASCII, whatever the terminal takes), or a text for a person."""
    _release_stdout()
    said = json.dumps(value, allow_nan=False) if as_json else _fitting(printable(text), sys.stdout)
    sys.stdout.write(f"{said}\n")


def show(table: Table) -> None:
    """Print a table and its notes on stdout; on a terminal notes are broken between words."""
    _release_stdout()
    width, notes = shutil.get_terminal_size().columns, [printable(sentence) for sentence in table.notes]
    if sys.stdout.isatty():
        notes = [typer.style(line, dim=True) for sentence in notes for line in wrapped(sentence, width)]
    sys.stdout.writelines(f"{line}\n" for line in [*table_lines(table, width), *notes])


def _fitting(text: str, stream: TextIO) -> str:
    """Return a text whose long lines are broken between words where it goes to a terminal; as it is elsewhere."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(part for line in text.split("\n") for part in wrapped(line, width) or [""])


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most so many columns, broken between words; longer words stay whole.

    The first line's indentation is that of all.
    """
    indent = text[: len(text) - len(text.lstrip(" "))]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


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
    """A line of progress on a terminal; a sentence now and then elsewhere."""

    def __init__(self, title: str, total: float | None, things: str = "", shown: bool = True, paced: bool = True):
        self.title, self._total, self._things = title, total, things
        self._paced = paced  # whether equal parts take about equally long
        self._done, self._numbers = 0.0, tuple[str, ...]()
        self._started = time.monotonic()
        self._speaks = self._started + FIRST_SECONDS if shown and not sys.stderr.isatty() else float("inf")
        self._began: tuple[float, float] | None = None  # when, and what was done then

    def to(self, done: float, *numbers: str) -> None:
        """Move the bar to `done` of its total; show two of `numbers`, each with its name, such as "1,120 images"."""
        self._done, self._numbers = done, tuple(number for number in numbers if number)
        self._began = self._began or (time.monotonic(), done)
        if time.monotonic() >= self._speaks:
            self._speaks = time.monotonic() + QUIET_SECONDS
            say(in_words(self.title, self.share, self.left, self.numbers))

    def by(self, more: float, *numbers: str) -> None:
        """Move the bar on by `more`."""
        self.to(self._done + more, *numbers)

    def line(self, width: int) -> str:
        """Return what a terminal of so many columns shows."""
        return progress_line(self.title, self.share, self.left, self.numbers, width)

    @property
    def share(self) -> float | None:
        """Return how much is done; None where nobody knows how much there is."""
        return self._done / self._total if self._total and math.isfinite(self._total) else None

    @property
    def left(self) -> str:
        """Return "12 min left" at the pace so far; nothing before there is a pace."""
        started, before = self._began or (0.0, 0.0)
        gone, made = time.monotonic() - started, self._done - before
        if not self._paced or made <= 0 or self.share is None or self._total is None or self.share >= 1:
            return ""
        return f"{duration(gone * max(0.0, self._total - self._done) / made)} left"

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return two numbers with their names: those that were given, what is counted, and the time so far."""
        counted = () if not self._things else (f"{self._done:,.0f} of {self._total or 0:,.0f} {self._things}",)
        known, gone = (*self._numbers, *counted), duration(time.monotonic() - self._started)
        return (*known, f"in {gone}")[:2] if known else (f"{gone} so far",)


@contextmanager
def steps(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show which of a few steps is at work, `report(done, of, words)`, where none says how long the next one takes."""
    with bar(title, 1.0, paced=False) as progress:
        yield lambda done, of, words: progress.to(done / of, f"step {done + 1} of {of}", words)


@contextmanager
def bar(title: str, total: float | None, things: str = "", shown: bool = True, paced: bool = True) -> Iterator[Bar]:
    """Show progress on stderr while the block runs; `things` are what is counted, such as "images"."""
    progress = Bar(title, total, things, shown, paced)
    if not shown or not sys.stderr.isatty():
        yield progress
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)

    def text() -> Text:
        line = Text(progress.line(console.width - 1), no_wrap=True, overflow="crop")
        line.highlight_regex(f"{FULL}+", "cyan")
        return line

    with Live(get_renderable=text, console=console, refresh_per_second=4):
        yield progress


def training_numbers(done: int, values: Mapping[str, float], thing: str) -> tuple[str, str]:
    """Return what a training run shows: "1,120 images", and its score where it was just measured, else its loss.

    All of `values` are in metrics.jsonl.
    """
    name = "score" if "score" in values else next(iter(values), None)
    return counted(done, thing), "" if name is None else f"{name} {values[name]:.3g}"
