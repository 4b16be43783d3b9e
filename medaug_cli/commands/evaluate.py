"""`medaug evaluate`: measure detectors, classifiers, segmenters, or anyone's answers in files, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError
from medaug_cli.tables import Cell, fixed, name, table

if TYPE_CHECKING:
    from medaug_cli.evaluation.folder import Request
    from medaug_cli.evaluation.whole_images import TaskRequest
    from medaug_cli.metrics.report import Metrics
    from medaug_cli.tasks.report import TaskMetrics


DETECTIONS = ("iou", "rule", "sizes", "threshold", "write")  # options of detections alone
NOT_COCO = (*DETECTIONS, "split", "fold", "folds", "predictions", "images", "patients", "note")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What `medaug evaluate` is asked for, in the order of its help."""

    context: typer.Context
    store: Annotated[Path | None, typer.Argument(metavar="REAL.H5", help="A store made by preprocess.")] = None
    detectors: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NETWORK...", help="Folders of trained networks, or NAME=FOLDER; NAME=A,B for several seeds of one."
        ),
    ] = None
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test"
    fold: options.OneFold = None
    folds: options.FoldsFile = None
    truth: Annotated[
        Path | None,
        typer.Option(help="Instead of a store: COCO annotations, a CSV (image, class, patient) or a folder of masks."),
    ] = None
    detections: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Detections: COCO JSON, CSV or a YOLO folder, or NAME=FILE; NAME=A,B for several seeds; repeat for "
            "more.",
        ),
    ] = None
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="CSV (image, one column per class) or folder of masks, or NAME=PATH; NAME=A,B for several seeds; "
            "repeat for more.",
        ),
    ] = None
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to show them (with --truth).")] = None
    patients: Annotated[
        Path | None,
        typer.Option(help="CSV (image, patient) that names the patient of each image (with --predictions)."),
    ] = None
    iou: Annotated[
        list[float] | None,
        typer.Option(metavar="IOU", help="IoU that makes a hit; repeat for more.  [default: 0.5 and 0.25]"),
    ] = None
    rule: Annotated[str, typer.Option(help="Rule for what counts as a hit: coco, voc, luna or center.")] = "coco"
    sizes: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Limits between groups of lesion size, in pixels, or in mm where known."),
    ] = None
    threshold: Annotated[float, typer.Option(help="Lowest score that counts in Table 1.")] = 0.001
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the patients for each interval.", min=100)] = (
        2000
    )
    overlays: Annotated[
        str, typer.Option(help="Number of images to show with boxes, outlines or mistakes, or all.")
    ] = "12"
    write: Annotated[
        list[str] | None,
        typer.Option(metavar="csv|yolo", help="Also write detections as csv or yolo; repeat for both."),
    ] = None
    coco_only: Annotated[
        bool, typer.Option("--coco-only", help="Print only COCO's twelve numbers, and write nothing (with --truth).")
    ] = False
    note: Annotated[str | None, typer.Option(help="A sentence on the data, printed with every table.")] = None
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("evaluation")
    seed: options.Seed = 0
    device: options.Device = "auto"
    overwrite: options.Overwrite = False
    as_json: options.AsJson = False


@options.taken_as(Choices)
def evaluate(chosen: Choices) -> None:
    """Evaluate networks on a split, or anyone's results in files, and compare each with the first.

    The folders say which kind they hold: detectors, classifiers or segmenters. Without a store: --truth with
    --detections (COCO) or with --predictions (probabilities of classes, or masks).

    Example: medaug evaluate real.h5 real-only with-synthetic --split test --out evaluation
    """
    if chosen.coco_only:
        _evaluate_coco_only(chosen)
    elif chosen.predictions or (chosen.detectors and _of_whole_images(chosen.detectors)):
        _evaluate_whole_images(chosen)
    else:
        _evaluate_detections(chosen)


