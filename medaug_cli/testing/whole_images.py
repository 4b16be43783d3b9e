"""The contracts of a classifier and of a segmenter: one answer a whole image."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medaug_cli.answers import label_map, probabilities
from medaug_cli.plugin import ImageSpec
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

CLOSE = 0.01  # of a probability: rounding of a network that sees another batch
NEAR_TIES = 0.02  # share of an image's pixels whose two best labels are as good as equal

WellFormed = Callable[[Any, ImageSpec], None]
Report = Callable[[str], None]


def check_classifier(
    plugin: type | str, settings: Mapping[str, Any] | None = None, report: Report = lambda name: None
) -> list[Result]:
    """Check a classifier, a class or the name of an installed one, on small constructed images; see check_detector."""
    return _check("classifier", plugin, settings=settings, report=report, well_formed=well_shared, alike=_close)


def check_segmenter(
    plugin: type | str, settings: Mapping[str, Any] | None = None, report: Report = lambda name: None
) -> list[Result]:
    """Check a segmenter, a class or the name of an installed one, on small constructed images; see check_detector."""
    return _check("segmenter", plugin, settings=settings, report=report, well_formed=well_labelled, alike=_mostly_equal)


def check_network(
    kind: str, plugin: type | str, settings: Mapping[str, Any] | None = None, report: Report = lambda name: None
) -> list[Result]:
    """Check a network of a stranger's task, of whose answers no more is known than that there is one per image."""
    return _check(kind, plugin, settings=settings, report=report, well_formed=lambda found, spec: None, alike=_alike)


def well_shared(found: Any, spec: ImageSpec) -> None:
    """Fail an answer that is not the probabilities (k,) of the classes."""
    probabilities(found, spec)
    require(isinstance(found, np.ndarray), "predict must yield numpy arrays")
    require((found >= 0).all() and abs(found.sum() - 1) < 1e-3, "predict must yield probabilities that sum to 1")


def well_labelled(found: Any, spec: ImageSpec) -> None:
    """Fail an answer that is not a label map (*s)."""
    label_map(found, spec)
    require(isinstance(found, np.ndarray), "predict must yield numpy arrays")
    require(found.dtype.kind in "iu", f"predict yields a label map of {found.dtype}, expected integers")


def _check(
    kind: str,
    plugin: type | str,
    settings: Mapping[str, Any] | None,
    report: Report,
    well_formed: WellFormed,
    alike: Callable[[np.ndarray, np.ndarray], bool],
) -> list[Result]:
    def answer(plugin: Any, data: ConstructedExamples) -> list[np.ndarray]:
        found = taken(plugin.predict(image for image in data.images), len(data), "predict")
        for one in found:
            well_formed(one, data.spec)
        return found

    def score(predict: Callable) -> dict[str, float]:
        for one in taken(predict(image for image in data.images[:3]), 3, "predict"):
            well_formed(one, data.spec)
        return {"score": 0.5}

    def same_when_loaded() -> str:
        pairs = zip(answer(trained, data), answer(reloaded(subject, trained, data.spec), data), strict=True)
        require(all(alike(a, b) for a, b in pairs), "weights that are saved and loaded answer otherwise")
        return "saved and loaded, it answers the same"

    def same_alone() -> str:
        upset_random_state(1)
        together = answer(trained, data)
        upset_random_state(2)
        alone = [next(iter(trained.predict([image]))) for image in data.images]
        same = all(alike(a, b) for a, b in zip(together, alone, strict=True))
        require(same, "an image alone gets another answer than in a batch; is the network in evaluation mode?")
        return "an image gets the same answer alone and in a batch"

    def empty() -> str:
        require(not list(trained.predict(iter(()))), "predict yields something for no image at all")
        for value in (0.0, 1.0):
            image = np.full((data.spec.channels, *data.spec.spatial), value, np.float32)
            well_formed(taken(trained.predict([image]), 1, "predict")[0], data.spec)
        return "black and white images and no image at all are taken"

    checks, subject = Checks(report), Subject(kind, plugin, settings or {})
    if not check_class(checks, subject):
        return checks.results
    data = constructed(subject.spec())
    fitted = check_fit(checks, subject, data, answer, on_validate=score)
    if fitted is None:
        return checks.results
    trained, run = fitted
    checks.run("resume", lambda: check_resume(subject, data, trained, run))
    checks.run("weights", lambda: f"{len(weights(trained))} tensors, all finite")
    if checks.run("answers", lambda: f"{len(answer(trained, data))} answers of the right form"):
        checks.run("reloaded", same_when_loaded)
        checks.run("batches", same_alone)
        checks.run("empty images", empty)
        checks.run("continues", lambda: check_continues(subject, trained, data, answer))
    checks.run("variants", lambda: check_variants(subject))
    checks.run("wrong weights", lambda: check_wrong_weights(subject, trained, data.spec))
    checks.run("channels", lambda: check_channels(subject, answer))
    checks.run("dimensions", lambda: check_other_dims(subject, answer))
    checks.run("sizes", lambda: check_odd_size(subject, answer))
    return checks.results


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_alike, one, other))
    first, second = np.asarray(one), np.asarray(other)
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=CLOSE, atol=CLOSE))


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() <= CLOSE)


def _mostly_equal(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one != other).mean() <= NEAR_TIES)
