"""Run checks one after another and say what came of each."""

import contextlib
import io
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from medaug_cli.errors import BrokenContract, MedaugError, MissingPlugin, UsageError


class CheckFailed(Exception):
    """A rule of the contract is broken; the message is a sentence for the plugin's author."""


@dataclass(frozen=True)
class Result:
    """One check: what was looked at, whether it holds, and a sentence."""

    name: str
    ok: bool
    sentence: str


@dataclass
class Checks:
    """Collects results. A check is a function that returns what it found in order, or raises."""

    report: Callable[[str], None] = lambda name: None  # hears of each check before it runs
    results: list[Result] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Run one check and note the result; return whether it held."""
        self.report(name)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                sentence, ok = check(), True
        except (CheckFailed, BrokenContract) as error:
            sentence, ok = str(error), False
        except Exception as error:
            sentence, ok = _words(error), False
        if ok and said.getvalue():
            start = said.getvalue().strip()[:40]
            sentence, ok = f"it prints to stdout ({start!r}); only commands print, a plugin uses run.log", False
        self.results.append(Result(name, ok, sentence))
        return ok


def _words(error: Exception) -> str:
    """Say which exception was raised, and where in the plugin."""
    if isinstance(error, (MissingPlugin, UsageError)):
        return str(error)
    if isinstance(error, MedaugError):
        return f"it refuses what its capabilities promise: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"it raises {type(error).__name__}: {error}{place}"


def require(condition: object, sentence: str) -> None:
    """Raise CheckFailed with a sentence unless the condition holds."""
    if not condition:
        raise CheckFailed(sentence)
