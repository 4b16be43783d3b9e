"""Masks in files: which belongs to which scan, what their values stand for, and the boxes of what they mark."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import parse_json
from medaug_cli.scans.reading import Scan, stem_of, suffix_of, suffixes
from medaug_cli.scans.survey import case_and_modality


def find_masks(path: Path, scans: Sequence[Scan]) -> dict[str, Path]:
    """Find a mask for each scan: the same name in a folder, or a label volume beside it in the same folder."""
    if path.is_file():
        if len(scans) != 1:
            raise UsageError(f"{path} is one label volume for {len(scans)} scans; give a folder of them")
        return {scans[0].id: path}
    files = [file for file in sorted(path.rglob("*")) if suffix_of(file) in suffixes()]
    by_name: dict[str, list[Path]] = defaultdict(list)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        if is_mask_name(file):
            by_folder[file.parent.resolve()].append(file)
        relative = file.relative_to(path).as_posix()
        by_name[relative[: len(relative) - len(suffix_of(file))]].append(file)
    own = {path.resolve() for scan in scans for path in scan.all_files}
    found = {}
    for scan in scans:
        same = [
            file
            for key in _keys(scan)
            for file in by_name.get(key, [])
            if file.resolve() not in own
        ]
        mask = same[0] if same else _beside(scan, by_folder[scan.path.parent.resolve()])
        if mask is not None:
            found[scan.id] = mask
    if not found:
        raise BadInput(f"{path} holds no mask with the name of a scan, such as {scans[0].relative}")
    return found


def _keys(scan: Scan) -> dict[str, None]:
    """Return what the mask of a scan may be called, without a suffix, the most telling first."""
    case, _ = case_and_modality(scan)
    return dict.fromkeys([scan.name, scan.name.rpartition("/")[2], case, case.rpartition("/")[2]])


def is_mask_name(path: Path) -> bool:
    """Tell whether a file's name says that it is a mask: Pre_Mask.nii.gz, 01-seg.nii, labels.nrrd."""
    words = stem_of(path).lower().replace("-", "_").replace(".", "_").split("_")
    return bool({"mask", "masks", "seg", "segmentation", "label", "labels", "roi"} & set(words))


def _beside(scan: Scan, near: Sequence[Path]) -> Path | None:
    """Return, of the masks in the scan's own folder, the one whose name begins most like the scan's."""
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


Labels = dict[int, str]  # value of a mask -> what it stands for
LABEL_FOLDERS = ("labelsTr", "labelsTs")  # of nnU-Net and nnDetection


def label_names(mask: Path) -> Labels | None:
    """Return what the values of a mask stand for, None where nothing says: all but 0 is then a lesion.

    nnU-Net: `labels` of the dataset.json above labelsTr. nnDetection: the classes of the instances in the JSON file
    beside the mask, which give each lesion a value of its own.
    """
    beside, above = mask.with_name(f"{stem_of(mask)}.json"), mask.parent.parent / "dataset.json"
    names = _classes(above) if mask.parent.name in LABEL_FOLDERS and above.is_file() else None
    if not beside.is_file():
        return None if names is None else {value: name for value, name in names.items() if value > 0}
    try:
        instances = {int(number): int(kind) for number, kind in parse_json(beside)["instances"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{beside} names no instances with their classes ({type(error).__name__})") from error
    return {number: (names or {}).get(kind, f"class{kind}") for number, kind in instances.items()}


def _classes(path: Path) -> Labels:
    """Read `labels` of a dataset.json: name -> number, or number -> name."""
    try:
        pairs = parse_json(path)["labels"].items()
        return {int(k): str(v) for k, v in (pair if str(pair[0]).isdigit() else pair[::-1] for pair in pairs)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} has no labels with their numbers ({type(error).__name__})") from error


def components(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the box of each connected component of at least `least` pixels of a mask (*s), (m, 2*d) float32.

    Pixels that touch by a corner are connected.
    """
    from scipy import ndimage

    numbered, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
    areas = np.bincount(numbered.ravel())
    boxes = [
        (*(side.start for side in sides[::-1]), *(side.stop for side in sides[::-1]))
        for number, sides in enumerate(ndimage.find_objects(numbered), start=1)
        if areas[number] >= least
    ]
    return np.array(boxes, np.float32).reshape(-1, 2 * mask.ndim)


def labelled_components(values: np.ndarray, names: Labels | None, least: int) -> tuple[np.ndarray, list[str]]:
    """Return the boxes of the components of a label map (*s), and their labels; see components.

    Without names every value but 0 is a lesion, and values that touch are one; with names each value stands for itself.
    """
    if names is None:
        boxes = components(values > 0, least)
        return boxes, ["lesion"] * len(boxes)
    found = [(components(values == value, least), name) for value, name in sorted(names.items())]
    boxes = np.concatenate([np.zeros((0, 2 * values.ndim), np.float32), *(boxes for boxes, _ in found)])
    return boxes, [name for boxes, name in found for _ in boxes]
