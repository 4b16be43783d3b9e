"""What a study's page shows of the images themselves: real and synthetic ones, nearest pairs, and detections."""

import io
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaug_cli.evaluation.pictures import overlays
from medaug_cli.figures.grid import draw_grid
from medaug_cli.figures.task_figures import outlined
from medaug_cli.metrics.operating import Matched
from medaug_cli.store import Store

SHOWN = 8  # images of a row
PAIRS = 6
OVERLAYS = 4
CELL = 112  # pixels


@dataclass(frozen=True)
class Shown:
    """A picture for the page."""

    title: str
    source: str  # data: URI


def row(title: str, store: Store, indices: np.ndarray, seed: int, masks: bool = False) -> Shown:
    """Return some images of a store, chosen by seed and not by eye, with their boxes, or with the outlines of masks."""
    chosen = np.random.default_rng(seed).permutation(indices)[:SHOWN]
    images = [np.asarray(store.images[i]) for i in chosen]
    if (store.classes[chosen] >= 0).any():
        title += f" ({', '.join(store.class_names[k] if k >= 0 else 'unknown' for k in store.classes[chosen])})"
    boxes = [store.boxes[i] for i in chosen]
    if masks and store.masks is not None:
        pictures = [outlined(image, [np.asarray(store.masks[i])]) for image, i in zip(images, chosen, strict=True)]
        images, boxes = [np.moveaxis(each, -1, 0) for each in pictures], [each[:0] for each in boxes]
    return Shown(title, _source(draw_grid(images, boxes, SHOWN, CELL)))


def nearest_pairs(title: str, synthetic: Store, real: Store, pairs: list[tuple[str, str]]) -> Shown:
    """Return the synthetic images that come nearest to a training image, above those training images."""
    places = [(synthetic, synthetic.ids), (real, real.ids)]
    images, boxes = [], []
    for which, (store, ids) in enumerate(places):
        where = {name: i for i, name in enumerate(ids)}
        for pair in pairs[:PAIRS]:
            images.append(np.asarray(store.images[where[pair[which]]]))
            boxes.append(store.boxes[where[pair[which]]])
    return Shown(title, _source(draw_grid(images, boxes, len(pairs[:PAIRS]), CELL)))


def detections(store: Store, indices: np.ndarray, matched: Mapping[str, Matched], iou: float) -> list[Shown]:
    """Return what some detectors find on the images on which they disagree most, one picture each."""
    names = next(iter(matched.values())).data.image_names
    drawn = overlays(matched, iou, lambda i: np.asarray(store.images[indices[i]]), OVERLAYS)
    return [Shown(names[index], _source(picture)) for index, picture in drawn]


def _source(picture: Any) -> str:
    target = io.BytesIO()
    picture.convert("RGB").save(target, format="JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(target.getvalue()).decode()}"
