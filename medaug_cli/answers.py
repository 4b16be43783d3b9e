"""What plugins yield, checked before anything is made of it: a broken contract is a sentence, not a wrong number.

Legend: m boxes, k classes, c channels, *s spatial axes, d of them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from medaug_cli.errors import BrokenContract
from medaug_cli.plugin import Condition, Detections, Drawn, ImageSpec, Known, as_drawn

ROUNDING = 1e-3  # by which a value may lie beyond its range
SUM_OF_SHARES = 1e-2  # by which probabilities may miss one: they may come of bfloat16


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise BrokenContract(sentence)


def detections(found: Any, spec: ImageSpec) -> Detections:
    """Return the detections on an image; raise BrokenContract where they are not as the contract has them."""
    _require(isinstance(found, tuple) and len(found) == 3, "predict must yield (boxes, scores, labels) an image")
    boxes, scores, labels = map(np.asarray, found)
    m, width = len(scores) if scores.ndim else -1, 2 * spec.dims
    if boxes.size == 0 == m:
        return np.empty((0, width), np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
    _require(
        boxes.shape == (m, width),
        f"predict yields boxes of shape {boxes.shape}; expected ({max(m, 0)}, {width}), also for 0",
    )
    fit = scores.shape == labels.shape == (m,)
    _require(fit, f"predict yields {m} boxes with scores {scores.shape} and labels {labels.shape}; expected ({m},)")
    _require(boxes.dtype.kind in "fiu" and scores.dtype.kind == "f", "predict must yield boxes and scores as floats")
    _require(labels.dtype.kind in "iu", f"predict yields labels as {labels.dtype}; expected integers")
    _require(np.isfinite(boxes).all() and np.isfinite(scores).all(), "predict yields numbers that are not finite")
    turned = (boxes[:, spec.dims :] < boxes[:, : spec.dims]).any()
    _require(not turned, "predict yields a box whose high corner lies below its low corner")
    _require(((scores >= 0) & (scores <= 1)).all(), "predict yields scores outside 0 to 1")
    known = len(spec.label_names)
    _require(((labels >= 0) & (labels < known)).all(), f"predict yields a label that is not in 0 to {known - 1}")
    return boxes, scores, labels


def probabilities(found: Any, spec: ImageSpec) -> np.ndarray:
    """Return the probabilities (k,) of an image's classes; raise BrokenContract where they are none."""
    found, k = np.asarray(found), len(spec.class_names)
    _require(found.shape == (k,), f"predict yields an array of shape {found.shape}, expected ({k},)")
    _require(found.dtype.kind == "f" and np.isfinite(found).all(), "predict must yield finite floats")
    shares = (found >= -ROUNDING).all() and abs(found.sum() - 1) < SUM_OF_SHARES
    _require(shares, "predict must yield probabilities that sum to 1")
    return found


def label_map(found: Any, spec: ImageSpec) -> np.ndarray:
    """Return the label map (*s) of an image; raise BrokenContract where it is none."""
    found = np.asarray(found)
    _require(found.shape == spec.spatial, f"predict yields an array of shape {found.shape}, expected {spec.spatial}")
    _require(found.dtype.kind in "iub", f"predict yields a label map of {found.dtype}, expected integers")
    most = max(1, len(spec.mask_names))
    _require(found.min() >= 0 and found.max() <= most, f"predict yields a label that is not in 0 to {most}")
    return found


ANSWERS: dict[str, Callable[[Any, ImageSpec], Any]] = {
    "detector": detections, "classifier": probabilities, "segmenter": label_map,
}  # fmt: skip


def answered(kind: str, name: str, found: Any, count: int, spec: ImageSpec) -> Iterator[Any]:
    """Yield what a network's `predict` yields, an answer for each of `count` images of this form.

    Raises BrokenContract, with the network's name, for more or fewer of them and for one that is not as `kind` has it;
    of a kind that is a stranger's task nothing but their number is known.
    """
    whose = f"the {kind} {name!r} breaks its contract"
    _require(isinstance(found, Iterable), f"{whose}: predict returns {type(found).__name__}; expected an iterator")
    rule, done = ANSWERS.get(kind), 0
    for done, answer in enumerate(found, start=1):
        _require(done <= count, f"{whose}: predict yields more than {count} results for {count} images")
        try:
            checked = answer if rule is None else rule(answer, spec)
        except BrokenContract as error:
            raise BrokenContract(f"{whose}: {error}") from error
        yield checked
    _require(done == count, f"{whose}: predict yields {done} results for {count} images; expected one each")


