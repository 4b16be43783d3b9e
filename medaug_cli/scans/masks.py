"""Masks in files: what their values stand for, and the boxes of what they mark."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.files import parse_json
from medaug_cli.scans.reading import mask_file, stem_of
from medaug_cli.words import percent

Labels = dict[frozenset[int], str]  # values of a mask that are one class, or one lesion -> its name
LABEL_FOLDERS = ("labelsTr", "labelsTs")  # of nnU-Net and nnDetection
LIGHT = 127  # of 255, from which a mask in a JPEG, which has no clean edges, is marked
JPEG = (".jpg", ".jpeg")
BYTE = 255
WHITE = 230  # of 255, from which a pixel is white
SHADES = 4  # greys of soft edges, at least
TOLERANCE = 0.05  # up to which a number is a whole one; a label map of 0 to 20 that was scaled into bytes is off by .04
COLOUR = 1 << 24  # added to the value of a colour, red + green << 8 + blue << 16, which grey values do not have
EDGE_LEVELS = 16  # values up to which a mask is a label map, whatever lies beside what
WHITE_BORDER = 0.9  # share of the border that is marked, from which a mask may be inverted
FEW = 1 << 16  # values that are counted rather than sorted
MOST_PARTS = 31  # bits of a value
PREDICTED = "labels.json"
IGNORED = ""  # the name of nnU-Net's `ignore`


def label_names(mask: Path) -> Labels | None:
    """Return what the values of a mask stand for, None where nothing says: all but 0 is then a lesion.

    nnU-Net: `labels` of the dataset.json above labelsTr, a value or a list of them (a region) each; `ignore` is none.
    nnDetection: the classes of the instances in the JSON file beside the mask, which give each lesion a value of its
    own; another JSON of its name, as BIDS and dcm2niix write it, says nothing of values. `predict`: the labels.json in
    the folder of masks. A DICOM segmentation names its segments itself.
    """
    told = mask_file(mask)
    if told is not None:
        return {frozenset([value]): name for value, name in told.names.items()}
    beside, above = mask.with_name(f"{stem_of(mask)}.json"), mask.parent.parent / "dataset.json"
    classes = _classes(above) if mask.parent.name in LABEL_FOLDERS and above.is_file() else None
    if classes is None:
        classes = predicted_labels(mask.with_name(PREDICTED))
    instances = _instances(beside) if beside.is_file() else None
    if instances is None:
        return None if classes is None else _without_background(classes)
    names = {value: name for values, name in (classes or {}).items() for value in values}
    return {frozenset([number]): names.get(kind, f"class{kind}") for number, kind in instances.items()}


def labels_of_dataset(path: Path) -> Labels:
    """Return what the values of masks stand for by the `labels` of nnU-Net's dataset.json."""
    return _without_background(_classes(path))


def predicted_labels(path: Path) -> Labels | None:
    """Return what the values of masks stand for as `predict` writes it, name -> number; None where nothing says."""
    if not path.is_file():
        return None
    found = parse_json(path)
    ours = isinstance(found, dict) and found.get("background") == 0
    if not ours or not all(type(value) is int for value in found.values()):
        return None  # a file of that name for another purpose
    return _without_background({frozenset([value]): name for name, value in found.items()})


def _without_background(classes: Labels) -> Labels:
    return {values: name for values, name in classes.items() if values != {0}}


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
    """Read `labels` of a dataset.json: name -> number or list of numbers, or number -> name."""
    try:
        pairs = [pair if str(pair[0]).isdigit() else pair[::-1] for pair in parse_json(path)["labels"].items()]
        named = [(k, IGNORED if v == "ignore" else str(v)) for k, v in pairs]
        found = [(frozenset(map(int, k if isinstance(k, list) else [k])), name) for k, name in named]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} has no labels with their numbers ({type(error).__name__})") from error
    classes = dict(found)
    if len(classes) < len(found):
        raise BadInput(f"{path} gives two labels the same values; keep one")
    return classes


def mask_values(path: Path, image: np.ndarray, names: Labels | None = None, strict: bool = True) -> np.ndarray:
    """Return the values (*s) int32 of a mask that was read as (c, *s): 0 outside, and where `names` say to ignore it.

    Numbers within TOLERANCE of whole ones are rounded. Each of a few colours is a value of its own where nothing is
    named, the same in every file (see `colour_name`), else the strongest channel counts; pictures with soft
    edges, as JPEG leaves them, are cut at half of white. Raises BadInput for what is not a mask: numbers between whole
    ones or below 0, as many grey values as a picture has, white outside, and values that `names` do not name. Without
    `strict`, as for what a network answers, which may mark nearly all, what is white outside is taken too.
    """
    values = image.max(0) if names is not None else _colours(image)
    if values.ndim == 2 and names is None and (path.suffix.lower() in JPEG or _soft_edged(values)):
        if values.any() and values.max() <= LIGHT:
            raise BadInput(f"{path} marks nothing lighter than {LIGHT} of 255; save masks as PNG, white for a lesion")
        values = (values > LIGHT).astype(np.float32)
    whole = np.rint(values)
    off = np.abs(values - whole)
    if off.max(initial=0) > TOLERANCE:
        odd = float(values.ravel()[int(np.argmax(off))])
        raise BadInput(
            f"the mask {path} holds numbers between whole ones, such as {odd:.3g}; a label map has 0 outside and a "
            "whole number for each lesion or class (cut a soft mask at 0.5 first)"
        )
    found = whole.astype(np.int32)
    _check_levels(path, found, names, strict)
    for value in (value for own, name in (names or {}).items() if name == IGNORED for value in own):
        found[found == value] = 0
    return found


