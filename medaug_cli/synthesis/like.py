"""Templates from a store: the boxes, masks and classes of its training images, and how many images of each kind."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaug_cli.boxes import scaled
from medaug_cli.conditions import Template, choose, label_numbers, refuse_stretched, resized
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import ImageSpec, Known
from medaug_cli.runs import ByClass
from medaug_cli.store import Store, conditions_in, kinds, of_kind


@dataclass(frozen=True)
class Templates:
    """Templates in groups, each with how many images are drawn like them, in this order."""

    groups: Sequence[tuple[int, Sequence[Template]]]

    @property
    def every(self) -> list[Template]:
        """Return all templates."""
        return [template for _, group in self.groups for template in group]

    def of(self, index: int, seed: int) -> Template:
        """Return the template of image `index`."""
        for count, group in self.groups[:-1]:
            if index < count:
                return choose(group, seed, index)
            index -= count
        return choose(self.groups[-1][1], seed, index)


def like(
    store: Store, n: int, classes: Mapping[str, int], spec: ImageSpec, known: Collection[Known],
    draws: Sequence[str] = (),
) -> Templates:  # fmt: skip
    """Return what to draw `n` images like the real training images of a store, or so many of each of some classes.

    `known` is what the generator knows of its images, and `draws` the kinds that it was fitted on, if not on all.
    Raises BadInput where the store has no such image or shows what the generator does not know, UsageError for classes
    that are not there.
    """
    chosen = conditions_in(store, known)
    if draws:
        own = set(draws) & set(kinds(store))
        chosen = np.array(sorted({i for name in own for i in of_kind(store, chosen, name)}), np.int64)
        if other := [name for name in classes if name not in draws]:
            raise UsageError(f"--class {other[0]}: this generator draws only {', '.join(draws)}")
    if not len(chosen):
        of = f" of {' or '.join(draws)}" if draws else ""
        raise BadInput(f"{store.path} has no annotated real image{of} in its training split to draw images like")
    if store.spec.dims != spec.dims:
        raise BadInput(f"{store.path} holds {store.spec.dims}D images, the generator draws {spec.dims}D images")
    refuse_stretched(store.path, store.ids[chosen[0]], store.spec.spatial, spec)
    made = {int(i): _template(store, int(i), spec, known) for i in _asked(store, chosen, classes, known)}
    if not classes:
        return Templates([(n, list(made.values()))])
    return Templates([(count, [made[i] for i in of_kind(store, chosen, name)]) for name, count in classes.items()])


def _asked(
    store: Store, chosen: np.ndarray, classes: Mapping[str, int], known: Collection[Known]
) -> Sequence[int] | np.ndarray:
    """Return the images to make templates of; refuse classes that are missing or that the generator is not told."""
    for name in classes:
        if name in store.class_names and "class" not in known:
            raise UsageError(
                f"--class {name}: this generator is told no class; train one that is, or one for each class "
                "(train-gan --each-class)"
            )
        if not of_kind(store, chosen, name):
            raise BadInput(f"{store.path} has no training image of the class {name!r} to draw images like")
    return chosen if not classes else sorted({i for name in classes for i in of_kind(store, chosen, name)})


def _template(store: Store, i: int, spec: ImageSpec, known: Collection[Known]) -> Template:
    own = store.spec
    names = [own.label_names[label] for label in store.labels[i]]
    boxes, labels = scaled(store.boxes[i], own.spatial, spec.spatial), np.zeros(0, np.int64)
    if not {"boxes", "labels"}.isdisjoint(known):
        labels = label_numbers(store.path, store.ids[i], names, spec)
    else:
        boxes = boxes[:0]
    step = store.spacing[i].tolist()
    spacing = None if np.isnan(step).any() else resized(step, own.spatial, spec.spatial)
    mask = _mask(store, i, spec) if "mask" in known and store.masks is not None else None
    image_class = _class_number(store, i, spec) if "class" in known else -1
    return Template(store.ids[i], boxes, labels=labels, spacing=spacing, mask=mask, image_class=image_class)


def _class_number(store: Store, i: int, spec: ImageSpec) -> int:
    if store.classes[i] < 0:
        return -1
    name = store.class_names[store.classes[i]]
    if name not in spec.class_names:
        choices = ", ".join(spec.class_names) or "none"
        raise BadInput(f"{store.path}: image {store.ids[i]} has the class {name!r}; the generator knows {choices}")
    return spec.class_names.index(name)


def _mask(store: Store, i: int, spec: ImageSpec) -> np.ndarray:
    """Return the mask of an image at the generator's size, with the generator's values."""
    mask = store.mask(i)
    assert mask is not None
    if spec.spatial != store.spec.spatial:
        at = [np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
              for new, old in zip(spec.spatial, mask.shape, strict=True)]  # fmt: skip
        mask = mask[np.ix_(*at)]
    names, known = store.info.mask_names, list(spec.mask_names)
    if names == known:
        return mask
    if not known:
        return (mask > 0).astype(np.uint8)
    names = names or ["lesion"]
    values = np.zeros(256, np.uint8)
    for value in np.unique(mask[mask > 0]):
        name = names[value - 1] if value <= len(names) else str(value)
        if name not in known:
            said = ", ".join(known) or "one label alone"
            raise BadInput(f"{store.path}: the mask of image {store.ids[i]} marks {name!r}; the generator knows {said}")
        values[value] = known.index(name) + 1
    return values[mask]


def drawable(generator: ByClass, source: Path, templates: Sequence[Template]) -> list[Template]:
    """Return those templates from a boxes.json that a generator of some kinds can draw.

    Raises UsageError where its kinds are classes, of which a box says nothing, and BadInput where no box is left.
    """
    own, spec = set(generator.parts), generator.spec
    classes = own & set(spec.class_names)
    if classes and len(own) > 1 and not own & set(spec.label_names):
        raise UsageError("this folder has a generator for each class; ask for classes with --like REAL.H5")
    if classes and len(own) == 1:
        return list(templates)
    found = [each for each in templates if own & {spec.label_names[label] for label in each.labels}]
    if not found:
        raise BadInput(f"{source} has no box of {' or '.join(generator.parts)}, and this generator draws nothing else")
    return found


def left_out(store: Store, known: Collection[Known]) -> list[str]:
    """Say which annotations of a store a generator does not know, so that its images lack them."""
    has = {"mask": ("masks", store.masks is not None), "class": ("classes", bool((store.classes >= 0).any()))}
    lost = [words for name, (words, there) in has.items() if there and name not in known]
    if not lost:
        return []
    return [f"this generator does not know the {' and '.join(lost)} of what it draws: its images go without"]