def drawn_by(name: str, image: Any, condition: Condition, spec: ImageSpec, known: Collection[Known]) -> Drawn:
    """Return what a generator yielded; see `drawn_image`. BrokenContract names the generator."""
    try:
        return drawn_image(image, condition, spec, known)
    except BrokenContract as error:
        raise BrokenContract(f"the generator {name!r} breaks its contract: {error}") from error


def drawn_image(image: Any, condition: Condition, spec: ImageSpec, known: Collection[Known]) -> Drawn:
    """Return what a generator yielded for a condition, with all that is `known` to be in it.

    Raises BrokenContract for an image, boxes, labels, a mask or a class that a store of this form cannot hold.
    """
    pixels = image.image if isinstance(image, Drawn) else image
    _require(isinstance(pixels, np.ndarray), f"sample yields {type(pixels).__name__}; expected numpy arrays")
    wanted = (spec.channels, *spec.spatial)
    _require(pixels.shape == wanted, f"sample yields an image of shape {pixels.shape}; expected {wanted}")
    _require(pixels.dtype.kind == "f", f"sample yields {pixels.dtype}; expected float32")
    _require(np.isfinite(pixels).all(), "sample yields values that are not finite numbers")
    within = pixels.min() >= -ROUNDING and pixels.max() <= 1 + ROUNDING
    _require(within, f"sample yields values from {pixels.min():.3g} to {pixels.max():.3g}; expected 0 to 1")
    drawn = as_drawn(image, condition, known)
    if not isinstance(image, Drawn):  # all that is told of it was asked for
        return drawn
    boxes, labels, d = np.asarray(drawn.boxes), np.asarray(drawn.labels), spec.dims
    _require(boxes.dtype.kind in "fiu", f"Drawn names boxes as {boxes.dtype}; expected float32")
    shaped = boxes.ndim == 2 and boxes.shape[1] == 2 * d and len(boxes) == len(labels)
    _require(shaped, f"Drawn names boxes {boxes.shape} and {len(labels)} labels; expected (m, {2 * d}) and m")
    inside = (boxes[:, :d] >= -ROUNDING).all() and (boxes[:, d:] <= np.array(spec.spatial[::-1]) + ROUNDING).all()
    _require(inside, "Drawn names a box beyond the image")
    boxes = boxes.clip(0, [*spec.spatial[::-1]] * 2).astype(np.float32)  # a store allows no rounding
    _require((boxes[:, d:] > boxes[:, :d]).all(), "Drawn names a box that is empty")
    whole = labels.size == 0 or labels.dtype.kind in "iu"
    _require(whole, f"Drawn names labels as {labels.dtype}; expected integers")
    told = labels.size == 0 or (labels.min() >= 0 and labels.max() < len(spec.label_names))
    _require(told, f"Drawn names a label outside 0 to {len(spec.label_names) - 1}")
    if drawn.mask is not None:
        _well_marked(np.asarray(drawn.mask), spec)
    masked = drawn.mask is not None or "mask" not in known or condition.mask is None
    _require(masked, "it says that it knows masks, and Drawn holds none")
    named = -1 <= drawn.image_class < len(spec.class_names)
    _require(named, f"Drawn names the class {drawn.image_class}, which is not in -1 to {len(spec.class_names) - 1}")
    return replace(drawn, boxes=boxes)


def check_state(state: Any, place: str = "state") -> None:
    """Raise BrokenContract where a checkpoint would hold what cannot be read back without running code."""
    from torch import Tensor

    if isinstance(state, Mapping):
        for key, value in state.items():
            _require(isinstance(key, str | int), f"{place} has the key {key!r}; expected text or numbers")
            check_state(value, f"{place}[{key!r}]")
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            check_state(value, f"{place}[{number}]")
    else:
        fine = state is None or type(state) in (bool, int, float, str, bytes) or isinstance(state, Tensor)
        _require(
            fine,
            f"{place} given to run.checkpoint is a {type(state).__name__}; expected tensors, numbers, text, lists and "
            "dicts, which a checkpoint can hold without code",
        )


def _well_marked(mask: np.ndarray, spec: ImageSpec) -> None:
    _require(mask.shape == spec.spatial, f"Drawn holds a mask of shape {mask.shape}; expected {spec.spatial}")
    _require(mask.dtype == np.uint8, f"Drawn holds a mask of {mask.dtype}; expected uint8")
    most = len(spec.mask_names)
    _require(
        not most or mask.max() <= most, f"Drawn holds a mask with the value {mask.max()}; the labels end at {most}"
    )
