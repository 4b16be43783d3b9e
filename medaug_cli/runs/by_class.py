"""Generators that were fitted on one class of images each, as one generator that draws all of them."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.plugin import Condition, Drawn, GeneratorCapabilities, ImageSpec, Known, as_drawn, knowledge
from medaug_cli.store import NORMAL


def of_one_class(spec: ImageSpec) -> ImageSpec:
    """Return the form of images without their classes."""
    return replace(spec, class_names=())


def joint_digest(weights: Iterable[str]) -> str:
    """Return one SHA-256 for those of several files of weights."""
    return hashlib.sha256("\n".join(weights).encode()).hexdigest()


@dataclass(frozen=True)
class ByClass:
    """Loaded generators by the kind of image that each draws: a class, a label of lesions, or normal images."""

    parts: Mapping[str, Any]
    spec: ImageSpec  # with all classes of the store

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """Return what the parts, which are of one plugin, can do."""
        return next(iter(self.parts.values())).capabilities

    def knows(self, spec: ImageSpec) -> Collection[Known]:
        """Return what the parts know of their images, and the class where the kinds are classes."""
        parts = [knowledge(part, of_one_class(spec)) for part in self.parts.values()]
        named: set[Known] = {"class"} if set(self.parts) & set(spec.class_names) else set()
        return frozenset.intersection(*parts) | named

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of all parts."""
        return {f"{kind}/{name}": v for kind, part in self.parts.items() for name, v in part.state_dict().items()}

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[Drawn]:
        """Yield one image per condition, each from the generator of its kind."""
        pairs = zip(conditions, seeds, strict=True)
        for kind, group in groupby(pairs, key=lambda pair: self.kind(pair[0])):
            asked, own_seeds = zip(*group, strict=True)
            plain = [replace(condition, image_class=-1) for condition in asked]
            images = self.parts[kind].sample(plain, own_seeds)
            yield from map(self._named, images, plain, [kind] * len(asked))

    def kind(self, condition: Condition) -> str:
        """Return the kind of image that a condition asks for; raise UsageError where nobody here draws it."""
        if len(self.parts) == 1:
            return next(iter(self.parts))
        if condition.image_class >= 0:
            names = [self.spec.class_names[condition.image_class]]
        else:
            names = [self.spec.label_names[label] for label in np.asarray(condition.labels)] or [NORMAL]
        found = next((name for name in names if name in self.parts), None)
        if found is None:
            choices = ", ".join(self.parts)
            raise UsageError(
                f"there is a generator for each of {choices}, and none for {names[0]!r}; say which images to draw "
                f"with synthesize --like"
            )
        return found

    def _named(self, image: np.ndarray | Drawn, condition: Condition, kind: str) -> Drawn:
        drawn = as_drawn(image, condition, knowledge(self.parts[kind], of_one_class(self.spec)))
        number = self.spec.class_names.index(kind) if kind in self.spec.class_names else -1
        return replace(drawn, image_class=number)