def _evaluate_coco_only(chosen: Choices) -> None:
    from medaug_cli.evaluation.arguments import named_paths
    from medaug_cli.evaluation.coco_only import twelve_of_files

    if chosen.truth is None or not chosen.detections or chosen.store is not None:
        raise UsageError("--coco-only needs --truth and --detections")
    _refuse(chosen, NOT_COCO, "with --coco-only: the twelve numbers are by COCO's own rule")
    numbers = twelve_of_files(chosen.truth, named_paths(chosen.detections), console.say)
    _show_twelve(numbers, chosen.as_json)


def _evaluate_whole_images(chosen: Choices) -> None:
    """Measure classifiers or segmenters, or anyone's probabilities or masks."""
    _refuse(chosen, DETECTIONS, "for classes or masks: it is for detections")
    with console.bar("evaluate", 1.0) as bar:
        request = _task_request(chosen, bar)
        metrics = _of_predictions(chosen, request) if chosen.predictions else _of_networks(chosen, request)
    _show_whole_images(metrics, chosen.out, chosen.as_json)


def _task_request(chosen: Choices, bar: console.Bar) -> "TaskRequest":
    from medaug_cli.evaluation.whole_images import TaskRequest

    shown = {"pictures": _count(chosen.overlays)} if options.is_given(chosen.context, "overlays") else {}
    store = chosen.store
    return TaskRequest(
        out=chosen.out,
        split=chosen.split,
        fold=None if store is None else options.parse_fold(chosen.fold, chosen.folds, store),
        resamples=chosen.resamples,
        seed=chosen.seed,
        note=chosen.note,
        overwrite=chosen.overwrite,
        device=chosen.device,
        progress=lambda name, done, all: bar.to(done / all, name, f"{done} of {all} images"),
        **shown,
    )


def _of_predictions(chosen: Choices, request: "TaskRequest") -> "TaskMetrics":
    from medaug_cli.evaluation.arguments import named_paths
    from medaug_cli.evaluation.from_predictions import evaluate_predictions

    if chosen.truth is None or chosen.store is not None or chosen.detections:
        raise UsageError("--predictions needs --truth, and takes neither a store nor --detections")
    _refuse(chosen, ("device", "fold", "folds"), "with --predictions, since no network is run")
    return evaluate_predictions(
        chosen.truth,
        named_paths(chosen.predictions or ()),
        request=request,
        split=chosen.split if options.is_given(chosen.context, "split") else None,
        images=chosen.images,
        patients=chosen.patients,
    )


def _of_networks(chosen: Choices, request: "TaskRequest") -> "TaskMetrics":
    from medaug_cli.evaluation.arguments import named_paths
    from medaug_cli.evaluation.whole_images import evaluate_whole_images

    if chosen.store is None or chosen.truth is not None or chosen.detections:
        raise UsageError("networks are evaluated on a store, without --truth and --detections")
    _refuse(chosen, ("images", "patients"), "with a store, which holds both")
    return evaluate_whole_images(chosen.store, named_paths(chosen.detectors or ()), request)


def _evaluate_detections(chosen: Choices) -> None:
    """Measure detectors on a store, or anyone's detections in files."""
    from medaug_cli.evaluation.folder import as_json

    request = _box_request(chosen)
    metrics = _of_files(chosen, request) if chosen.truth is not None else _of_detectors(chosen, request)
    if chosen.as_json:
        console.answer(as_json(metrics), True, "")
    else:
        _show(metrics)
    drawn = ", overlays" if any((chosen.out / "overlays").glob("*.png")) else ""
    console.say(f"{chosen.out}: metrics.json, table.md, froc.svg, evaluation.html, errors.html, detections{drawn}")


def _box_request(chosen: Choices) -> "Request":
    from medaug_cli.evaluation.folder import Request
    from medaug_cli.metrics.matching import BY_DISTANCE
    from medaug_cli.metrics.report import ANY_IOU, Analysis

    return Request(
        out=chosen.out,
        how=Analysis(
            ious=tuple(dict.fromkeys(chosen.iou or ((ANY_IOU,) if chosen.rule in BY_DISTANCE else (0.5, 0.25)))),
            threshold=chosen.threshold,
            resamples=chosen.resamples,
            seed=chosen.seed,
            coco=chosen.truth is not None,
            rule=chosen.rule,
            sizes=_edges(chosen.sizes),
        ),
        overlays=_count(chosen.overlays),
        note=chosen.note,
        overwrite=chosen.overwrite,
        write=tuple(chosen.write or ()),
        say=console.say,
    )


