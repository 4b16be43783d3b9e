"""`medaug boxes`: turn annotations of one form into another."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options
from medaug_cli.words import counted


def boxes(
    marks: Annotated[Path, typer.Argument(metavar="MARKS", help="Boxes or masks in any format that preprocess reads.")],
    scans: Annotated[Path, typer.Option(help="The scans they belong to.")],
    to: Annotated[str, typer.Option(help="boxes, coco, csv, monai, voc or yolo.")],
    out: Annotated[Path, typer.Option(help="File to write; a folder for voc and yolo.")],
    min_area: Annotated[
        int, typer.Option(help="Smallest component of a mask that counts as a lesion, in pixels or voxels.", min=1)
    ] = 10,
    box_mode: options.BoxMode = None,
    modality: options.Modality = None,
    max_pixels: options.MaxPixels = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Convert annotations to another format, in the pixels of the scans as stored.

    Example: medaug boxes masks/ --scans scans/ --to coco --out boxes.json
    """
    from medaug_cli.forms.converting import convert

    made = convert(
        marks,
        scans,
        to,
        out,
        overwrite=overwrite,
        box_mode=box_mode,
        modality=modality,
        max_pixels=max_pixels,
        least=min_area,
        say=console.say,
    )
    count = sum(len(image.boxes) for image in made.images)
    result = {"out": str(out), "form": to, "images": len(made.images), "boxes": count}
    console.answer(result, as_json, f"{out}: {counted(count, 'box')} of {counted(len(made.images), 'image')} as {to}")
