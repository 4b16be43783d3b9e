"""The contract of a detector."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medaug_cli.answers import detections
from medaug_cli.plugin import Detections, ImageSpec, Previewed
from medaug_cli.testing.checking import Checks, Result, require
from medaug_cli.testing.contract import (
    Subject,
    check_channels,
    check_class,
    check_continues,
    check_fit,
    check_odd_size,
    check_other_dims,
    check_resume,
    check_variants,
    check_wrong_weights,
    reloaded,
    taken,
    upset_random_state,
    weights,
)
from medaug_cli.testing.examples import ConstructedExamples, constructed

CLOSE_PIXELS, CLOSE_SCORE = 0.1, 0.01  # rounding of a network that sees another batch
OVERLAPPING = 0.3  # IoU from which one of two near ties may have been suppressed by the other


def check_detector(
    plugin: type | str, settings: Mapping[str, Any] | None = None, report: Callable[[str], None] = lambda name: None
) -> list[Result]:
    """Check a detector, a class or the name of an installed one, on small constructed images.

    Returns one result per check; checks that need what has failed are left out. Takes seconds with
    settings that suit a CPU. `report` hears the name of each check before it runs.
    """
    checks, subject = Checks(report), Subject("detector", plugin, settings or {})
    if not check_class(checks, subject):
        return checks.results
    data = constructed(subject.spec())
    fitted = check_fit(checks, subject, data, detect, on_validate=_scorer(data))
    if fitted is None:
        return checks.results
    trained, run = fitted
    checks.run("resume", lambda: check_resume(subject, data, trained, run))
    checks.run("weights", lambda: f"{len(weights(trained))} tensors, all finite")
    if checks.run("detections", lambda: _detections(trained, data)):
        checks.run("reloaded", lambda: _reloaded(subject, trained, data))
        checks.run("batches", lambda: _batches(trained, data))
        checks.run("empty images", lambda: _empty(trained, data.spec))
        checks.run("continues", lambda: check_continues(subject, trained, data, detect))
    checks.run("variants", lambda: check_variants(subject))
    checks.run("augmented", lambda: _augmented(trained, data))
    checks.run("wrong weights", lambda: check_wrong_weights(subject, trained, data.spec))
    checks.run("channels", lambda: check_channels(subject, detect))
    checks.run("dimensions", lambda: check_other_dims(subject, detect))
    checks.run("sizes", lambda: check_odd_size(subject, detect))
    return checks.results


def _scorer(data: ConstructedExamples) -> Callable[[Callable], dict[str, float]]:
    """Return what `run.validate` does in a trial: look at the detections on three images."""

    def score(predict: Callable) -> dict[str, float]:
        found = taken(predict(image for image in data.images[:3]), 3, "predict")
        for one in found:
            well_formed(one, data.spec)
        return {"score": float(np.mean([one[1].max(initial=0) for one in found])), "mAP": 0.0}

    return score


def detect(plugin: Any, data: ConstructedExamples) -> list[Detections]:
    """Return the detections on every constructed image, checked."""
    found = taken(plugin.predict(image for image in data.images), len(data), "predict")
    for one in found:
        well_formed(one, data.spec)
    return found


def well_formed(found: Any, spec: ImageSpec) -> None:
    """Fail detections that break a rule: shapes, types, boxes in the image, scores in order, known labels."""
    detections(found, spec)
    require(all(isinstance(part, np.ndarray) for part in found), "predict must yield numpy arrays")
    boxes, scores, labels = found
    d = spec.dims
    require(boxes.ndim == 2, f"predict yields boxes of shape {boxes.shape}; expected (m, {2 * d}), also for 0")
    require(boxes.dtype.kind == "f", f"predict yields boxes as {boxes.dtype}; expected floats")
    require(labels.dtype.kind in "iu", f"predict yields labels as {labels.dtype}; expected integers")
    size = np.array(spec.spatial[::-1], np.float64)
    inside = (boxes[:, :d] >= 0).all() and (boxes[:, d:] <= size + 1e-3).all()
    require(inside, "predict yields a box that reaches outside the image; clip boxes to it")
    require(
        (boxes[:, d:] > boxes[:, :d]).all(), "predict yields a box whose high corner does not exceed its low corner"
    )
    require((np.diff(scores) <= 0).all(), "predict must yield the best score first")


def _detections(plugin: Any, data: ConstructedExamples) -> str:
    found = detect(plugin, data)
    return f"{sum(len(one[0]) for one in found)} boxes on {len(data)} images, inside them, best score first"


def _reloaded(subject: Subject, plugin: Any, data: ConstructedExamples) -> str:
    other = reloaded(subject, plugin, data.spec)
    pairs = zip(detect(plugin, data), detect(other, data), strict=True)
    require(all(_alike(a, b) for a, b in pairs), "weights that are saved and loaded detect other boxes")
    return "saved and loaded, it detects the same"


def _batches(plugin: Any, data: ConstructedExamples) -> str:
    upset_random_state(1)
    together = detect(plugin, data)
    upset_random_state(2)
    alone = [next(iter(plugin.predict([image]))) for image in data.images]
    same = all(_alike(a, b) for a, b in zip(together, alone, strict=True))
    require(same, "an image alone gives other detections than in a batch; is the network in evaluation mode?")
    return "an image gives the same detections alone and in a batch"


def _augmented(plugin: Any, data: ConstructedExamples) -> str:
    if not isinstance(plugin, Previewed):
        return "it does not show how it augments its training images"
    images = np.stack(list(data.images))
    first, again = (plugin.augmented(images.copy(), list(data.boxes), list(data.labels), 1) for _ in range(2))
    require(first[0].shape == images.shape, f"augmented gives images {first[0].shape} for {images.shape}")
    require((first[0] == again[0]).all(), "augmented gives other images for the same seed")
    require(first[0].min() >= 0 and first[0].max() <= 1, "augmented gives pixels outside 0 to 1")
    for boxes, labels in zip(*first[1:], strict=True):
        well_formed((boxes, np.ones(len(boxes), np.float32), labels), data.spec)
    return f"{sum(map(len, first[1]))} of {sum(map(len, data.boxes))} boxes stay in the images"


def _alike(one: Detections, other: Detections) -> bool:
    """Tell whether two lists of detections agree but for rounding.

    Near ties may change places, and of two that overlap the other may have been suppressed.
    """
    d = one[0].shape[1]
    for these, those in ((one, other), (other, one)):
        sure = these[1] > CLOSE_SCORE
        for box, score, label in zip(these[0][sure], these[1][sure], these[2][sure], strict=True):
            near = np.abs(those[0] - box).max(1, initial=0) <= CLOSE_PIXELS if d else np.zeros(0, bool)
            near |= _overlap(box, those[0]) >= OVERLAPPING
            if not (near & (np.abs(those[1] - score) <= CLOSE_SCORE) & (those[2] == label)).any():
                return False
    return True


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (m,) of a box (2*d,) with others (m, 2*d)."""
    d = len(box) // 2
    sides = np.clip(np.minimum(box[d:], others[:, d:]) - np.maximum(box[:d], others[:, :d]), 0, None)
    both = sides.prod(1)
    return both / ((box[d:] - box[:d]).prod() + (others[:, d:] - others[:, :d]).prod(1) - both)


def _empty(plugin: Any, spec: ImageSpec) -> str:
    require(not list(plugin.predict(iter(()))), "predict yields something for no image at all")
    for value in (0.0, 1.0):
        image = np.full((spec.channels, *spec.spatial), value, np.float32)
        well_formed(taken(plugin.predict([image]), 1, "predict")[0], spec)
    return "black and white images and no image at all are taken"
