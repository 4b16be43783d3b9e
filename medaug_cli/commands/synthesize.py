"""`medaug synthesize`: draw images for boxes, or like those of a store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError
from medaug_cli.words import counted

if TYPE_CHECKING:
    from medaug_cli.synthesis import SynthesisOptions


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What `medaug synthesize` is asked for, in the order of its help."""

    n: Annotated[int | None, typer.Option("--n", help="Number of images.", min=1)] = None
    boxes: Annotated[
        Path | None, typer.Option(help="boxes.json to draw boxes from; default: the one beside the training store.")
    ] = None
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="REAL.H5", help="Use boxes, masks and classes like those of this store's training images."
        ),
    ] = None
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="NAME=N", help="With --like: N images of this class, or of normal ones; repeat for more."
        ),
    ] = None
    fold: options.OneFold = None
    folds: options.FoldsFile = None
    into: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Paste the lesions of drawn regions into whole images of this store."),
    ] = None
    lesions: Annotated[int, typer.Option(help="With --into: new lesions per image.", min=1)] = 1
    blending: Annotated[
        Literal["poisson", "soft"],
        typer.Option(help="With --into: preserve a lesion's gradients, or fade out its border."),
    ] = "poisson"
    gan: Annotated[
        str,
        typer.Option(metavar="FOLDER|NAME", help="A trained generator, or installed weights (medaug plugins)."),
    ] = "gan"
    out: Annotated[Path, typer.Option(help="The store to write.")] = Path("synthetic.h5")
    jitter: Annotated[
        float,
        typer.Option(
            help="Flip boxes, and shift and zoom each by up to this share of its size; masks too. 0: as they are."
        ),
    ] = 0.1
    num_parts: Annotated[int, typer.Option(help="Split the work among this many processes.", min=1)] = 1
    part_id: Annotated[int, typer.Option(help="Which part this process draws, from 0.", min=0)] = 0
    batch: Annotated[
        int,
        typer.Option(
            help="Images drawn at once, at most the generator's sample_batch; for speed and memory, not the images.",
            min=1,
        ),
    ] = 32
    seed: options.Seed = 0
    device: options.Device = "auto"
    dry_run: options.DryRun = False
    resume: options.Resume = False
    overwrite: options.Overwrite = False
    as_json: options.AsJson = False


@options.taken_as(Choices)
def synthesize(chosen: Choices) -> None:
    """Draw synthetic images for given or slightly changed boxes, masks and classes.

    Example: medaug synthesize --n 4000 --boxes boxes.json
    """
    from medaug_cli.synthesis import images_of_part, rehearse
    from medaug_cli.synthesis import synthesize as draw

    if chosen.fold is not None and chosen.like is None:
        raise UsageError("--fold needs --like, a store whose patients are split into folds")
    asked = options.parse_counts(chosen.classes)
    if chosen.n is None and not asked:
        raise UsageError("say how many images to draw with --n, or --like with --class NAME=N")
    out, part, parts, advice = chosen.out, chosen.part_id, chosen.num_parts, list[str]()
    with console.bar("synthesize", images_of_part(chosen.n or sum(asked.values()), part, parts), "images") as bar:
        wanted = _options(chosen, asked, bar, advice)
        if chosen.dry_run:
            said, store = rehearse(wanted), None
        else:
            said, store = {}, draw(wanted)
    if chosen.dry_run:
        console.answer(said, chosen.as_json, f"{out}: nothing is drawn yet")
    elif store is None:
        still = f"part {part} of {parts} is drawn; {out} is written with the last part"
        console.answer({"store": None, "part": part, "of": parts}, chosen.as_json, still)
    else:
        result = {"store": str(out), "images": len(store), "hash": store.hash}
        told = f"{out}: {counted(len(store), 'image')} of {', '.join(sorted(set(store.sources)))}"
        console.answer(result, chosen.as_json, told)
    console.advise(advice)


def _options(chosen: Choices, classes: Mapping[str, int], bar: console.Bar, advice: list[str]) -> "SynthesisOptions":
    from medaug_cli.synthesis import SynthesisOptions

    return SynthesisOptions(
        n=chosen.n,
        gan=chosen.gan,
        out=chosen.out,
        boxes=chosen.boxes,
        like=chosen.like,
        fold=None if chosen.like is None else options.parse_fold(chosen.fold, chosen.folds, chosen.like),
        classes=classes,
        into=chosen.into,
        lesions=chosen.lesions,
        blending=chosen.blending,
        jitter=chosen.jitter,
        seed=chosen.seed,
        device=chosen.device,
        batch=chosen.batch,
        num_parts=chosen.num_parts,
        part_id=chosen.part_id,
        resume=chosen.resume,
        overwrite=chosen.overwrite,
        report=bar.by,
        announce=console.say,
        advise=advice.append,
    )
