"""Options that several commands share, each declared once."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from medaug_cli.errors import UsageError

if TYPE_CHECKING:
    from medaug_cli.store.folds import Fold

Choices = TypeVar("Choices")

Seed = Annotated[int, typer.Option(help="Random seed.", min=0, max=2**63 - 1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="auto (32; on a CPU bf16 where that is faster), 32, bf16 or 16.")]
Workers = Annotated[int, typer.Option(help="Worker processes or threads; 0: as many as fit the machine.", min=0)]
PluginWorkers = Annotated[
    int,
    typer.Option("--workers", help="Worker processes, for plugins that use them; those of medaug do not.", min=0),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue unfinished work; do nothing if it is finished.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout, and nothing else there.")
]
BoxMode = Annotated[
    str | None,
    typer.Option(help="Box format of a MONAI data list: xyxy, xxyy, xywh or ccwh, with -mm for millimetres."),
]
Modality = Annotated[
    str | None, typer.Option(help="Which files of a case to use, such as t1ce of case_t1ce and case_flair; or all.")
]
MaxPixels = Annotated[int | None, typer.Option(help="Largest picture to read, in pixels; default: 100 million.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the plugin; repeat for more.")
]
Minutes = Annotated[float | None, typer.Option(help="Train for this many minutes.", min=0.001)]
OneFold = Annotated[
    str | None,
    typer.Option(
        "--fold", metavar="I/K", help="Use fold I of K folds of the patients, as in 1/5, instead of the store's split."
    ),
]
FoldsFile = Annotated[
    Path | None,
    typer.Option(
        "--folds", metavar="FILE", help="File of the folds for --fold; default: REAL.folds-K.json beside the store."
    ),
]
StoreArgument = Annotated[Path, typer.Argument(metavar="REAL.H5", help="A store made by preprocess.")]


def taken_as(choices: type[Choices]) -> Callable[[Callable[[Choices], None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as its options, and it one object with what was chosen.

    A field is written as a parameter of a Typer command is: Annotated with its option, and with its default.
    """

    def decorate(command: Callable[[Choices], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**chosen: Any) -> None:
            command(choices(**chosen))

        taken = signature(choices)
        run.__signature__ = taken.replace(return_annotation=None)  # type: ignore[attr-defined]
        run.__annotations__ = {name: each.annotation for name, each in taken.parameters.items()}
        return run

    return decorate


def is_given(context: typer.Context, option: str) -> bool:
    """Tell whether an option was typed, and is not its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def parse_settings(pairs: Sequence[str] | None, option: str = "--set", example: str = "latent=128") -> dict[str, Any]:
    """Turn ["latent=128"] into {"latent": "128"}; the registry gives each its type."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {pair}: expected KEY=VALUE, as in {option} {example}")
        settings[key.strip()] = value.strip()
    return settings


def parse_counts(pairs: Sequence[str] | None) -> dict[str, int]:
    """Turn ["glioma=500"] into {"glioma": 500}."""
    counts: dict[str, int] = {}
    for pair in pairs or ():
        name, equals, number = pair.rpartition("=")
        if not equals or not name or not number.strip().isdecimal() or int(number) < 1:
            raise UsageError(f"--class {pair}: expected NAME=N with N above 0, as in --class glioma=500")
        if name.strip() in counts:
            raise UsageError(f"--class {name.strip()} is given twice")
        counts[name.strip()] = int(number)
    return counts


def parse_fold(fold: str | None, folds: Path | None, store: Path) -> "Fold | None":
    """Turn "1/5" into that fold of a file; without one they are dealt, and kept beside the store."""
    from medaug_cli.store import open_store
    from medaug_cli.store.folds import fold_named

    if fold is None:
        if folds is not None:
            raise UsageError("--folds names the file of --fold I/K; give --fold as well")
        return None
    return fold_named(fold, open_store(store), folds)


def parse_folds(text: str | None) -> int | Path | None:
    """Turn "5" into a number of folds, and anything else into the file that holds them."""
    if text is None or not text.strip().lstrip("-").isdecimal():
        return None if text is None else Path(text)
    if int(text) < 2:
        raise UsageError(f"--folds {text}: expected 2 or more, or a file of folds")
    return int(text)


def parse_spacing(text: str | None) -> tuple[float, ...] | None:
    """Turn "0.5,0.5,6" (x, y, z in mm) into (6.0, 0.5, 0.5), in numpy axis order."""
    if text is None:
        return None
    try:
        steps = tuple(float(part) for part in text.split(","))
    except ValueError:
        steps = ()
    if not 1 <= len(steps) <= 3 or not all(0 < step < 1000 for step in steps):
        raise UsageError(f"--spacing {text}: expected one to three numbers in mm, as in 0.5,0.5,6")
    return steps[::-1]


def parse_sides(text: str | None) -> tuple[int, int, int] | None:
    """Turn "64,96,96" into (64, 96, 96), and "64" into (64, 64, 64): voxels in numpy axis order."""
    if text is None:
        return None
    parts = text.split(",")
    sides = tuple(int(part) for part in parts if part.strip().isdecimal())
    if len(sides) != len(parts) or len(sides) not in (1, 3):
        raise UsageError(f"--volumes {text}: expected DEPTH,HEIGHT,WIDTH in voxels, such as 64,96,96")
    depth, height, width = sides * 3 if len(sides) == 1 else sides
    return depth, height, width


def parse_window(text: str | None) -> tuple[float, float] | None:
    """Turn "-1000,400" into (-1000.0, 400.0)."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--window {text}: expected two grey values, such as -1000,400") from error
    if not low < high < float("inf") or low == -float("inf"):
        raise UsageError(f"--window {text}: expected a lower and a higher grey value, such as -1000,400")
    return low, high
