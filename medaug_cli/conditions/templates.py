"""Conditions for synthesis: what training images show, as it is or slightly changed (Han et al. 2019, 2.2)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medaug_cli.boxes import BoxesFile, ImageBoxes, patients_seen, scaled
from medaug_cli.conditions.moving import LEAST_SHARE, mirrored, moved
from medaug_cli.errors import BadInput
from medaug_cli.plugin import Condition, ImageSpec

LEAST_SIDE = 1.0  # pixel
SHAPE = 1.02  # how much more one side of an image may be scaled than another


@dataclass(frozen=True)
class Template:
    """What one image shows, in the generator's pixels."""

    id: str
    boxes: np.ndarray  # (m, 2*d) float32
    labels: np.ndarray  # (m,) int64
    spacing: tuple[float, ...] | None = None  # mm between the generator's pixels in numpy axis order
    mask: np.ndarray | None = None  # (*s) uint8
    image_class: int = -1  # index into the generator's classes


def templates(path: Path, file: BoxesFile, spec: ImageSpec, training_patients: Collection[str] = ()) -> list[Template]:
    """Return the images of a boxes.json that have boxes, scaled to a generator's size.

    `training_patients` are digests of those whom the generator was fitted on. Raises BadInput where there is no box,
    for a label that the generator does not know, an image of another shape, and one that is held out: of the
    validation or test split, or, where no split is named, of no patient or one whom the generator was not fitted on.
    """
    found = []
    for image in file.images:
        boxes, names = image.arrays()
        if not len(boxes):
            continue
        _refuse_held_out(path, image, training_patients)
        if len(image.spatial) != spec.dims:
            raise BadInput(
                f"{path}: image {image.id} is {len(image.spatial)}D, the generator draws {spec.dims}D images"
            )
        refuse_stretched(path, image.id, image.spatial, spec)
        labels = label_numbers(path, image.id, names, spec)
        spacing = None if image.spacing is None else resized(image.spacing[::-1], image.spatial, spec.spatial)
        found.append(Template(image.id, scaled(boxes, image.spatial, spec.spatial), labels, spacing))
    if not found:
        raise BadInput(f"{path} has no boxes to draw images for; to draw images like those of a store give --like")
    return found


def label_numbers(path: Path, image: str, names: Sequence[str], spec: ImageSpec) -> np.ndarray:
    """Return the labels (m,) of an image's boxes by number; raise BadInput for one that the generator does not know."""
    number = {name: i for i, name in enumerate(spec.label_names)}
    if len(number) == 1:  # one kind of lesion: names need not agree
        return np.zeros(len(names), np.int64)
    unknown = set(names) - set(number)
    if unknown:
        known = ", ".join(number) or "none"
        raise BadInput(f"{path}: image {image} has the label {sorted(unknown)[0]!r}; the generator knows {known}")
    return np.array([number[name] for name in names], np.int64)


def _refuse_held_out(path: Path, image: ImageBoxes, training_patients: Collection[str]) -> None:
    if image.split not in (None, "train"):
        raise BadInput(
            f"{path}: image {image.id} is of the {image.split} split; synthetic images are drawn for the boxes of "
            f"training images only (preprocess writes them to boxes.json)"
        )
    if image.split or not training_patients:
        return
    if image.patient is None:
        raise BadInput(
            f"{path}: image {image.id} has neither a split nor a patient, so it may be held out; if it is not, give "
            'the image "split": "train"'
        )
    if not patients_seen([image.patient], training_patients):
        raise BadInput(
            f"{path}: image {image.id} is of patient {image.patient}, which the generator was not fitted on, and "
            'has no split; if that patient is not held out, give the image "split": "train"'
        )


def refuse_stretched(path: Path, image: str, spatial: Sequence[int], spec: ImageSpec) -> None:
    """Raise BadInput for an image of another shape than the generator draws."""
    factors = [new / old for new, old in zip(spec.spatial, spatial, strict=True)]
    if max(factors) > SHAPE * min(factors):
        drawn, own = ("x".join(map(str, each[::-1])) for each in (spec.spatial, spatial))
        raise BadInput(
            f"{path}: image {image} is {own} pixels, the generator draws {drawn}: the boxes would be stretched; "
            "use the boxes.json that preprocess wrote beside the generator's store"
        )


def specks(choices: Sequence[Template], spec: ImageSpec) -> int:
    """Return how many boxes are narrower than a pixel at the generator's size."""
    return sum(int(((t.boxes[:, spec.dims :] - t.boxes[:, : spec.dims]).min(1) < LEAST_SIDE).sum()) for t in choices)


def resized(spacing: Sequence[float], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[float, ...]:
    """Return the mm between pixels (d,) of an image that is resized."""
    return tuple(step * a / b for step, a, b in zip(spacing, old, new, strict=True))


def choose(choices: Sequence[Template], seed: int, index: int) -> Template:
    """Return the template of image `index`: every template once, in a shuffled order, then all again."""
    turn, place = divmod(index, len(choices))
    return choices[_order(len(choices), seed, turn)[place]]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, turn: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, turn, 1]).permutation(count).tolist())


def condition_of(
    template: Template, spec: ImageSpec, jitter: float, seed: int, index: int, mirror: bool = True
) -> Condition:
    """Return the condition of image `index`: with `jitter` 0 the template as it is, else slightly changed.

    With `mirror` it is flipped half the time. Each box is shifted by up to `jitter` of its side and zoomed by up to
    `jitter`; where there is a mask it is moved as a whole, and its boxes with it.
    """
    boxes, labels, mask = template.boxes, template.labels, template.mask
    rng = np.random.default_rng([seed, index, 2])
    if jitter and mask is not None and mask.any():
        mask, boxes = moved(mask, boxes, jitter, rng, mirror)
    elif jitter and len(boxes):
        boxes, labels = _changed(boxes, labels, spec.spatial, jitter=jitter, rng=rng, mirror=mirror)
    return Condition(spec.spatial, boxes, labels, mask, template.image_class)


def _changed(
    boxes: np.ndarray,
    labels: np.ndarray,
    spatial: tuple[int, ...],
    *,
    jitter: float,
    rng: np.random.Generator,
    mirror: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes and labels that are left of changed boxes; all as they were where none is."""
    there = _shaken(boxes, spatial, jitter=jitter, rng=rng, mirror=mirror)
    size = np.array(spatial[::-1], np.float32)
    d = len(size)
    inside = np.clip(there, 0, np.tile(size, 2))
    sides, whole = inside[:, d:] - inside[:, :d], there[:, d:] - there[:, :d]
    kept = (sides.min(1) >= LEAST_SIDE) & (sides.prod(1) >= LEAST_SHARE * whole.prod(1))
    if not kept.any():
        return boxes, labels
    return inside[kept].astype(np.float32), labels[kept]


def _shaken(
    boxes: np.ndarray, spatial: tuple[int, ...], *, jitter: float, rng: np.random.Generator, mirror: bool
) -> np.ndarray:
    d = len(spatial)
    own = (mirrored(boxes, spatial[-1]) if rng.random() < 0.5 and mirror else boxes).astype(np.float64)
    centre, half = (own[:, :d] + own[:, d:]) / 2, (own[:, d:] - own[:, :d]) / 2
    zoom = 1 + rng.uniform(-jitter, jitter, (len(boxes), 1))
    centre = centre + rng.uniform(-jitter, jitter, centre.shape) * 2 * half
    return np.concatenate([centre - half * zoom, centre + half * zoom], 1)
