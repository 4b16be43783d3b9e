"""`medaug filter`: drop synthetic images that clearly lack the disease."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medaug_cli.commands import console, options


def filter(
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC.H5", help="A store made by synthesize.")],
    out: Annotated[Path, typer.Option(help="The store to write.")] = Path("kept.h5"),
    by: Annotated[
        Literal["lesion", "realism", "manual", "none"],
        typer.Option(
            help="Use lesion evidence, keep the half that looks most real, use --decisions only, or keep all (for the "
            "contact sheet)."
        ),
    ] = "lesion",
    detector: Annotated[
        Path | None, typer.Option(help="Use a trained detector as evidence, instead of features of the region.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(help="The store that the generator was fitted on or drew for; default: beside SYNTHETIC.H5."),
    ] = None,
    fold: options.OneFold = None,
    folds: options.FoldsFile = None,
    decisions: Annotated[
        Path | None, typer.Option(help="CSV exported from filter.html; it overrules everything else.")
    ] = None,
    real_share: Annotated[
        float,
        typer.Option(help="Share of real lesions that would fall below the threshold; a higher share drops more."),
    ] = 0.05,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Drop images whose boxes clearly lack the disease; only --by realism drops any for looking artificial.

    Example: medaug filter synthetic.h5 --out kept.h5
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.lesion_filter import FilterOptions, sift
    from medaug_cli.store import open_store

    if real is None and (fold is not None or folds is not None):
        raise UsageError("--fold needs --real, the store whose patients are split into folds")
    with console.bar("filter", len(open_store(synthetic)), "images") as bar:
        store, report = sift(
            FilterOptions(
                synthetic,
                out,
                by=by,
                detector=detector,
                real=real,
                fold=None if real is None else options.parse_fold(fold, folds, real),
                decisions=decisions,
                real_share=real_share,
                seed=seed,
                device=device,
                resume=resume,
                overwrite=overwrite,
                report=bar.by,
                announce=console.say,
            )
        )
    advice = report.advice(real_share)
    dropped = len(report.images) - len(store)
    result = {"store": str(out), "images": len(store), "dropped": dropped, "threshold": report.threshold}
    page = out.with_name("filter.html")
    console.answer(
        result | {"calibration": report.calibration}, as_json,
        f"{out}: {len(store)} of {len(report.images)} images are kept; {page} shows each, and lets you overrule it",
    )  # fmt: skip
    console.advise(advice)
