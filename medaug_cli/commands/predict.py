"""`medaug predict`: a trained network on new scans, in their own pixels."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError
from medaug_cli.words import counted


def predict(
    context: typer.Context,
    network: Annotated[
        Path,
        typer.Argument(metavar="NETWORK", help="A folder made by train-detector, train-classifier or train-segmenter."),
    ],
    scans: Annotated[Path, typer.Argument(metavar="SCANS", help="A folder of pictures or volumes, or one file.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="For detections: coco, yolo, csv or dicom-sr; for masks: dicom-seg, in addition to PNG and NIfTI.",
        ),
    ] = "csv",
    threshold: Annotated[float, typer.Option(help="Lowest score of a detection to write.", min=0, max=1)] = 0.1,
    strip: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|NAME|FOLDER",
            help="Brain extraction, if other than that of the training images.",
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y[,Z]",
            help="Pixel spacing in mm, instead of what the files say; default: the training images' --spacing, for "
            "files that say none or 1 mm.",
        ),
    ] = None,
    reader: Annotated[str | None, typer.Option(help="Reader to use where several support a file suffix.")] = None,
    modality: options.Modality = None,
    max_pixels: options.MaxPixels = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Skip damaged scans, and list them, instead of stopping.")
    ] = False,
    workers: options.Workers = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Run a trained network on new scans: boxes, classes or masks, in the scans' own pixels.

    The scans are pre-processed as its training images were; scans.h5 and preprocess.html show what it saw.

    Example: medaug predict detector new-scans/ --out predictions
    """
    from medaug_cli.predicting import PredictOptions, predict
    from medaug_cli.predicting.prediction import kind_of
    from medaug_cli.scans.reading import Reading

    if options.is_given(context, "threshold") and (kind := kind_of(network)) != "detector":
        raise UsageError(f"--threshold is for detections, and {network} holds a {kind}; leave it out")
    with console.bar("predict", 1.0) as bar:
        done = predict(
            PredictOptions(
                network=network,
                scans=scans,
                out=out,
                form=form,
                threshold=threshold,
                strip=strip,
                spacing=options.parse_spacing(spacing),
                reader=reader,
                modality=modality,
                reading=Reading(max_pixels=max_pixels),
                keep_going=keep_going,
                workers=workers,
                device=device,
                overwrite=overwrite,
                report=bar.to,
                announce=console.say,
            )
        )
    words = {
        "detector": f"{counted(done.found, 'detection')} with a score of at least {threshold:g}",
        "classifier": "images.csv and scans.csv hold the probabilities",
        "segmenter": f"something is marked in {counted(done.found, 'scan')}",
    }
    result = {"out": str(out), "kind": done.kind, "scans": done.scans, "images": done.images, "found": done.found}
    console.answer(
        result, as_json, f"{out}: {counted(done.images, 'image')} of {counted(done.scans, 'scan')}; {words[done.kind]}"
    )
