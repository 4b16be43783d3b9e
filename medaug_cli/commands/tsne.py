"""`medaug tsne`: look at real against synthetic images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="pixels, texture, network (random weights), imagenet (needs medaug[pretrained]), timm:NAME, an "
            "installed extractor, or a folder made by train-classifier; repeat for several classifiers.  "
            "[default: pixels]",
        ),
    ] = None,
    region: Annotated[
        Literal["image", "box"], typer.Option(help="Compare whole images, or the first lesion of those with a box.")
    ] = "image",
    colour: Annotated[
        Literal["set", "class", "patient", "source"], typer.Option(help="What the colour of a dot shows.")
    ] = "set",
    most: Annotated[int, typer.Option("--max", help="Maximum number of images per store.", min=20)] = 1500,
    detector: Annotated[
        Path | None,
        typer.Option(help="A detector trained on real images, to check that lesions are where they were asked for."),
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="A segmenter trained on real images, to check that lesions match their masks.")
    ] = None,
    fold: options.OneFold = None,
    folds: options.FoldsFile = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw a t-SNE map of real and synthetic images, and print the numbers that a picture cannot show.

    Example: medaug tsne real.h5 kept.h5 --out tsne.png
    """
    from medaug_cli.embedding import MapOptions, draw_map
    from medaug_cli.embedding.tables import of_found

    names = features or ["pixels"]
    with console.steps("tsne") as step:
        asked = MapOptions(
            real=real, synthetic=synthetic, out=out, dims=3 if dims == "3" else 2, perplexity=perplexity,
            features=names[0], more_features=names[1:], region=region, most=most, seed=seed, detector=detector,
            segmenter=segmenter, device=device, overwrite=overwrite, announce=console.say, report=step, colour=colour,
            fold=options.parse_fold(fold, folds, real),
        )  # fmt: skip
        report = draw_map(asked)
    advice = of_found(report)
    if as_json:
        console.answer(report.model_dump(mode="json", exclude={"points", "panels"}), True, "")
        return
    _show(report)
    console.say(f"{out}, {out.with_suffix('.json')}, and {out.with_suffix('.html')}, where dots show their images")
    console.advise(advice)


def _show(report: "MapReport") -> None:
    from medaug_cli.embedding.tables import every_table

    for each in every_table(report):
        console.show(each)
