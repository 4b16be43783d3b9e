"""Masks in files: which belongs to which scan, and the boxes of what they mark."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.scans.reading import PICTURES, VOLUMES, Scan, stem_of, suffix_of


def find_masks(path: Path, scans: Sequence[Scan]) -> dict[str, Path]:
    """Find a mask for each scan: the same name in a folder, or a label volume beside it in the same folder."""
    if path.is_file():
        if len(scans) != 1:
            raise UsageError(f"{path} is one label volume for {len(scans)} scans; give a folder of them")
        return {scans[0].id: path}
    files = [file for file in sorted(path.rglob("*")) if suffix_of(file) in PICTURES + VOLUMES]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        relative = file.relative_to(path).as_posix()
        by_name[relative[: len(relative) - len(suffix_of(file))]].append(file)
    own = {path.resolve() for scan in scans for path in scan.all_files}
    found = {}
    for scan in scans:
        same = [
            file
            for key in (scan.name, scan.name.rpartition("/")[2])
            for file in by_name.get(key, [])
            if file.resolve() not in own
        ]
        mask = same[0] if same else _beside(scan, files)
        if mask is not None:
            found[scan.id] = mask
    if not found:
        raise BadInput(f"{path} holds no mask with the name of a scan, such as {scans[0].relative}")
    return found


def is_mask_name(path: Path) -> bool:
    """Tell whether a file's name says that it is a mask: Pre_Mask.nii.gz, 01-seg.nii, labels.nrrd."""
    words = stem_of(path).lower().replace("-", "_").replace(".", "_").split("_")
    return bool({"mask", "masks", "seg", "segmentation", "label", "labels", "roi"} & set(words))


def _beside(scan: Scan, files: Sequence[Path]) -> Path | None:
    """Return the mask in the scan's own folder whose name begins most like the scan's."""
    near = [file for file in files if file.parent.resolve() == scan.path.parent.resolve() and is_mask_name(file)]
    if not near:
        return None
    alike = [_common(stem_of(file).lower(), scan.name.rpartition("/")[2].lower()) for file in near]
    best = [file for file, count in zip(near, alike, strict=True) if count == max(alike)]
    if len(best) > 1:
        raise BadInput(f"{scan.relative} may belong to {best[0].name} or {best[1].name}; give masks the names of scans")
    return best[0]


def _common(first: str, second: str) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def components(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the box of each connected component of at least `least` pixels of a mask (h, w), (m, 4) float32."""
    from scipy import ndimage

    numbered, _ = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(numbered.ravel())
    boxes = [
        (columns.start, rows.start, columns.stop, rows.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1)
        if areas[number] >= least
    ]
    return np.array(boxes, np.float32).reshape(-1, 4)
