"""Images of training patients without their annotations: for generators that learn from such, and for pseudo-labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.evaluation.predicting import load_for, predicted
from medaug_cli.store import Record, Store
from medaug_cli.store.reading import is_real
from medaug_cli.study.subsets import chosen_patients, info_of_part, publish_part
from medaug_cli.tasks.cases import Each
from medaug_cli.tasks.classification import Classification
from medaug_cli.tasks.detection import IOUS, Detection
from medaug_cli.tasks.segmentation import Segmentation
from medaug_cli.tasks.task import Task

REST = "with-rest.h5"
FALSE_FINDS = 0.25  # a validation image, at the score from which a detector's finds become annotations
SURE = 0.9  # probability from which a class does


def rest_of(store: Store, task: Task, fraction: float, seed: int) -> np.ndarray:
    """Return the real training images that are not among those of a share of the patients."""
    kept = chosen_patients(store, task, fraction, seed)
    train, usable = np.flatnonzero((store.splits == "train") & is_real(store)), task.usable(store)
    return np.array([i for i in train if store.patients[i] not in kept or not usable[i]], np.int64)


def with_rest(store: Store, part: Store, task: Task, fraction: float, seed: int, out: Path) -> Store:
    """Publish the store of a share of the patients, and the images of the other training patients without a word."""
    rest = rest_of(store, task, fraction, seed)
    bare = {store.ids[i] for i in rest}
    own = [i for i, name in enumerate(part.ids) if name not in bare]
    info = info_of_part(store, {"fraction": fraction, "unannotated": "rest"}, seed, part.info.inputs)

    def record(k: int) -> Record:
        return part.record(own[k]) if k < len(own) else unannotated(store.record(int(rest[k - len(own)])))

    return publish_part(out, info, Each(len(own) + len(rest), record))


def unannotated(record: Record) -> Record:
    """Return an image of which nothing is known."""
    mask = None if record.mask is None else np.zeros_like(record.mask)
    return replace(record, boxes=record.boxes[:0], labels=[], mask=mask, image_class=None, annotated=False)


@dataclass(frozen=True)
class Labeller:
    """A trained network whose sure answers become annotations."""

    task: Task
    network: Any
    weights: str
    threshold: float  # of scores or probabilities; of masks there is none

    def settings(self) -> dict[str, Any]:
        """Return what makes its annotations these and no others."""
        return {"pseudo_labels": self.weights, "threshold": round(self.threshold, 6)}

    def annotated(self, store: Store, indices: np.ndarray) -> list[Record]:
        """Return the images, without their own annotations, that it is sure of."""
        answers = predicted(self.task, "real-only", self.network, store, indices)
        made = (self._annotated(store, int(i), answer) for i, answer in zip(indices, answers, strict=True))
        return [record for record in made if record is not None]

    def _annotated(self, store: Store, index: int, answer: Any) -> Record | None:
        bare = unannotated(store.record(index))
        details = bare.details | {"pseudo_label": True}
        if isinstance(self.task, Detection):
            boxes, labels = _sure_boxes(answer, store, self.threshold)
            return replace(bare, boxes=boxes, labels=labels, annotated=True, details=details) if len(boxes) else None
        if isinstance(self.task, Classification):
            best = int(np.argmax(answer))
            sure = float(answer[best]) >= self.threshold
            return replace(bare, image_class=store.class_names[best], details=details) if sure else None
        mask = np.asarray(answer, np.uint8)
        return replace(bare, mask=mask, annotated=True, details=details) if mask.any() else None


def labeller(task: Task, folder: Path, part: Store, device: str) -> Labeller:
    """Return a network of a study as one that annotates, with the threshold that validation images give it.

    Raises UsageError for a task of whose answers no annotation can be made.
    """
    if not isinstance(task, (Detection, Classification, Segmentation)):
        raise UsageError(f"--arm pseudo-label: the answers of a {task.kind} cannot serve as annotations")
    val = np.flatnonzero(task.usable(part) & (part.splits == "val"))
    network, metadata = load_for(task, "real-only", folder=folder, store=part, indices=val, split="val", device=device)
    threshold = SURE
    if isinstance(task, Detection):
        threshold = 0.5
        if not task.measurable(part, val):
            found = task.answers(part, val, predicted(task, "real-only", network, part, val))
            assert found.matched is not None  # as it comes from detections
            threshold = found.matched.score_at(IOUS[0], FALSE_FINDS)
    return Labeller(task, network, metadata.weights, min(threshold, 1.0) if np.isfinite(threshold) else 1.0)


def pseudo_labelled(store: Store, part: Store, indices: Sequence[int], by: Labeller, seed: int, out: Path) -> Store:
    """Publish the store of a share of the patients with other training images that a network has annotated."""
    records = by.annotated(store, np.asarray(indices, np.int64))
    info = info_of_part(store, by.settings(), seed, part.info.inputs)
    told = {record.id for record in records}  # images of the share's own patients may have been without annotation
    own = [i for i, name in enumerate(part.ids) if name not in told]

    def record(k: int) -> Record:
        return part.record(own[k]) if k < len(own) else records[k - len(own)]

    return publish_part(out, info, Each(len(own) + len(records), record))


def _sure_boxes(answer: Any, store: Store, threshold: float) -> tuple[np.ndarray, list[str]]:
    """Return the boxes that are found with at least a score, within the image, and their labels."""
    boxes, scores, labels = (np.asarray(each) for each in answer)
    d = store.spec.dims
    size = np.array(store.spec.spatial[::-1], np.float32)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 2 * d)
    inside = np.concatenate([np.clip(boxes[:, :d], 0, size), np.clip(boxes[:, d:], 0, size)], 1)
    kept = (scores >= threshold) & (inside[:, d:] - inside[:, :d] >= 1).all(1)
    return inside[kept], [store.spec.label_names[int(label)] for label in labels[kept]]
