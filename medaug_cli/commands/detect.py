"""`medaug detect`: what a detector finds, in the pixels of the scans."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options
from medaug_cli.words import counted


def detect(
    store: options.StoreArgument,
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="A folder made by train-detector.")],
    form: Annotated[str, typer.Option("--format", help="coco, yolo, csv or dicom-sr.")] = "coco",
    threshold: Annotated[float, typer.Option(help="Lowest score of a detection to write.", min=0, max=1)] = 0.1,
    split: Annotated[str | None, typer.Option(help="train, val or test; default: all.")] = None,
    scans: Annotated[Path | None, typer.Option(help="The folder that preprocess read (for dicom-sr).")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("detections"),
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write what a detector finds in a store, in the pixels of the scans that it was made from.

    Example: medaug detect real.h5 detector --split test --format csv --out detections
    """
    from medaug_cli.detecting import detect

    with console.bar("detect", 1.0) as bar:
        count = detect(
            store,
            detector,
            out=out,
            form=form,
            threshold=threshold,
            split=split,
            scans=scans,
            device=device,
            overwrite=overwrite,
            report=lambda done, all: bar.to(done / all, f"{done} of {all} images"),
        )
    result = {"out": str(out), "format": form, "threshold": threshold, "detections": count}
    console.answer(result, as_json, f"{out}: {counted(count, 'detection')} as {form}")
