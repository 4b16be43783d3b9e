"""The files that a study writes, by their names: what is made anew may be removed, and a person's own files may not."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

from medaug_cli.lesion_filter.sifting import PAGE, REPORT
from medaug_cli.results import PASSED_OVER, fits
from medaug_cli.runs.folder import command_of, kind_of
from medaug_cli.store.writing import PARTS
from medaug_cli.study.arms import PSEUDO
from medaug_cli.study.unannotated import REST
from medaug_cli.tasks.task import tasks

DRAWN = "seed*/synthetic/*"
STORES = ("real.h5", REST, f"seed*/{PSEUDO}*.h5", f"{DRAWN}/drawn-*.h5", f"{DRAWN}/*-*/kept.h5")
BESIDE = ("*-similarity.json", "*-*/*-similarity.json", f"*-*/{REPORT}", f"*-*/{PAGE}")  # drawn images
NOBODYS = (*PASSED_OVER, ".*.publishing")


def strangers(path: Path) -> Iterator[Path]:
    """Yield the files at, or in, a path below the folder of a share of the patients that no study writes."""
    share = next(each for each in (path, *path.parents) if each.name.startswith("patients"))
    own = tuple(_names())
    for each in sorted(path.rglob("*")):
        name = each.relative_to(share).as_posix()
        nobodys = any(fnmatchcase(step, pattern) for step in name.split("/") for pattern in NOBODYS)
        if (each.is_file() or each.is_symlink()) and not nobodys and not any(fits(name, one) for one in own):
            yield each


def _names() -> Iterator[str]:
    """Yield patterns of all that a study writes for a share of the patients, below the folder of that share."""
    yield from ("boxes.json", "card *.md", *STORES, *(f"{DRAWN}/{name}" for name in BESIDE))
    yield from (f"{store}.parts/{name}" for store, name in product(STORES, PARTS.names))
    runs = {f"seed*/{task.kind}s/*": task.kind for task in tasks().values()}
    runs |= dict.fromkeys((f"{DRAWN}/gan", f"{DRAWN}/gan.parts"), "generator")
    yield from (f"{folder}/{name}" for folder, kind in runs.items() for name in kind_of(command_of(kind)).names)
