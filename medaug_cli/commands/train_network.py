"""`medaug train`, and for one task `train-detector`, `train-classifier` and `train-segmenter`: fit a network."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError
from medaug_cli.registry import DEFAULTS

if TYPE_CHECKING:
    from medaug_cli.processes import Group
    from medaug_cli.runs import RunOptions
    from medaug_cli.runs.beside import External


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What `medaug train` is asked for, in the order of its help."""

    store: options.StoreArgument
    task: Annotated[str, typer.Option(help="What to train for: detection, classification, segmentation, or another.")]
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(metavar="STORE", help="Also train on this store of synthetic images; repeat for more."),
    ] = None
    ratio: Annotated[
        float | None, typer.Option(help="Synthetic images per real image; default: as many as there are.")
    ] = None
    synthetic_only: Annotated[
        bool, typer.Option("--synthetic-only", help="Train on --synthetic only; validation stays real.")
    ] = False
    external: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="STORE", help="Also train on this store of annotated images from elsewhere; repeat for more."
        ),
    ] = None
    external_share: Annotated[
        float | None,
        typer.Option(
            help="Share of external images among the real ones of a batch; default: in proportion to their number.",
            min=0.001,
            max=0.99,
        ),
    ] = None
    start: Annotated[Path | None, typer.Option(help="A network to train further, as after --synthetic-only.")] = None
    network: Annotated[
        str | None,
        typer.Option(
            help="Name of a plugin for that task (medaug plugins).  [default: that of --start or of the run to "
            "resume, with its settings, else yolov3 or the only one]"
        ),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Folder for the network.  [default: its kind]")] = None
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps; default: as the run to resume, or the plugin.", min=1)
    ] = None
    epochs: Annotated[
        float | None, typer.Option(help="Epochs, each of as many images as there are real ones.", min=0.01)
    ] = None
    minutes: options.Minutes = None
    fold: options.OneFold = None
    folds: options.FoldsFile = None
    settings: options.Settings = None
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0)] = 60.0
    seed: options.Seed = 0
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    workers: options.PluginWorkers = 0
    resume: options.Resume = False
    overwrite: options.Overwrite = False
    as_json: options.AsJson = False


@options.taken_as(Choices)
def train(chosen: Choices) -> None:
    """Train a network for any installed task, named by --task.

    Example: medaug train real.h5 --task segmentation --network segmenter --out real-only
    """
    from medaug_cli.files import read_json
    from medaug_cli.processes import joined
    from medaug_cli.runs import NetworkMetadata, train_network
    from medaug_cli.runs.advice import of_network
    from medaug_cli.tasks.task import task_named

    task = task_named(chosen.task)
    title = f"train-{task.kind} {chosen.network or ''}".rstrip()
    with joined(chosen.device, console.say) as group, console.bar(title, 1.0, shown=group.leads) as bar:
        folder = train_network(
            task,
            chosen.store,
            chosen.network,
            _run_options(chosen, chosen.out or Path(task.kind), group, bar),
            synthetic=chosen.synthetic or (),
            ratio=chosen.ratio,
            steps=chosen.steps,
            epochs=chosen.epochs,
            minutes=chosen.minutes,
            synthetic_only=chosen.synthetic_only,
            start=chosen.start,
            external=_external(chosen),
        )
    if group.leads:
        console.answer({task.kind: str(folder)}, chosen.as_json, f"{folder}: the {task.kind}")
        console.advise(of_network(task.kind, read_json(folder / f"{task.kind}.json", NetworkMetadata)))


def _external(chosen: Choices) -> "External":
    from medaug_cli.runs.beside import External

    if chosen.external_share is not None and not chosen.external:
        raise UsageError("--external-share needs --external")
    return External(chosen.external or (), labelled=True, share=chosen.external_share)


def _run_options(chosen: Choices, out: Path, group: "Group", bar: console.Bar) -> "RunOptions":
    from medaug_cli.runs import RunOptions

    return RunOptions(
        out=out,
        settings=options.parse_settings(chosen.settings),
        seed=chosen.seed,
        device=chosen.device,
        precision=chosen.precision,
        workers=chosen.workers,
        resume=chosen.resume,
        overwrite=chosen.overwrite,
        checkpoint_seconds=chosen.checkpoint_seconds,
        fold=options.parse_fold(chosen.fold, chosen.folds, chosen.store),
        report=lambda p: bar.to(p.fraction, *console.training_numbers(p.done, p.values, "step")),
        announce=console.say,
        group=group,
    )


def for_task(task: str, kind: str) -> Callable[..., None]:
    """Return the command that trains for one task: `train`, whose --network is called --KIND."""

    def command(**given: Any) -> None:
        train(task=task, network=given.pop(kind), **given)

    own = {
        "network": (str | None, _named(kind), None),
        "start": (Path | None, typer.Option(help=f"A {kind} to train further, as after --synthetic-only."), None),
        "out": (Path, typer.Option(help=f"Folder for the {kind}."), Path(kind)),
    }
    parameters = []
    for parameter in signature(train).parameters.values():
        if parameter.name in own:
            type_, option, default = own[parameter.name]
            name = kind if parameter.name == "network" else parameter.name
            parameter = Parameter(name, parameter.kind, default=default, annotation=Annotated[type_, option])
        if parameter.name != "task":
            parameters.append(parameter)
    command.__signature__ = signature(train).replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__ = (
        f"Train a {kind}, for the same number of optimiser steps with and without --synthetic.\n\n"
        f"Example: medaug train-{kind} real.h5 --synthetic kept.h5 --ratio 1 --out with-synthetic"
    )
    return command


def _named(kind: str) -> Any:
    usual = f"that of --start or of the run to resume, with its settings, else {DEFAULTS[kind]}"
    return typer.Option(help=f"Name of a {kind} plugin (medaug plugins).  [default: {usual}]")


train_detector = for_task("detection", "detector")
train_classifier = for_task("classification", "classifier")
train_segmenter = for_task("segmentation", "segmenter")
