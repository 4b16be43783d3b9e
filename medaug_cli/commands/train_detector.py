"""`medaug train-detector`: fit a detector on real images, with or without synthetic ones."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options


def train_detector(
    store: options.StoreArgument,
    synthetic: Annotated[
        list[Path] | None, typer.Option(help="A store of synthetic images to train on as well; repeat for more.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Synthetic images drawn for one real image; default: as many as there are.")
    ] = None,
    synthetic_only: Annotated[
        bool, typer.Option("--synthetic-only", help="Train on --synthetic alone; validation stays real.")
    ] = False,
    start: Annotated[Path | None, typer.Option(help="A detector to train further, as after --synthetic-only.")] = None,
    detector: Annotated[str, typer.Option(help="Name of a detector plugin (medaug plugins).")] = "yolov3",
    out: Annotated[Path, typer.Option(help="Folder for the detector.")] = Path("detector"),
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over as many images as are real.", min=0.01)] = None,
    minutes: options.Minutes = None,
    settings: options.Settings = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0)] = 60.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    workers: options.Workers = 0,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Fit a detector; with and without --synthetic it takes the same number of optimiser steps.

    Example: medaug train-detector real.h5 --synthetic kept.h5 --ratio 1 --out with-synthetic
    """
    from medaug_cli.processes import joined
    from medaug_cli.runs import RunOptions, train_detector

    with joined(device, console.say) as group, console.bar(f"train-detector {detector}", 1.0, shown=group.leads) as bar:
        folder = train_detector(
            store, detector,
            RunOptions(
                out, options.parse_settings(settings), seed, device, precision, workers, resume, overwrite,
                checkpoint_seconds, lambda p: bar.to(p.fraction, console.numbers(p.done, p.values)), console.say, group,
            ),
            synthetic or (), ratio, steps, epochs, minutes, synthetic_only, start,
        )  # fmt: skip
    if group.leads:
        console.answer({"detector": str(folder)}, as_json, f"{folder}: the detector")
