"""Controls that a GAN must beat: generators without training, which draw from the real training images themselves.

Their folder holds those images: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import (
    BadInput,
    Condition,
    Drawn,
    Examples,
    GeneratorCapabilities,
    ImageSpec,
    Known,
    MedaugError,
    Run,
    setting,
)
from medaug_plugins.controls.lesions import carried_values, pasted, procedural
from medaug_plugins.hosts import Asked, Bank, aligned, boxes_of, filled, lesion_free, on_host, toned, without_lesion

__all__ = ["CopyPaste", "Duplicate", "Procedural"]

CAPABILITIES = GeneratorCapabilities(
    dims=(2, 3), channels=(1, 2, 3, 4), condition="boxes", default_budget=0.001, learns=False, keeps_images=True
)


def mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    """Return boxes (m, 2*d) as they lie in an image that is mirrored left to right."""
    d = boxes.shape[1] // 2
    turned = boxes.copy()
    turned[:, 0], turned[:, d] = width - boxes[:, d], width - boxes[:, 0]
    return turned


class _FromReal:
    """What the controls share: keeping the training images."""

    _bank: Bank | None = None
    _needs_lesions: ClassVar[bool] = True

    def knows(self, spec: ImageSpec) -> frozenset[Known]:
        """Return what it knows of its images: all that is known of the real ones."""
        told: set[Known] = {"boxes"}
        if spec.class_names:
            told.add("class")
        if spec.masks:
            told.add("mask")
        return frozenset(told)

    def fit(self, data: Examples, run: Run) -> None:
        """Keep the training images."""
        self._bank = Bank.read(data, self._needs_lesions)
        if run.state is None:  # a run that was stopped after this has both
            run.log(len(self._bank), images=float(len(self._bank)))
            run.checkpoint(len(self._bank), lambda: {"done": len(data)}, force=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the training images and their boxes."""
        return self._kept().state_dict()

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        self._bank = Bank.from_state(state, spec)

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray | Drawn]:
        """Yield one image (c, *s) in [0, 1] per condition, with the boxes of the host's own lesions too."""
        bank = self._kept()
        for condition, seed in zip(conditions, seeds, strict=True):
            bank.check(condition)
            boxes = boxes_of(condition)
            labels = np.asarray(condition.labels, np.int64)
            rng = np.random.default_rng(seed)
            if not len(boxes):
                normal = self._normal(bank, condition.image_class, rng)
                yield without_lesion(condition, normal, masked=bank.masks is not None)
                continue
            if not len(bank):
                raise BadInput("boxes are asked for, but no training image had a lesion")
            drawn = self._draw(bank, Asked(boxes, labels, condition.image_class), rng)
            yield replace(drawn, image=np.clip(drawn.image, 0, 1).astype(np.float32))

    def _kept(self) -> Bank:
        if self._bank is None:
            raise MedaugError("this generator is neither fitted nor loaded")
        return self._bank

    def _normal(self, bank: Bank, image_class: int, rng: np.random.Generator) -> np.ndarray:
        return lesion_free(bank, rng, image_class)

    def _draw(self, bank: Bank, asked: Asked, rng: np.random.Generator) -> Drawn:
        raise NotImplementedError


