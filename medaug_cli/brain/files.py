"""Brain masks that somebody else made: files with the scans' names in a folder."""

from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.scans.masks import find_masks
from medaug_cli.scans.reading import Scan, read_scan


def masks_folder(strip: str) -> Path | None:
    """Return the folder that `--strip` names; None where it names a stripper."""
    return Path(strip) if "/" in strip or "\\" in strip or strip == "." else None


def read_brain_mask(folder: Path, scan: Scan, shape: tuple[int, ...]) -> np.ndarray:
    """Return the brain mask (*s) of a scan; raise BadInput if there is none, or one of another shape."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder of brain masks")
    path = find_masks(folder, [scan])[scan.id]
    mask = read_scan(path, labels=True).image.max(0)
    if mask.shape != shape:
        raise BadInput(f"the brain mask {path} has the shape {mask.shape}, its scan {scan.relative} has {shape}")
    return mask > (127 if path.suffix.lower() in (".jpg", ".jpeg") else 0)
