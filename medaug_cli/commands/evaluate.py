"""`medaug evaluate`: sensitivity, false positives and Table 1, with intervals, for one or more detectors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medaug_cli.commands import console, options

if TYPE_CHECKING:
    from medaug_cli.metrics.report import Metrics


def evaluate(
    store: Annotated[Path | None, typer.Argument(metavar="REAL.H5", help="A store made by preprocess.")] = None,
    detectors: Annotated[
        list[str] | None, typer.Argument(metavar="DETECTOR...", help="Folders of train-detector, or NAME=FOLDER.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    truth: Annotated[Path | None, typer.Option(help="COCO annotations, in place of a store.")] = None,
    detections: Annotated[
        list[str] | None, typer.Option(help="COCO detections, or NAME=FILE; repeat for more (with --truth).")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, for overlays (with --truth).")] = None,
    iou: Annotated[
        list[float] | None, typer.Option(help="IoU of a hit; repeat for more.  [default: 0.5 and 0.25]")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Score from which Table 1 counts a detection.")] = 0.001,
    resamples: Annotated[int, typer.Option(help="Resamples of the patients behind each interval.", min=100)] = 2000,
    overlays: Annotated[int, typer.Option(help="How many overlay pictures to draw.", min=0)] = 12,
    note: Annotated[str | None, typer.Option(help="A sentence on the data, printed with every table.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("evaluation"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure detectors on a split, or anyone's detections from COCO files, and compare them with the first.

    Example: medaug evaluate real.h5 real-only with-synthetic --split test --out evaluation
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.evaluation import Request, evaluate_files, evaluate_store, named_paths
    from medaug_cli.evaluation.folder import as_json as plain
    from medaug_cli.metrics.report import Analysis

    ious = tuple(dict.fromkeys(iou or (0.5, 0.25)))
    how = Analysis(ious, threshold, resamples, seed, coco=truth is not None)
    request = Request(out, how, overlays, note, overwrite, console.say)
    if truth is not None:
        if store is not None or not detections:
            raise UsageError("--truth goes with --detections FILE, and without a store")
        metrics = evaluate_files(truth, named_paths(detections), request, images)
    else:
        if store is None or not detectors or detections:
            raise UsageError(
                "give a store and detectors (medaug evaluate real.h5 detector), or --truth and --detections"
            )
        with console.bar("evaluate", 1.0) as bar:
            metrics = evaluate_store(
                store, named_paths(detectors), request, split, device, lambda name, done, all: bar.to(done / all, name)
            )
    if as_json:
        console.answer(plain(metrics), True, "")
    else:
        _show(metrics)
    console.say(f"{out}: metrics.json, table.md, froc.svg, evaluation.html, detections, overlays")


def _show(metrics: "Metrics") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from medaug_cli.metrics.table import data_note, narrow, tables

    console.results.print(" ".join(data_note(metrics)), markup=False)
    for each in tables(metrics):
        shown = Table(title=each.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, name in enumerate(each.header):
            shown.add_column(name, justify="right" if i else "left", overflow="fold")
        for row in each.rows:
            shown.add_row(*map(narrow, row))
        console.results.print(shown)
        for sentence in each.notes:
            console.results.print(sentence, style="dim", markup=False)