class _PutIn(_FromReal):
    """Put a lesion into each asked box of a real image that keeps its own lesions."""

    def _draw(self, bank: Bank, asked: Asked, rng: np.random.Generator) -> Drawn:
        host = bank.host(asked.boxes, asked.labels, rng, asked.image_class)
        image, mask = bank.image(host), bank.own_mask(host)
        for box, label in zip(asked.boxes, asked.labels, strict=True):
            image, outline = self._put(bank, host, image, box, int(label), asked.image_class, rng)
            if mask is not None:
                mask = np.where(outline > 0, outline, mask)
        return on_host(asked, image, mask, bank, host)

    def _put(
        self, bank: Bank, host: int, image: np.ndarray, box: np.ndarray, label: int, image_class: int,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return the image of a host with a lesion in a box, and the mask (*s) uint8 of that lesion."""
        raise NotImplementedError


@dataclass
class Duplicate(_FromReal):
    """Repeat real training images, moved so that their lesions lie in the asked boxes, with other tones."""

    capabilities: ClassVar[GeneratorCapabilities] = CAPABILITIES
    _needs_lesions: ClassVar[bool] = False
    contrast: float = setting(0.1, "largest change of contrast", minimum=0, maximum=1)
    brightness: float = setting(0.03, "largest change of brightness, as a share of the range", minimum=0, maximum=1)

    def _normal(self, bank: Bank, image_class: int, rng: np.random.Generator) -> np.ndarray:
        return lesion_free(bank, rng, image_class, self.contrast, self.brightness)

    def _draw(self, bank: Bank, asked: Asked, rng: np.random.Generator) -> Drawn:
        boxes, labels = asked.boxes, asked.labels
        mirror = mirrored(boxes, bank.images.shape[-1])
        straight = bank.nearest(boxes, labels, 1, asked.image_class)[0]
        turned = bank.nearest(mirror, labels, 1, asked.image_class)[0]
        if bank.difference(straight, boxes, labels) <= bank.difference(turned, mirror, labels):
            image, mask = self._moved(bank, straight, boxes)
        else:
            image, mask = self._moved(bank, turned, mirror)
            image, mask = image[..., ::-1], None if mask is None else mask[..., ::-1]
        image = toned(image, rng, self.contrast, self.brightness)
        return Drawn(image, boxes, labels, mask, asked.image_class)

    def _moved(self, bank: Bank, index: int, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        image, own = aligned(bank.image(index), bank.boxes[index], boxes), bank.boxes[index]
        if bank.masks is None:
            return image, None
        return image, aligned(bank.masks[index][None], own, boxes, values=True)[0].astype(np.uint8)


@dataclass
class CopyPaste(_PutIn):
    """Put real lesions into real images of other patients, softly blended (Yang et al. 2021, TumorCP)."""

    capabilities: ClassVar[GeneratorCapabilities] = CAPABILITIES
    flip: bool = setting(True, "mirror half of the pasted lesions")

    def _put(
        self, bank: Bank, host: int, image: np.ndarray, box: np.ndarray, label: int, image_class: int,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        donor, which = bank.donor(box, label, rng, image_class, host)
        lesion, values, lesion_box = bank.image(donor), bank.values(donor, which), bank.boxes[donor][which]
        if self.flip and rng.random() < 0.5:
            lesion_box = mirrored(lesion_box[None], lesion.shape[-1])[0]
            lesion = np.ascontiguousarray(lesion[..., ::-1])
            values = None if values is None else np.ascontiguousarray(values[..., ::-1])
        mask = None if values is None else (values > 0).astype(np.float32)
        outline = filled(box, image.shape[1:], bank.value_of(label))
        if values is not None:
            own = carried_values(values, lesion_box, box)
            outline = own if own.any() else outline
        return pasted(image, box, lesion, lesion_box, mask), outline


@dataclass
class Procedural(_PutIn):
    """Put textured, blurred ellipsoids into real images (Hu et al. 2023, SynTumor)."""

    capabilities: ClassVar[GeneratorCapabilities] = CAPABILITIES
    contrast: float = setting(
        0.15, "largest difference in brightness of a lesion, as a share of the range", minimum=0, maximum=1
    )
    sharp: float = setting(2.0, "steepness of a lesion's edge", minimum=0.5)

    def _put(
        self, bank: Bank, host: int, image: np.ndarray, box: np.ndarray, label: int, image_class: int,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        drawn, share = procedural(image, box, rng, self.contrast, self.sharp)
        outline = ((share > 0.5) * bank.value_of(label)).astype(np.uint8)
        return drawn, outline if outline.any() else filled(box, image.shape[1:], bank.value_of(label))
