"""`medaug store`: look into a store, draw or verify it, or write it in other tools' formats."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options
from medaug_cli.words import counted

app = typer.Typer(
    help="Look into a store, draw it, verify it, or export it.\n\nExample: medaug store info real.h5",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A store (.h5).")]


@app.command()
def info(file: File, as_json: options.AsJson = False) -> None:
    """Show what a store holds and how it was made.

    Example: medaug store info real.h5
    """
    from medaug_cli.store import open_store
    from medaug_cli.store_summary import sentences, summary

    found = summary(open_store(file))
    console.answer(found, as_json, sentences(found))


@app.command()
def verify(file: File, as_json: options.AsJson = False) -> None:
    """Read a store in full and compare it with its SHA-256; exit code 3 if it is damaged.

    Example: medaug store verify real.h5
    """
    from medaug_cli.store import open_store

    store = open_store(file)
    store.verify()
    result = {"store": str(file), "ok": True, "images": len(store), "hash": store.hash}
    console.answer(result, as_json, f"{file}: {counted(len(store), 'image')}, all as they were written ({store.hash})")


@app.command()
def join(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="The stores, in any order if they are parts.")],
    out: Annotated[Path, typer.Option(help="The store to write.")],
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Join stores: the parts of one `preprocess`, with their reports, or stores of the same form.

    Example: medaug store join parts/*/real.h5 --out real.h5
    """
    from medaug_cli.preprocess.joining import join_parts

    with console.steps("store join") as step:
        store = join_parts(files, out, overwrite, step)
    result = {"store": str(out), "images": len(store), "hash": store.hash}
    console.answer(result, as_json, f"{out}: {counted(len(store), 'image')} of {counted(len(files), 'store')}")


@app.command()
def preview(
    file: File,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("preview.png"),
    augment: Annotated[
        str | None,
        typer.Option(metavar="DETECTOR", help="Beside each image, show how this detector's training augments it."),
    ] = None,
    settings: options.Settings = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    images: Annotated[int | None, typer.Option(help="Number of images; default: 6, or 12 crops.", min=1)] = None,
    crops: Annotated[
        int | None,
        typer.Option(metavar="SIDE", help="Draw only the lesions, this many pixels wide (32 in Han et al.).", min=8),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(metavar="STORE", help="With --crops: add rows of this store below; repeat for more."),
    ] = None,
    variants: Annotated[int, typer.Option(help="Number of augmented versions of each.", min=1)] = 5,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw images with their boxes, masks and classes (cubes in three planes), or what augmentation does to them.

    Example: medaug store preview real.h5 --crops 32 --beside synthetic.h5
    """
    from medaug_cli.errors import UsageError
    from medaug_cli.preview import lesion_rows
    from medaug_cli.preview import preview as draw
    from medaug_cli.store import open_store

    if crops is None and beside:
        raise UsageError("--beside needs --crops")
    if crops is not None:
        stores = [open_store(path) for path in (file, *(beside or ()))]
        shown = lesion_rows(stores, out, side=crops, split=split, count=images or 12, overwrite=overwrite)
        console.answer({"out": str(out), "lesions": shown}, as_json, f"{out}: {counted(shown, 'lesion')} of each store")
        return
    shown = draw(
        open_store(file),
        out,
        detector=augment,
        settings=options.parse_settings(settings),
        split=split,
        images=images or 6,
        variants=variants,
        seed=seed,
        overwrite=overwrite,
    )
    console.answer(
        {"out": str(out), "images": shown}, as_json, f"{out}: {counted(shown, 'image')} of the {split} split"
    )


@app.command()
def export(
    file: File,
    form: Annotated[
        str, typer.Option("--format", help="coco, yolo, voc, csv, nifti, nnunet, monai, folders (one a class), or npz.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: real-coco for real.h5 as COCO.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; default: all.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write the images and boxes of a store as COCO, YOLO, Pascal VOC, CSV, NIfTI, or for nnU-Net, MONAI or MedMNIST.

    Example: medaug store export real.h5 --format coco
    """
    from medaug_cli.export import export_store, takes_unannotated
    from medaug_cli.store import open_store, unannotated_words

    out = out or Path(f"{file.stem}-{form}")
    store = open_store(file)
    if not takes_unannotated(form):
        for words in unannotated_words(store, split):
            console.say(words)
    with console.bar("export", len(store), "images") as bar:
        images = export_store(store, form, out=out, split=split, overwrite=overwrite, report=bar.by, say=console.say)
    result = {"out": str(out), "format": form, "images": images}
    console.answer(result, as_json, f"{out}: {counted(images, 'image')} as {form}")
