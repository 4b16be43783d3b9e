"""Brain masks that somebody else made: files with the scans' names in a folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.scans.mask_grids import read_mask
from medaug_cli.scans.masks import mask_values
from medaug_cli.scans.pairing import Say, listed, pair_masks
from medaug_cli.scans.reading import Pixels, Scan


def masks_folder(strip: str) -> Path | None:
    """Return the folder that `--strip` names; None where it names a stripper."""
    return Path(strip) if "/" in strip or "\\" in strip or strip == "." else None


def with_brain_masks(folder: Path, scans: Sequence[Scan], say: Say = lambda sentence: None) -> list[Scan]:
    """Return scans with the brain masks that a folder holds for them; raise BadInput where one has two."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder of brain masks")
    found = pair_masks(folder, scans, say, brain=True)
    for what, files in (("of no scan", found.unclaimed), ("in an unknown format", found.unread)):
        if files:
            say(f"brain masks {what} are left out: {listed(files)}")
    pairs = found.masks
    for scan in scans:
        if len(pairs.get(scan.id, ())) > 1:
            raise BadInput(f"{scan.relative} has two brain masks, {pairs[scan.id][0]} and {pairs[scan.id][1]}")
    return [replace(scan, brain_mask=pairs[scan.id][0]) if scan.id in pairs else scan for scan in scans]


def read_brain_mask(folder: Path, scan: Scan, pixels: Pixels) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the brain mask (*s) of a scan, and notes on its grid; raise BadInput if there is none that fits."""
    path = scan.brain_mask
    if path is None:
        raise BadInput(f"{folder} holds no brain mask with the name of {scan.relative}")
    found = read_mask(path, scan, pixels, "brain mask")
    return mask_values(path, found.image) > 0, found.notes
