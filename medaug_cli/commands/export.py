"""`medaug export`: hand a trained detector on to other programs."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options


def export(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="A folder of train-detector.")],
    form: Annotated[str, typer.Option("--format", help="onnx, or a form of the detector's own (darknet).")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: DETECTOR-FORMAT.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a detector as ONNX, checked with ONNX Runtime, or as darknet's cfg and weights.

    Example: medaug export detector --format onnx
    """
    from medaug_cli.runs import export_detector

    said = export_detector(detector, form, out or detector.with_name(f"{detector.name}-{form}"), overwrite)
    text = f"{said['out']}: {', '.join(said['files'])}"
    if "differences" in said:
        text += "; ONNX Runtime agrees within " + " and ".join(f"{v:.2g} ({k})" for k, v in said["differences"].items())
    console.answer(said, as_json, text)