def _colours(image: np.ndarray) -> np.ndarray:
    """Return the value (*s) of each of a few colours of an image (c, *s), else its strongest channel."""
    strongest = np.asarray(image.max(0))
    if len(image) < 3 or (image == strongest).all() or strongest.max() > BYTE:
        return strongest
    codes = sum(np.rint(channel).astype(np.int64) << (8 * k) for k, channel in enumerate(image[:3].clip(0)))
    if len(np.unique(codes[codes > 0])) > EDGE_LEVELS:
        return strongest
    return np.where(codes > 0, codes + COLOUR, 0).astype(np.float64)


def colour_name(value: int) -> str:
    """Return a value of a mask as a person writes it: a number, or a colour as #rrggbb."""
    if value < COLOUR:
        return str(value)
    return "#" + "".join(f"{value - COLOUR >> shift & BYTE:02x}" for shift in (0, 8, 16))


def _levels(values: np.ndarray) -> np.ndarray:
    """Return the different values (k,) of whole numbers, ascending."""
    if values.size and values.min() >= 0 and values.max() <= FEW:
        return np.flatnonzero(np.bincount(values.ravel()))  # np.unique sorts, which takes seconds for a large volume
    return np.unique(values)


def _soft_edged(values: np.ndarray) -> bool:
    """Tell whether a picture (h, w) is black and white but for its edges: what is between nowhere fills 2x2 pixels."""
    between, white = (values > 0) & (values < WHITE), values >= WHITE
    if values.max(initial=0) > 255 or not white.any() or 5 * white.sum() < (values > 255 - WHITE).sum():
        return False
    corner = values[:-1, :-1]
    flat = between[:-1, :-1] & (values[1:, :-1] == corner) & (values[:-1, 1:] == corner) & (values[1:, 1:] == corner)
    return bool(20 * flat.sum() < between.sum()) and len(np.unique(values[between])) >= SHADES


def _flat_share(values: np.ndarray) -> float:
    """Return how many of the marked pixels that lie side by side are equal: most of a label map, few of a picture."""
    left, right = values[..., :-1], values[..., 1:]
    both = (left > 0) & (right > 0)
    return float((left == right)[both].mean()) if both.any() else 1.0


def _check_levels(path: Path, values: np.ndarray, names: Labels | None, strict: bool) -> None:
    levels = _levels(values)
    if levels[0] < 0:
        raise BadInput(f"the mask {path} holds {levels[0]}; 0 is outside, a lesion or class is a number above it")
    if names is not None:
        unknown = set(levels.tolist()) - {0} - set().union(*names)
        if unknown:
            known = [f"{value} ({name or 'ignored'})" for own, name in names.items() for value in sorted(own)]
            listed = ", ".join(known[:9]) or "none"
            raise BadInput(f"the mask {path} holds {min(unknown)}, which has no name; the values with one are {listed}")
        return
    if len(levels) > EDGE_LEVELS and _flat_share(values) < 0.5:
        raise BadInput(
            f"the mask {path} has {len(levels)} grey values, as a picture has; a mask is 0 outside and has few numbers"
        )
    if not strict:
        return
    border = np.concatenate([np.take(values, (0, -1), axis).ravel() for axis in range(values.ndim)])
    if (border > 0).mean() >= WHITE_BORDER:
        raise BadInput(
            f"the mask {path} marks {percent((values > 0).mean())} of the picture and nearly all of its border: is it "
            "white outside? Invert it: 0 is outside"
        )


def unnamed(parts: Sequence[np.ndarray], names: Labels | None) -> bool:
    """Tell whether a part (*s) of a mask marks with several values that nothing names."""
    return names is None and any((_levels(part) > 0).sum() > 1 for part in parts)


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
    present = _levels(joined).tolist()
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
    found = [(components(part, least), name) for part, name in _classes_of(values, names)]
    boxes = np.concatenate([np.zeros((0, 2 * values.ndim), np.float32), *(boxes for boxes, _ in found)])
    return boxes, [name for boxes, name in found for _ in boxes]


def _classes_of(values: np.ndarray, names: Labels | None) -> Iterator[tuple[np.ndarray, str]]:
    """Yield what each class, or lesion, of a label map (*s) covers, (*s) bool, and its name."""
    if names is None:
        yield values > 0, "lesion"
        return
    for own, name in sorted(names.items(), key=lambda one: sorted(one[0])):
        if name != IGNORED:
            yield np.isin(values, list(own)), name


def sizes_below(values: np.ndarray, names: Labels | None, least: int) -> list[int]:
    """Return the pixels of each component of a label map (*s) that has fewer than `least`; see labelled_components."""
    from scipy import ndimage

    sizes: list[int] = []
    for part, _ in _classes_of(values, names):
        if part.any():
            numbered, _ = ndimage.label(part, np.ones((3,) * part.ndim))
            sizes += [int(size) for size in np.bincount(numbered.ravel())[1:] if size < least]
    return sizes
