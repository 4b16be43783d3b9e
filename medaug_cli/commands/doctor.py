"""`medaug doctor`: what this machine has, and what is wrong."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medaug_cli.commands import console, options

GIB = 1 << 30


def doctor(
    folder: Annotated[Path, typer.Option(help="Folder on the disk to check.", exists=True)] = Path("."),
    as_json: options.AsJson = False,
) -> None:
    """Show what this machine offers (devices, memory, versions) and any problems; exit code 1 if there are any.

    Example: medaug doctor
    """
    from medaug_cli.inspection import diagnosis

    found = diagnosis(folder)
    console.answer(found, as_json, _text(found))
    if found["problems"]:
        raise typer.Exit(1)


def _text(found: dict[str, Any]) -> str:
    space, memory = found["disk"], found["memory"]
    lines = [f"medaug {found['medaug']}, Python {found['python']} on {found['platform']}", f"torch {found['torch']}"]
    lines += [
        f"device {one['device']} ({one['name']}), bfloat16 {'in hardware' if one['fast_bf16'] else 'slow'}"
        for one in found["devices"]
    ]
    lines.append(f"{found['cores']} cores, torch uses {found['threads']} threads")
    lines += [f"memory: {memory['free'] / GIB:.1f} GiB free of {memory['total'] / GIB:.1f}"] if memory else []
    lines.append(f"disk of {space['folder']}: {space['free'] / GIB:.1f} GiB free of {space['total'] / GIB:.1f}")
    lines += [
        f"{need['name']} {need['version'] or 'not installed'}" + (f" (part {need['part']})" if need["part"] else "")
        for need in found["dependencies"]
    ]
    lines += [f"{one['kind']} {one['name']}: {one['state']}" for one in found["plugins"]]
    lines += [f"PROBLEM: {problem}" for problem in found["problems"]] or ["nothing is wrong"]
    return "\n".join(lines)