def _of_files(chosen: Choices, request: "Request") -> "Metrics":
    from medaug_cli.evaluation.arguments import named_paths
    from medaug_cli.evaluation.from_files import evaluate_files

    if chosen.truth is None or chosen.store is not None or not chosen.detections:
        raise UsageError("--truth needs --detections FILE or --predictions PATH, and takes no store")
    own = ("split", "fold", "folds", "device", "patients")
    _refuse(chosen, own, "with --detections, which are of one set of images")
    return evaluate_files(chosen.truth, named_paths(chosen.detections), request, chosen.images)


def _of_detectors(chosen: Choices, request: "Request") -> "Metrics":
    from medaug_cli.evaluation.arguments import named_paths
    from medaug_cli.evaluation.from_store import evaluate_store

    if chosen.store is None or not chosen.detectors or chosen.detections:
        raise UsageError(
            "give a store and networks (medaug evaluate real.h5 detector), or --truth and --detections or --predictions"
        )
    _refuse(chosen, ("images", "patients"), "with a store, which holds both")
    with console.bar("evaluate", 1.0) as bar:
        return evaluate_store(
            chosen.store,
            named_paths(chosen.detectors),
            request=request,
            split=chosen.split,
            fold=options.parse_fold(chosen.fold, chosen.folds, chosen.store),
            device=chosen.device,
            progress=lambda name, done, all: bar.to(done / all, name, f"{done} of {all} images"),
        )


def _refuse(chosen: Choices, names: Sequence[str], why: str) -> None:
    """Raise UsageError for an option that was given but would not be used."""
    for option in names:
        if options.is_given(chosen.context, option):
            raise UsageError(f"--{option} is not used {why}; leave it out")


def _of_whole_images(networks: Sequence[str]) -> bool:
    """Tell whether folders hold classifiers or segmenters rather than detectors."""
    from medaug_cli.evaluation.arguments import named_paths
    from medaug_cli.evaluation.whole_images import kinds_of

    return bool(kinds_of([path for paths in named_paths(networks).values() for path in paths]) - {"detector"})


def _show_whole_images(metrics: "TaskMetrics", out: Path, as_json: bool) -> None:
    from medaug_cli.tasks.report import data_note, tables
    from medaug_cli.tasks.task import task_named

    task = task_named(metrics.task)
    if as_json:
        console.answer(metrics.model_dump(mode="json"), True, "")
    else:
        console.answer({}, False, " ".join(data_note(metrics)))
        for each in tables(metrics, task.measures, task.main)[:2]:
            console.show(each)
    console.say(f"{out}: {', '.join(sorted(each.name for each in out.iterdir() if not each.name.startswith('.')))}")


def _count(overlays: str) -> int | None:
    """Return how many overlays are asked for, None for all."""
    if overlays == "all":
        return None
    if not overlays.isdecimal():
        raise UsageError(f"--overlays {overlays}: expected a number, or all")
    return int(overlays)


def _edges(sizes: str | None) -> tuple[float, ...] | None:
    if sizes is None:
        return None
    try:
        return tuple(float(size) for size in sizes.split(","))
    except ValueError as error:
        raise UsageError(f"--sizes {sizes}: expected numbers, as in 10,20") from error


def _show_twelve(numbers: dict[str, list[float]], as_json: bool) -> None:
    from medaug_cli.metrics.coco import NAMES

    if as_json:
        console.answer({"rows": [{"detector": one, "coco": values} for one, values in numbers.items()]}, True, "")
        return
    rows = [[Cell(kind), *(fixed(values[i]) for values in numbers.values())] for i, kind in enumerate(NAMES)]
    console.show(table("COCO's twelve numbers", ["measure", *map(name, numbers)], rows))


def _show(metrics: "Metrics") -> None:
    from medaug_cli.metrics.table import data_note, tables

    console.answer({}, False, " ".join(data_note(metrics)))
    for each in tables(metrics):
        console.show(each)
