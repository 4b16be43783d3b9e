"""`medaug train-gan`: fit a generator on the training split."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options


def train_gan(
    store: options.StoreArgument,
    generator: Annotated[str, typer.Option(help="Name of a generator plugin (medaug plugins).")] = "cpggan",
    out: Annotated[Path, typer.Option(help="Folder for the generator.")] = Path("gan"),
    kimg: Annotated[float | None, typer.Option(help="Train on this many thousand images.", min=0.001)] = None,
    minutes: options.Minutes = None,
    only: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Fit it on the images of one class alone.")
    ] = None,
    each_class: Annotated[
        bool, typer.Option("--each-class", help="Fit one generator for each class; kimg or minutes are for all.")
    ] = False,
    fold: options.OneFold = None,
    folds: options.FoldsFile = None,
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
    """Fit a generator on the real training images of a store, and on nothing else.

    Example: medaug train-gan real.h5 --generator boxgan --minutes 30
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.files import read_json
    from medaug_cli.processes import joined
    from medaug_cli.runs import GeneratorMetadata, RunOptions, train_each_class, train_generator
    from medaug_cli.runs.advice import of_generator

    if each_class and only is not None:
        raise UsageError("--class takes one class, and --each-class all of them; give one of the two")
    with joined(device, console.say) as group, console.bar(f"train-gan {generator}", 1.0, shown=group.leads) as bar:
        run = RunOptions(
            out,
            options.parse_settings(settings),
            seed=seed,
            device=device,
            precision=precision,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            checkpoint_seconds=checkpoint_seconds,
            fold=options.parse_fold(fold, folds, store),
            report=lambda p: bar.to(p.fraction, *console.training_numbers(p.done, p.values, "images")),
            announce=console.say,
            group=group,
        )
        if each_class:
            folder = train_each_class(store, generator, run, kimg, minutes)
        else:
            folder = train_generator(store, generator, run, kimg, minutes, only=only)
    if group.leads:
        advice = of_generator(read_json(folder / "generator.json", GeneratorMetadata))
        what = "a generator for each class" if each_class else f"the generator, and sample grids in {folder}/samples"
        console.answer({"generator": str(folder)}, as_json, f"{folder}: {what}")
        console.advise(advice)
