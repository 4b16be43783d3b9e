"""`medaug evaluate`: measure detectors, classifiers, segmenters, or anyone's answers in files, with intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medaug_cli.commands import console, options
from medaug_cli.tables import Cell, fixed, name, table

if TYPE_CHECKING:
    from medaug_cli.metrics.report import Metrics
    from medaug_cli.tasks.report import TaskMetrics


DETECTIONS = ("iou", "rule", "sizes", "threshold", "write")  # options of detections alone


def evaluate(
    context: typer.Context,
    store: Annotated[Path | None, typer.Argument(metavar="REAL.H5", help="A store made by preprocess.")] = None,
    detectors: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NETWORK...", help="Folders with a trained network each, or NAME=FOLDER; NAME=A,B: seeds of one."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    truth: Annotated[
        Path | None,
        typer.Option(help="In place of a store: COCO annotations, a CSV (image, class, patient) or a folder of masks."),
    ] = None,
    detections: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Detections: COCO JSON, CSV or a YOLO folder, or NAME=FILE; repeat; NAME=A,B: seeds of one.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="CSV (image, a column a class) or folder of masks, or NAME=PATH; repeat; NAME=A,B: seeds.",
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, to see them (with --truth).")] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV (image, patient) that tells whose images are (with --predictions).")
    ] = None,
    iou: Annotated[
        list[float] | None, typer.Option(metavar="IOU", help="IoU of a hit; repeat for more.  [default: 0.5 and 0.25]")
    ] = None,
    rule: Annotated[str, typer.Option(help="What a hit is: coco, voc, luna or center.")] = "coco",
    sizes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Lesion sizes to tell apart, in pixels, or mm where known.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Score from which Table 1 counts a detection.")] = 0.001,
    resamples: Annotated[int, typer.Option(help="Resamples of the patients behind each interval.", min=100)] = 2000,
    overlays: Annotated[
        str, typer.Option(help="How many images to show with boxes, outlines or mistakes, or all.")
    ] = "12",
    write: Annotated[
        list[str] | None,
        typer.Option(metavar="csv|yolo", help="Also write detections as csv or yolo; repeat for both."),
    ] = None,
    coco_only: Annotated[
        bool, typer.Option("--coco-only", help="Print COCO's twelve numbers alone; write nothing (with --truth).")
    ] = False,
    note: Annotated[str | None, typer.Option(help="A sentence on the data, printed with every table.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("evaluation"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure networks on a split, or anyone's answers in files, and compare them with the first.

    The folders say what they are: detectors, classifiers or segmenters. Without a store: --truth with --detections
    (COCO) or with --predictions (probabilities of classes, or masks).

    Example: medaug evaluate real.h5 real-only with-synthetic --split test --out evaluation
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.evaluation.arguments import named_paths

    if coco_only:
        from medaug_cli.evaluation.coco_only import twelve_of_files

        if truth is None or not detections or store is not None:
            raise UsageError("--coco-only goes with --truth and --detections")
        _show_twelve(twelve_of_files(truth, named_paths(detections), console.say), as_json)
        return
    from medaug_cli.evaluation.folder import Request
    from medaug_cli.evaluation.folder import as_json as plain
    from medaug_cli.evaluation.from_files import evaluate_files
    from medaug_cli.evaluation.from_predictions import evaluate_predictions
    from medaug_cli.evaluation.from_store import evaluate_store
    from medaug_cli.evaluation.whole_images import TaskRequest, evaluate_whole_images
    from medaug_cli.metrics.matching import BY_DISTANCE
    from medaug_cli.metrics.report import ANY_IOU, Analysis

    if predictions or (detectors and _of_whole_images(named_paths(detectors))):
        _refuse(context, DETECTIONS, "for classes or masks: it is for detections")
        shown = {"pictures": _count(overlays)} if _given(context, "overlays") else {}
        with console.bar("evaluate", 1.0) as bar:
            request = TaskRequest(
                out=out,
                split=split,
                resamples=resamples,
                seed=seed,
                note=note,
                overwrite=overwrite,
                device=device,
                progress=lambda name, done, all: bar.to(done / all, name),
                **shown,
            )
            if predictions:
                if truth is None or store is not None or detections:
                    raise UsageError("--predictions goes with --truth, and without a store or --detections")
                _refuse(context, ("device",), "with --predictions, which no network makes here")
                chosen = split if _given(context, "split") else None
                found = evaluate_predictions(
                    truth, named_paths(predictions), request=request, split=chosen, images=images, patients=patients
                )
            else:
                if store is None or truth is not None or detections:
                    raise UsageError("networks are evaluated on a store, without --truth and --detections")
                _refuse(context, ("images", "patients"), "with a store, which holds both")
                found = evaluate_whole_images(store, named_paths(detectors or ()), request)
        _show_whole_images(found, out, as_json)
        return
    ious = tuple(dict.fromkeys(iou or ((ANY_IOU,) if rule in BY_DISTANCE else (0.5, 0.25))))
    how = Analysis(
        ious, threshold, resamples=resamples, seed=seed, coco=truth is not None, rule=rule, sizes=_edges(sizes)
    )
    boxes = Request(
        out, how, overlays=_count(overlays), note=note, overwrite=overwrite, write=tuple(write or ()), say=console.say
    )
    if truth is not None:
        if store is not None or not detections:
            raise UsageError("--truth goes with --detections FILE or --predictions PATH, and without a store")
        _refuse(context, ("split", "device", "patients"), "with --detections, which are of one set of images")
        metrics = evaluate_files(truth, named_paths(detections), boxes, images)
    else:
        if store is None or not detectors or detections:
            raise UsageError(
                "give a store and networks (medaug evaluate real.h5 detector), or --truth and --detections or "
                "--predictions"
            )
        _refuse(context, ("images", "patients"), "with a store, which holds both")
        with console.bar("evaluate", 1.0) as bar:
            metrics = evaluate_store(
                store,
                named_paths(detectors),
                request=boxes,
                split=split,
                device=device,
                progress=lambda name, done, all: bar.to(done / all, name),
            )
    if as_json:
        console.answer(plain(metrics), True, "")
    else:
        _show(metrics)
    console.say(f"{out}: metrics.json, table.md, froc.svg, evaluation.html, errors.html, detections, overlays")


def _refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Raise UsageError for an option that was given but would not be used."""
    from medaug_cli.errors import UsageError

    for option in names:
        if _given(context, option):
            raise UsageError(f"--{option} is not used {why}; leave it out")


def _given(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _of_whole_images(systems: Mapping[str, Sequence[Path]]) -> bool:
    """Tell whether folders hold classifiers or segmenters rather than detectors."""
    from medaug_cli.evaluation.whole_images import kinds_of

    return bool(kinds_of([path for paths in systems.values() for path in paths]) - {"detector"})


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
    from medaug_cli.errors import UsageError

    if overlays == "all":
        return None
    if not overlays.isdecimal():
        raise UsageError(f"--overlays {overlays}: expected a number, or all")
    return int(overlays)


def _edges(sizes: str | None) -> tuple[float, ...] | None:
    from medaug_cli.errors import UsageError

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
