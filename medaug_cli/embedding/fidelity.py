"""Condition fidelity: does a detector that was trained on real images find the lesions where they were asked for?

Legend of shapes: n images, m boxes of an image, c channels, *s spatial axes, d = len(s).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaug_cli.answers import answered
from medaug_cli.boxes import Strict
from medaug_cli.embedding.statistics import others
from medaug_cli.metrics import cohort_of, found_boxes, match_detections, true_boxes
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, TrueBoxes
from medaug_cli.metrics.breakdown import SizeGroup, by_size, lesion_sizes
from medaug_cli.metrics.operating import Sightings
from medaug_cli.plugin import ImageSpec

LEAST_IOU = 0.25
SHUFFLES = 5


class LabelGroup(Strict):
    """How many lesions of one label are found."""

    label: str
    boxes: int
    sensitivity: float | None


class Fidelity(Strict):
    """How often a detector finds the asked lesions, and how often it would do so by chance and habit."""

    found: float  # share of the asked boxes that are found
    shuffled: float  # the same where each image is judged by the boxes of another
    boxes: int
    sizes: list[SizeGroup] = []  # thirds of the real held-out lesions, the smallest first
    labels: list[LabelGroup] = []


@dataclass(frozen=True)
class Judge:
    """A detector at the score from which it gives one false positive per real slice."""

    detector: Any
    threshold: float
    label_names: tuple[str, ...]
    edges: tuple[float, ...] = ()  # sides in pixels between small, middling and large lesions

    def fidelity(
        self, images: Iterable[np.ndarray], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], seed: int = 0
    ) -> Fidelity | None:
        """Return how often lesions are found at the asked boxes, n of (m, 2*d), with IoU 0.25 or more.

        None where no box is asked for.
        """
        if not any(map(len, boxes)):
            return None
        found = _found(self.detector, images, boxes, self.label_names)
        rng, shuffled = np.random.default_rng(seed), []
        for _ in range(SHUFFLES):
            turn = others(len(boxes), rng)
            shuffled.append(self._share(found, [boxes[i] for i in turn], [labels[i] for i in turn]))
        data, seen = self._seen(found, boxes, labels)
        return Fidelity(
            found=float(seen.found.mean()),
            shuffled=float(np.mean(shuffled)),
            boxes=sum(map(len, boxes)),
            sizes=by_size(data, [seen], self.edges),
            labels=_by_label(data, seen),
        )

    def _share(self, found: FoundBoxes, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
        return float(self._seen(found, boxes, labels)[1].found.mean())

    def _seen(
        self, found: FoundBoxes, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
    ) -> tuple[Annotated, Sightings]:
        data = _annotated(true_boxes(boxes, labels, boxes[0].shape[1] // 2), len(boxes), self.label_names)
        return data, match_detections(data, cohort_of(data), found, (LEAST_IOU,)).at(LEAST_IOU, self.threshold)


def _by_label(data: Annotated, seen: Sightings) -> list[LabelGroup]:
    groups = []
    for label, name in enumerate(data.label_names):
        own = data.truth.labels == label
        share = float(seen.found[own].mean()) if own.any() else None
        groups.append(LabelGroup(label=name, boxes=int(own.sum()), sensitivity=share))
    return groups


def calibrated(
    detector: Any, images: Iterable[np.ndarray], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray],
    label_names: tuple[str, ...],
) -> Judge:  # fmt: skip
    """Return a judge that gives at most one false positive per slice on these real images of unseen patients."""
    found = _found(detector, images, boxes, label_names)
    data = _annotated(true_boxes(boxes, labels, boxes[0].shape[1] // 2), len(boxes), label_names)
    matched = match_detections(data, cohort_of(data), found, (LEAST_IOU,))
    sizes = lesion_sizes(data)[0]
    edges = tuple(np.unique(np.quantile(sizes, (1 / 3, 2 / 3))).tolist()) if len(sizes) else ()
    return Judge(detector, matched.score_at(LEAST_IOU), label_names, edges)


def _found(
    detector: Any, images: Iterable[np.ndarray], boxes: Sequence[np.ndarray], label_names: tuple[str, ...]
) -> FoundBoxes:
    """Return what a detector finds in images, as many as have `boxes`; raise BrokenContract for other answers."""
    d, name = boxes[0].shape[1] // 2, type(detector).__name__
    spec = ImageSpec(1, (1,) * d, label_names)  # of which answers are judged by axes and labels alone
    return found_boxes(list(answered("detector", name, detector.predict(images), len(boxes), spec)), d)


def _annotated(truth: TrueBoxes, images: int, label_names: tuple[str, ...]) -> Annotated:
    names = tuple(map(str, range(images)))
    return Annotated(names, names, label_names, truth, truth.boxes.shape[1] // 2)
