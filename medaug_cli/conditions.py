"""Conditions for synthesis: training boxes, used as they are or slightly changed (Han et al. 2019, 2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medaug_cli.boxes import BoxesFile, scaled
from medaug_cli.errors import BadInput
from medaug_cli.plugin import Condition, ImageSpec

LEAST_SHARE = 0.3  # of a box's area that must stay inside the frame
LEAST_SIDE = 1.0  # pixel


@dataclass(frozen=True)
class Template:
    """The boxes of one image, in the generator's pixels."""

    id: str
    boxes: np.ndarray  # (m, 2*d) float32
    labels: np.ndarray  # (m,) int64


def templates(path: Path, file: BoxesFile, spec: ImageSpec) -> list[Template]:
    """Return the images of a boxes.json that have boxes, scaled to a generator's size.

    Raises BadInput where there is none, and for a label that the generator does not know.
    """
    number = {name: i for i, name in enumerate(spec.label_names)}
    found = []
    for image in file.images:
        boxes, names = image.arrays()
        if not len(boxes):
            continue
        if len(image.spatial) != spec.dims:
            raise BadInput(
                f"{path}: image {image.id} is {len(image.spatial)}D, the generator draws {spec.dims}D images"
            )
        if len(number) == 1:  # one kind of lesion: names need not agree
            names = [spec.label_names[0]] * len(names)
        unknown = set(names) - set(number)
        if unknown:
            known = ", ".join(number)
            raise BadInput(
                f"{path}: image {image.id} has the label {sorted(unknown)[0]!r}; the generator knows {known}"
            )
        labels = np.array([number[name] for name in names], np.int64)
        found.append(Template(image.id, scaled(boxes, image.spatial, spec.spatial), labels))
    if not found:
        raise BadInput(f"{path} has no box at all: there is nothing to ask the generator for")
    return found


def choose(choices: Sequence[Template], seed: int, index: int) -> Template:
    """Return the template of image `index`: every template once, in a shuffled order, then all again."""
    turn, place = divmod(index, len(choices))
    return choices[_order(len(choices), seed, turn)[place]]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, turn: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, turn, 1]).permutation(count).tolist())


def condition_of(template: Template, spec: ImageSpec, jitter: float, seed: int, index: int) -> Condition:
    """Return the condition of image `index`: flipped half the time, each box shifted by up to `jitter`
    of its side and zoomed by up to `jitter`; with `jitter` 0 the template as it is."""
    boxes = template.boxes
    if not jitter:
        return Condition(spec.spatial, boxes, template.labels)
    rng = np.random.default_rng([seed, index, 2])
    moved = _changed(boxes, spec.spatial, jitter, rng)
    size = np.array(spec.spatial[::-1], np.float32)
    d = len(size)
    inside = np.clip(moved, 0, np.tile(size, 2))
    sides, whole = inside[:, d:] - inside[:, :d], moved[:, d:] - moved[:, :d]
    kept = (sides.min(1) >= LEAST_SIDE) & (sides.prod(1) >= LEAST_SHARE * whole.prod(1))
    if not kept.any():
        return Condition(spec.spatial, boxes, template.labels)
    return Condition(spec.spatial, inside[kept].astype(np.float32), template.labels[kept])


def _changed(boxes: np.ndarray, spatial: tuple[int, ...], jitter: float, rng: np.random.Generator) -> np.ndarray:
    d, width = len(spatial), spatial[-1]
    low, high = boxes[:, :d].astype(np.float64), boxes[:, d:].astype(np.float64)
    if rng.random() < 0.5:
        low[:, 0], high[:, 0] = width - boxes[:, d], width - boxes[:, 0]
    centre, half = (low + high) / 2, (high - low) / 2
    zoom = 1 + rng.uniform(-jitter, jitter, (len(boxes), 1))
    centre = centre + rng.uniform(-jitter, jitter, centre.shape) * 2 * half
    return np.concatenate([centre - half * zoom, centre + half * zoom], 1)
