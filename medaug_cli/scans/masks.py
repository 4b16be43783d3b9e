"""Masks in files: what their values stand for, and the boxes of what they mark."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.files import parse_json
from medaug_cli.scans.reading import stem_of

Labels = dict[frozenset[int], str]  # values of a mask that are one class, or one lesion -> its name
LABEL_FOLDERS = ("labelsTr", "labelsTs")  # of nnU-Net and nnDetection
LIGHT = 127  # of 255, from which a mask in a JPEG, which has no clean edges, is marked
MOST_PARTS = 31  # bits of a value


def label_names(mask: Path) -> Labels | None:
    """Return what the values of a mask stand for, None where nothing says: all but 0 is then a lesion.

    nnU-Net: `labels` of the dataset.json above labelsTr, a value or a list of them (a region) each; `ignore` is none.
    nnDetection: the classes of the instances in the JSON file beside the mask, which give each lesion a value of its
    own; another JSON of its name, as BIDS and dcm2niix write it, says nothing of values.
    """
    beside, above = mask.with_name(f"{stem_of(mask)}.json"), mask.parent.parent / "dataset.json"
    classes = _classes(above) if mask.parent.name in LABEL_FOLDERS and above.is_file() else None
    instances = _instances(beside) if beside.is_file() else None
    if instances is None:
        return classes
    names = {value: name for values, name in (classes or {}).items() for value in values}
    return {frozenset([number]): names.get(kind, f"class{kind}") for number, kind in instances.items()}


def _instances(path: Path) -> dict[int, int] | None:
    """Read nnDetection's instances, value -> class; None where a JSON has none."""
    found = parse_json(path)
    if not isinstance(found, dict) or "instances" not in found:
        return None
    try:
        return {int(number): int(kind) for number, kind in found["instances"].items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} does not give each instance the number of its class") from error


def _classes(path: Path) -> Labels:
    """Read `labels` of a dataset.json: name -> number or list of numbers, or number -> name; 0 is the background."""
    try:
        pairs = [pair if str(pair[0]).isdigit() else pair[::-1] for pair in parse_json(path)["labels"].items()]
        found = [(frozenset(map(int, k if isinstance(k, list) else [k])), str(v)) for k, v in pairs]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} has no labels with their numbers ({type(error).__name__})") from error
    classes = {values - {0}: name for values, name in found if values - {0}}
    if len(classes) < sum(bool(values - {0}) for values, _ in found):
        raise BadInput(f"{path} gives two labels the same values; leave one")
    return classes


def mask_values(path: Path, image: np.ndarray) -> np.ndarray:
    """Return the values (*s) int32 of a mask that was read as (c, *s)."""
    values = image.max(0)
    return (values > LIGHT if path.suffix.lower() in (".jpg", ".jpeg") else values).astype(np.int32)


def joined_parts(parts: Sequence[np.ndarray], names: Labels | None) -> tuple[np.ndarray, Labels | None]:
    """Return the parts of one mask, values (*s) int32 each, as one, and its names; a part may lie over another.

    Each of several parts has a bit of its own, and so is a lesion of its own.
    """
    if len(parts) == 1:
        return parts[0], names
    if names is not None or len(parts) > MOST_PARTS:
        raise BadInput(f"a mask in {len(parts)} parts: up to {MOST_PARTS} are read, and none with names of classes")
    joined = np.zeros(parts[0].shape, np.int32)
    for bit, part in enumerate(parts):
        joined |= (part != 0).astype(np.int32) << bit
    present = [int(value) for value in np.unique(joined)]
    own = [frozenset(value for value in present if value >> bit & 1) for bit in range(len(parts))]
    return joined, {values: "lesion" for values in own if values}


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

    Without names every value but 0 is a lesion, and values that touch are one; with names each class stands for itself.
    """
    if names is None:
        boxes = components(values > 0, least)
        return boxes, ["lesion"] * len(boxes)
    ordered = sorted(names.items(), key=lambda one: sorted(one[0]))
    found = [(components(np.isin(values, list(own)), least), name) for own, name in ordered]
    boxes = np.concatenate([np.zeros((0, 2 * values.ndim), np.float32), *(boxes for boxes, _ in found)])
    return boxes, [name for boxes, name in found for _ in boxes]
