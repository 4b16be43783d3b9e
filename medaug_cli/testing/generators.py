"""The contract of a generator."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from medaug_cli.answers import drawn_image
from medaug_cli.plugin import Condition, Continuing, Drawn, ImageSpec, Known, as_drawn, image_seed, knowledge
from medaug_cli.testing.checking import Checks, Result, require
from medaug_cli.testing.contract import (
    Subject,
    check_channels,
    check_class,
    check_fit,
    check_odd_size,
    check_other_dims,
    check_resume,
    check_wrong_weights,
    fit,
    reloaded,
    taken,
    upset_random_state,
    weights,
)
from medaug_cli.testing.examples import ConstructedExamples, constructed, inside
from medaug_cli.testing.trial import TrialRun, thawed

CLOSE = 0.5 / 255  # rounding of a network that sees another batch
ALIKE = 0.99  # correlation from which an image in the weights is a training image
IMAGES = 24  # so that there are several lesions of each label in each class
SEEDS = [image_seed(7, i) for i in range(6)]


def check_generator(
    plugin: type | str, settings: Mapping[str, Any] | None = None, report: Callable[[str], None] = lambda name: None
) -> list[Result]:
    """Check a generator, a class or the name of an installed one, on small constructed images.

    Returns one result per check; checks that need what has failed are left out. Takes seconds with
    settings that suit a CPU. `report` hears the name of each check before it runs.
    """
    checks, subject = Checks(report), Subject("generator", plugin, settings or {})
    if not check_class(checks, subject):
        return checks.results
    data = constructed(subject.spec(), IMAGES)
    fitted = check_fit(checks, subject, data, draw)
    if fitted is None:
        return checks.results
    trained, run = fitted
    checks.run("resume", lambda: check_resume(subject, data, trained, run))
    checks.run("weights", lambda: f"{len(weights(trained))} tensors, all finite")
    checks.run("sharing", lambda: _sharing(trained, data))
    if checks.run("images", lambda: _images(trained, data)):
        checks.run("reloaded", lambda: _reloaded(subject, trained, data))
        checks.run("batches", lambda: _batches(trained, data))
        checks.run("seeds", lambda: _seeds(trained, data))
        checks.run("conditions", lambda: _conditions(subject, trained, data))
        checks.run("knowledge", lambda: _knowledge(trained, data))
        checks.run("classes", lambda: _classes(trained, data))
        checks.run("unannotated", lambda: _unannotated(subject, data))
        checks.run("continues", lambda: _continues(subject, trained, run, data))
    checks.run("wrong weights", lambda: check_wrong_weights(subject, trained, data.spec))
    checks.run("channels", lambda: check_channels(subject, draw))
    checks.run("dimensions", lambda: check_other_dims(subject, draw))
    checks.run("sizes", lambda: check_odd_size(subject, draw))
    return checks.results


def chosen(data: ConstructedExamples) -> list[Condition]:
    """Return conditions with one box, with two, and with none."""
    return [data.condition(i) for i in (0, 1, 2, 3, 4, len(data) - 1)]


def draw(plugin: Any, data: ConstructedExamples, seeds: Sequence[int] = SEEDS) -> list[np.ndarray]:
    """Return an image for each chosen condition, checked for form and range."""
    return _sampled(plugin, chosen(data), seeds, data.spec)


def _sampled(plugin: Any, conditions: Sequence[Condition], seeds: Sequence[int], spec: ImageSpec) -> list[np.ndarray]:
    yielded = taken(plugin.sample(iter(conditions), iter(seeds)), len(seeds), "sample")
    told, known = plugin.capabilities.condition in ("boxes", "mask"), knowledge(plugin, spec)
    return [_well_drawn(*pair, spec, known, told) for pair in zip(yielded, conditions, strict=True)]


def _well_drawn(image: Any, condition: Condition, spec: ImageSpec, known: Collection[Known], told: bool) -> np.ndarray:
    drawn = drawn_image(image, condition, spec, known)
    pixels = drawn.image
    require(pixels.dtype == np.float32, f"sample yields {pixels.dtype}; expected float32")
    inside = pixels.min() >= 0 and pixels.max() <= 1
    require(inside, f"sample yields values from {pixels.min():.3g} to {pixels.max():.3g}; expected 0 to 1")
    asked = all(any(np.allclose(box, own) for own in drawn.boxes) for box in condition.boxes)
    require(asked or not told or not isinstance(image, Drawn), "Drawn does not name a box that was asked for")
    return pixels


def _images(plugin: Any, data: ConstructedExamples) -> str:
    images = np.stack(draw(plugin, data))
    return f"images of shape {images.shape[1:]}, float32, {images.min():.2f} to {images.max():.2f}"


def _sharing(plugin: Any, data: ConstructedExamples) -> str:
    if plugin.capabilities.keeps_images:
        return "the weights hold training images: medaug export will not share them"
    images = data.read(range(len(data)))  # (n, c, *s)
    planes = images.reshape(-1, int(np.prod(data.spec.spatial)))
    first, last = (each.reshape(len(images), -1) for each in (images, np.moveaxis(images, 1, -1)))  # channels
    for name, tensor in weights(plugin).items():
        for rows in (planes, first, last):
            require(
                not _holds(tensor.double().numpy(), rows),
                f"{name!r} holds a training image; leave it out, or declare keeps_images",
            )
    return "the weights hold no training image: medaug export shares them"


def _holds(tensor: np.ndarray, images: np.ndarray) -> bool:
    """Tell whether the last axes of a tensor, however many, hold one of some images (n, pixels)."""
    length = 1
    for side in reversed(tensor.shape):
        length *= side
        if length == images.shape[1] and tensor.size:
            return bool((_standardised(tensor.reshape(-1, length)) @ _standardised(images).T > ALIKE).any())
    return False


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, pixels) with mean 0 and length 1."""
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _reloaded(subject: Subject, plugin: Any, data: ConstructedExamples) -> str:
    other = reloaded(subject, plugin, data.spec)
    apart = _apart(draw(plugin, data), draw(other, data))
    require(apart <= CLOSE, f"weights that are saved and loaded draw other images (by up to {apart:.3g})")
    return "saved and loaded, it draws the same images"


