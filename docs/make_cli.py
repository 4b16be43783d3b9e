"""Write docs/cli.md, the reference of the command line, from the commands themselves: `python docs/make_cli.py`."""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from medaug_cli.cli import GROUPS, app

NAMES = {"str": "TEXT", "text": "TEXT", "int": "N", "integer": "N", "float": "X", "path": "PATH", "file": "PATH"}
BRACKETS = re.compile(r"(?:\s*\[(?:required|default: [^\]]*|[^\]]*[<>]=?[^\]]*)(?:; [^\]]*)?\])+$")
PIPE = "\\|"
PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Every command and option

Made from the code by `python docs/make_cli.py`; `medaug COMMAND --help` says the same. `--json` prints one JSON object
on stdout and nothing else there; progress, and what a person should know, go to stderr.
"""


def reference() -> str:
    """Return the page."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    parts = [HEAD]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        parts += [part for name in names for part in _described(commands[name], f"medaug {name}")]
    return "\n".join(parts)


def _described(command: Any, called: str) -> Iterator[str]:
    """Yield the parts of a command's section: its sentence, its example, its options; or those of its commands."""
    sentence, _, example = inspect.cleandoc(command.help or "").partition("Example:")
    yield f"### {called}\n\n{' '.join(sentence.split())}\n"
    if example.strip():
        yield f"```sh\n{example.strip()}\n```\n"
    context = command.make_context(called, [], resilient_parsing=True)
    rows = [_row(parameter, context) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield "| argument or option | what | default |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    for name, each in getattr(command, "commands", {}).items():
        yield from _described(each, f"{called} {name}")


def _row(parameter: Any, context: typer.Context) -> str:
    """Return a row of the table of options."""
    name, said = parameter.get_help_record(context)
    said = BRACKETS.sub("", " ".join(said.split()))
    default = "required" if parameter.required else _default(parameter.default)
    return f"| {' | '.join(cell.replace('|', PIPE) for cell in (f'`{_called(name)}`', said, default))} |"


def _called(name: str) -> str:
    """Return "--size N" for "--size <int>" or "--size INTEGER RANGE"; of an argument its name alone."""
    if not name.startswith("-"):
        return name.partition(" <")[0]
    option, _, kind = name.partition(" ")
    for left, right in ("<>", "[]"):
        kind = kind[1:-1] if kind.startswith(left) and kind.endswith(right) else kind
    kind = kind.removesuffix(" range").removesuffix(" RANGE")
    return f"{option} {NAMES.get(kind.lower(), kind)}".strip()


def _default(value: Any) -> str:
    if value is None or value is False or value == () or value == [] or callable(value):
        return ""
    return f"`{value}`"


def main() -> None:
    """Write the page; with --check compare it with the one that is there, and exit with 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is out of date")
    text = reference()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif text != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE} is out of date; make it with python docs/make_cli.py")


if __name__ == "__main__":
    main()
