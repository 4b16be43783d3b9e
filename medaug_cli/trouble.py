"""What a user is told of an error that nobody foresaw: what happened, and where the full report is."""

import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from medaug_cli import __version__

if TYPE_CHECKING:
    from medaug_cli.registry import Plugin


def summary(error: BaseException) -> str:
    """Say in a sentence what happened, and in which plugin, where it was in one."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; try smaller images, a smaller --set batch or fewer --workers"
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    plugin = culprit(error)
    if plugin is None:
        return f"unexpected error ({reason})"
    return f"the {plugin.kind} {plugin.name!r} of {plugin.distribution} failed ({reason})"


def culprit(error: BaseException) -> "Plugin | None":
    """Return the loaded plugin in whose code an error arose, or None."""
    registry = sys.modules.get("medaug_cli.registry")  # nothing is imported in the middle of trouble
    if registry is None:
        return None
    while error.__cause__ is not None:
        error = error.__cause__
    for module in reversed(list(_modules(error.__traceback__))):
        plugin = registry.owner(module)
        if plugin is not None:
            return plugin
    method = re.match(r"([\w.]+)\.\w+\(\) ", str(error)) if isinstance(error, TypeError) else None
    return registry.owner_of_class(method[1]) if method else None  # called with what it does not take: no code ran


def _modules(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next


def written_report(error: BaseException) -> str:
    """Write the traceback to a file that its owner alone can read; say where it is."""
    head = f"medaug {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n"
    text = head + "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="medaug-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError as problem:
        return f"the full report cannot be written ({problem.strerror})"
    return f"the full report is in {file.name}"