def _batches(plugin: Any, data: ConstructedExamples) -> str:
    upset_random_state(1)
    together, conditions = draw(plugin, data), chosen(data)
    upset_random_state(2)
    pairs = list(zip(conditions, SEEDS, strict=True))
    alone = [_sampled(plugin, [condition], [seed], data.spec)[0] for condition, seed in pairs]
    apart = _apart(together, alone)
    require(apart <= CLOSE, f"an image drawn alone differs from the same in a batch by up to {apart:.3g}; {ADVICE}")
    turned = _sampled(plugin, conditions[::-1], SEEDS[::-1], data.spec)[::-1]
    apart = _apart(together, turned)
    require(apart <= CLOSE, f"an image drawn in another order differs by up to {apart:.3g}; {ADVICE}")
    return "an image is the same alone, in a batch, in any order, whatever the global random state"


ADVICE = "draw each image's noise from a generator made of its own seed"


def _seeds(plugin: Any, data: ConstructedExamples) -> str:
    others = draw(plugin, data, [image_seed(8, i) for i in range(len(SEEDS))])
    same = sum(np.array_equal(a, b) for a, b in zip(draw(plugin, data), others, strict=True))
    require(not same, f"{same} of {len(others)} images are the same with another seed; {ADVICE}")
    return "another seed gives another image"


def _conditions(subject: Subject, plugin: Any, data: ConstructedExamples) -> str:
    kind = subject.cls.capabilities.condition
    if kind in ("none", "label"):
        return f"conditioned on {kind}: boxes need not show"
    conditions = chosen(data)
    moved = _sampled(plugin, [*conditions[1:], conditions[0]], SEEDS, data.spec)
    same = sum(np.array_equal(a, b) for a, b in zip(draw(plugin, data), moved, strict=True))
    require(not same, f"{same} of {len(moved)} images stay the same with other boxes, though condition is {kind!r}")
    return "other boxes give another image"


