"""`medaug tsne`: look at real against synthetic images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medaug_cli.commands import console, options

if TYPE_CHECKING:
    from medaug_cli.embedding import MapReport


def tsne(
    real: options.StoreArgument,
    synthetic: Annotated[list[Path], typer.Argument(metavar="SYNTHETIC.H5...", help="One or more stores to compare.")],
    out: Annotated[Path, typer.Option(help="The picture to write; its numbers go beside it as JSON.")] = Path(
        "tsne.png"
    ),
    dims: Annotated[Literal["2", "3"], typer.Option(help="Dimensions of the map.")] = "2",
    perplexity: Annotated[float, typer.Option(help="Perplexity of t-SNE (100 in Han et al.).", min=2)] = 30.0,
    features: Annotated[
        str, typer.Option(help="pixels, texture, network (of random weights), timm:NAME, or an installed extractor.")
    ] = "pixels",
    region: Annotated[Literal["image", "box"], typer.Option(help="Compare whole images or lesions.")] = "image",
    most: Annotated[int, typer.Option("--max", help="Images of each store at most.", min=20)] = 1500,
    detector: Annotated[
        Path | None, typer.Option(help="A detector trained on real images: are the lesions where they were asked for?")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw a t-SNE of real against synthetic images, and print what a picture cannot show.

    Example: medaug tsne real.h5 kept.h5 --out tsne.png
    """
    from medaug_cli.embedding import MapOptions, draw_map

    report = draw_map(MapOptions(
        real, synthetic, out, 3 if dims == "3" else 2, perplexity, features, region, most, seed,
        detector, device, overwrite, console.say,
    ))  # fmt: skip
    if as_json:
        console.answer(report.model_dump(mode="json", exclude={"points"}), True, "")
        return
    _show(report)
    console.say(f"{out} and {out.with_suffix('.json')}")


def _show(report: "MapReport") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"Against the real training images, features {report.features}", title_justify="left",
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("set", "1-NN", "KID", "prec.", "recall", "dens.", "cover.", "spread", "copies"):
        table.add_column(name, justify="right" if name != "set" else "left", no_wrap=name == "set")
    rows: list[tuple[str, Any, str]] = [] if report.reference is None else [("real, held out", report.reference, "")]
    rows += [(e.name, e, "" if e.suspicious is None else f"{e.suspicious:.1%}") for e in report.sets]
    for name, row, copies in rows:
        table.add_row(
            name, f"{row.one_nn_accuracy:.2f}", f"{row.kid:.3f}", f"{row.precision:.2f}", f"{row.recall:.2f}",
            f"{row.density:.2f}", f"{row.coverage:.2f}", f"{row.spread:.3f}", copies,
        )  # fmt: skip
    console.results.print(table)
    for name, row, _ in rows:
        if row.fidelity is not None:
            console.results.print(
                f"{name}: {row.fidelity.found:.2f} of {row.fidelity.boxes} boxes show a lesion that the detector finds "
                f"({row.fidelity.shuffled:.2f} with the boxes of other images)",
                markup=False,
            )
    console.results.print(
        "1-NN: how often a nearest neighbour tells the two apart (0.5: not at all). Copies: images nearer to a "
        "training image than 99 % of held-out real images are, in the features that see most (1 % is expected). "
        "The first row is the best to hope for.",
        style="dim", markup=False,
    )  # fmt: skip
