"""`medaug synthesize`: draw images for boxes."""

from pathlib import Path
from typing import Annotated

import typer

from medaug_cli.commands import console, options


def synthesize(
    n: Annotated[int, typer.Option("--n", help="How many images.", min=1)],
    boxes: Annotated[
        Path | None, typer.Option(help="boxes.json to draw conditions from; default: beside the training store.")
    ] = None,
    gan: Annotated[Path, typer.Option(help="Folder of the generator.")] = Path("gan"),
    out: Annotated[Path, typer.Option(help="The store to write.")] = Path("synthetic.h5"),
    jitter: Annotated[float, typer.Option(help="Flip, and shift and zoom each box by up to this share.")] = 0.1,
    num_parts: Annotated[int, typer.Option(help="Share the work among so many processes.", min=1)] = 1,
    part_id: Annotated[int, typer.Option(help="Which share this process draws, from 0.", min=0)] = 0,
    batch: Annotated[
        int, typer.Option(help="Images drawn at once; changes speed and memory, not pictures.", min=1)
    ] = 32,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw synthetic images for given or slightly changed boxes.

    Example: medaug synthesize --n 4000 --boxes boxes.json
    """
    from medaug_cli.synthesis import SynthesisOptions, synthesize

    with console.bar("synthesize", -(-n // num_parts)) as bar:
        choices = SynthesisOptions(
            n, gan, out, boxes, jitter, seed, device, batch, num_parts, part_id, resume, overwrite, bar.by, console.say
        )  # fmt: skip
        store = synthesize(choices)
    if store is None:
        console.answer(
            {"store": None, "part": part_id, "of": num_parts},
            as_json,
            f"part {part_id} of {num_parts} is drawn; {out} appears with the last part",
        )
    else:
        result = {"store": str(out), "images": len(store), "hash": store.hash}
        console.answer(result, as_json, f"{out}: {len(store)} images of {', '.join(sorted(set(store.sources)))}")