def _knowledge(plugin: Any, data: ConstructedExamples) -> str:
    """Check that an image comes with all that its generator says it knows, and with nothing else."""
    known, conditions = knowledge(plugin, data.spec), chosen(data)
    yielded = taken(plugin.sample(iter(conditions), iter(SEEDS)), len(SEEDS), "sample")
    for image, condition in zip(yielded, conditions, strict=True):
        drawn = as_drawn(image, condition, known)
        require("mask" not in known or drawn.mask is not None, "it says that it knows masks, and an image has none")
        require("mask" in known or drawn.mask is None, "an image has a mask, and knows does not name it")
        bare = [box for box in drawn.boxes if drawn.mask is not None and not drawn.mask[inside(box)].any()]
        require(not bare, "the mask of an image marks nothing in the box of a lesion")
        marked = drawn.mask is not None and bool(drawn.mask.any())
        require(not marked or len(drawn.boxes), "the mask of an image without a box marks something")
        asked = condition.image_class if "class" in known else -1
        require(drawn.image_class == asked, f"an image is of the class {drawn.image_class}, {asked} was asked for")
    listed = ", ".join(name for name in get_args(Known) if name in known)
    return f"its images come with {listed or 'nothing that is asked for'}"


def _classes(plugin: Any, data: ConstructedExamples) -> str:
    if "class" not in knowledge(plugin, data.spec):
        return "no class is told to it"
    pairs = [(one, seed) for one, seed in zip(chosen(data), SEEDS, strict=True) if len(one.boxes)]
    conditions, seeds = [one for one, _ in pairs], [seed for _, seed in pairs]
    count = len(data.spec.class_names)
    others = [replace(one, image_class=(one.image_class + 1) % count) for one in conditions]
    drawn = zip(*(_sampled(plugin, each, seeds, data.spec) for each in (conditions, others)), strict=True)
    same = sum(np.array_equal(a, b) for a, b in drawn)
    require(not same, f"{same} of {len(seeds)} images stay the same for another class, though it says it knows classes")
    return "another class gives another image"


def _unannotated(subject: Subject, data: ConstructedExamples) -> str:
    """Check that a generator which says so learns beside images that nobody annotated, and never asks after them."""
    if not subject.cls.capabilities.unannotated:
        return "it learns from annotated images only"
    some = constructed(data.spec, len(data))
    some.annotated = np.arange(len(data)) % 3 == 0
    some.boxes = [own if known else own[:0] for own, known in zip(some.boxes, some.annotated, strict=True)]
    some.labels = [own if known else own[:0] for own, known in zip(some.labels, some.annotated, strict=True)]
    some.classes = np.where(some.annotated, some.classes, -1)
    plugin, _ = fit(subject, some, keeps=False)
    some.annotated = np.ones(len(data), bool)
    draw(plugin, some)
    return "it also learns from images that nobody annotated"


def _continues(subject: Subject, plugin: Any, run: TrialRun, data: ConstructedExamples) -> str:
    """Check that a generator which says so begins with the networks of another, with and without its checkpoint."""
    if not subject.cls.capabilities.continues:
        return "it begins anew with every fit"
    require(isinstance(plugin, Continuing), "it has no method begin_with, though capabilities.continues says so")
    states = [None] if run.saved is None else [None, thawed(run.saved[1])]
    for state in states:
        other = subject.make()
        anew = other.begin_with(reloaded(subject, plugin, data.spec), data.spec, state)
        require(state is None or not anew, f"begin_with says that {', '.join(anew)} is begun anew for equal images")
        other.fit(data, TrialRun(1, keeps=False))
        draw(other, data)
    return "it begins with what another one has learnt"


def _apart(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))
