"""`medaug export`: hand on what was trained, a network to other programs, a generator to other people."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder made by train-gan or another training command.")
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", help="For a network: onnx (the default), or a format of its own (darknet)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: FOLDER-FORMAT, FOLDER-shared.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Export a network as ONNX or darknet files, or a generator in a form fit to share: no discriminator, no scans.

    Example: medaug export detector --format onnx
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.runs import export_generator, export_network

    if (folder / "generator.json").is_file():
        if form is not None:
            raise UsageError(f"--format {form} is for detectors and other networks; {folder} holds a generator")
        said = export_generator(folder, out or _beside(folder, "shared"), overwrite)
    else:
        form = form or "onnx"
        said = export_network(folder, form, out or _beside(folder, form), overwrite)
    text = f"{said['out']}: {', '.join(said['files'])}"
    if "differences" in said:
        text += "; ONNX Runtime agrees within " + " and ".join(f"{v:.2g} ({k})" for k, v in said["differences"].items())
    console.answer(said, as_json, text)


def _beside(folder: Path, word: str) -> Path:
    whole = folder if folder.name not in ("", "..") else folder.resolve()
    return whole.with_name(f"{whole.name}-{word.replace('/', '-')}")
