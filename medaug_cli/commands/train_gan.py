"""`medaug train-gan`: fit a generator on the training split."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medaug_cli.commands import console, options


def train_gan(
    store: options.StoreArgument,
    generator: Annotated[
        str | None,
        typer.Option(
            help="Name of a generator plugin (medaug plugins).  [default: that of --start or of the run to resume, "
            "with its settings, else cpggan]"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the generator.")] = Path("gan"),
    kimg: Annotated[
        float | None,
        typer.Option(
            help="Train on this many thousand images; default: as the run to resume, or the plugin.", min=0.001
        ),
    ] = None,
    minutes: options.Minutes = None,
    only: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Train on the images of one class only.")
    ] = None,
    each_class: Annotated[
        bool, typer.Option("--each-class", help="Train one generator per class; --kimg or --minutes is the total.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|NAME", help="Continue from a trained generator, or from installed weights (medaug plugins)."
        ),
    ] = None,
    external: Annotated[
        list[Path] | None,
        typer.Option(metavar="STORE", help="Also learn from this store of images from elsewhere; repeat for more."),
    ] = None,
    external_labels: Annotated[
        Literal["none", "noisy"],
        typer.Option(help="noisy: use the boxes, masks and classes of external images, where they have any."),
    ] = "none",
    external_share: Annotated[
        float | None,
        typer.Option(
            help="Share of each batch for external and unannotated images (0: ignore unannotated ones); default: in "
            "proportion to their number, at most half.",
            min=0,
            max=0.99,
        ),
    ] = None,
    external_anneal: Annotated[
        float, typer.Option(help="Lower that share to zero over this last part of the run (0 to 1).", min=0, max=1)
    ] = 0.0,
    fold: options.OneFold = None,
    folds: options.FoldsFile = None,
    settings: options.Settings = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0)] = 60.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    workers: options.PluginWorkers = 0,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a generator on the real training images of a store, and on external images if given.

    Example: medaug train-gan real.h5 --generator boxgan --minutes 30
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.files import read_json
    from medaug_cli.processes import joined
    from medaug_cli.runs import GeneratorMetadata, RunOptions, train_each_class, train_generator
    from medaug_cli.runs.advice import of_generator
    from medaug_cli.runs.beside import External

    if each_class and only is not None:
        raise UsageError("--class takes one class and --each-class all of them; give only one of them")
    if start is not None and each_class:
        raise UsageError("--start takes the weights of a single generator; leave --each-class out")
    if external and (each_class or only is not None):
        raise UsageError(
            "--external cannot be combined with --class or --each-class: the classes of its images are not known"
        )
    if (external_share or external_anneal) and (each_class or only is not None):
        raise UsageError(
            "--external-share and --external-anneal cannot be combined with --class or --each-class, which learn from "
            "the annotated images of the store alone"
        )
    if external_labels != "none" and not external:
        raise UsageError("--external-labels needs --external")
    with joined(device, console.say) as group, console.bar(_title(generator, start), 1.0, shown=group.leads) as bar:
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
            report=lambda p: bar.to(p.fraction, *console.training_numbers(p.done, p.values, "image")),
            announce=console.say,
            group=group,
        )
        if each_class:
            folder = train_each_class(store, generator, run, kimg, minutes)
        else:
            beside = External(
                external or (), labelled=external_labels == "noisy", share=external_share, anneal=external_anneal
            )
            folder = train_generator(store, generator, run, kimg, minutes, only=only, external=beside, start=start)
    if group.leads:
        advice = of_generator(read_json(folder / "generator.json", GeneratorMetadata))
        what = "a generator for each class" if each_class else f"the generator, and sample grids in {folder}/samples"
        console.answer({"generator": str(folder)}, as_json, f"{folder}: {what}")
        console.advise(advice)


def _title(generator: str | None, start: str | None) -> str:
    return f"train-gan {generator or start or ''}".rstrip()
