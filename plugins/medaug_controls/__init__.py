"""Controls that a GAN must beat: generators without training, which draw from the real training images themselves.

Their folder holds those images: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, Condition, Examples, ImageSpec, MedaugError, Run, setting
from medaug_controls.bank import Bank, aligned
from medaug_controls.lesions import healed, pasted, procedural

__all__ = ["CopyPaste", "Duplicate", "Procedural"]

CAPABILITIES = Capabilities(dims=(2,), channels=(1, 2, 3, 4), condition="boxes", default_budget=0.001, learns=False)


class _FromReal:
    """What the controls share: keeping the training images, and finding the one that suits a condition."""

    _bank: Bank | None = None
    hosts = 1  # nearest training images, one of which is taken

    def fit(self, data: Examples, run: Run) -> None:
        """Keep the training images that have a box."""
        self._bank = Bank.read(data)
        run.log(len(self._bank), images=float(len(self._bank)))
        run.checkpoint(len(self._bank), lambda: {"done": len(data)}, force=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the training images and their boxes."""
        return self._kept().state_dict()

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        self._bank = Bank.from_state(state, spec)

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield one image (c, h, w) in [0, 1] a condition."""
        bank = self._kept()
        for condition, seed in zip(conditions, seeds, strict=True):
            if tuple(condition.spatial) != bank.images.shape[2:]:
                raise BadInput(f"these images are of {bank.images.shape[2:]}, not {tuple(condition.spatial)}")
            boxes = np.asarray(condition.boxes, np.float32).reshape(-1, 4)
            labels = np.asarray(condition.labels, np.int64)
            rng = np.random.default_rng(seed)
            host = self._host(bank, boxes, labels, rng)
            drawn = self._draw(bank, host, boxes, labels, rng)
            yield np.clip(drawn, 0, 1).astype(np.float32)

    def _host(self, bank: Bank, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a training image (c, h, w) whose lesions lie in the boxes; any one, healed, where there are none."""
        if len(boxes):
            near = bank.nearest(boxes, labels, self.hosts)
            chosen = near[int(rng.integers(len(near)))]
            return aligned(bank.image(chosen), bank.boxes[chosen], boxes)
        chosen = int(rng.integers(len(bank)))
        image = bank.image(chosen)
        for box in bank.boxes[chosen]:
            image = healed(image, box)
        return image

    def _kept(self) -> Bank:
        if self._bank is None:
            raise MedaugError("this generator is neither fitted nor loaded")
        return self._bank

    def _draw(
        self, bank: Bank, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        raise NotImplementedError


@dataclass
class Duplicate(_FromReal):
    """Repeat real training images, moved so that their lesions lie in the asked boxes, with other tones."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    contrast: float = setting(0.1, "largest change of contrast", minimum=0, maximum=1)
    brightness: float = setting(0.03, "largest change of brightness, of the full range", minimum=0, maximum=1)

    def _draw(
        self, bank: Bank, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        factor, offset = 1 + self.contrast * rng.uniform(-1, 1), self.brightness * rng.uniform(-1, 1)
        return (image - image.mean()) * factor + image.mean() + offset


@dataclass
class CopyPaste(_FromReal):
    """Replace the lesions of a real training image by those of others, softly blended (Yang et al. 2021, TumorCP)."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    hosts: int = setting(5, "training images with the nearest boxes, one of which is taken by the seed", minimum=1)
    flip: bool = setting(True, "mirror half of the pasted lesions")

    def _draw(
        self, bank: Bank, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        for box, label in zip(boxes, labels, strict=True):
            donors = bank.lesions(int(label))
            donor, which = donors[int(rng.integers(len(donors)))]
            lesion, lesion_box = bank.image(donor), bank.boxes[donor][which]
            if self.flip and rng.random() < 0.5:
                width = lesion.shape[-1]
                lesion = np.ascontiguousarray(lesion[..., ::-1])
                lesion_box = np.array([width - lesion_box[2], lesion_box[1], width - lesion_box[0], lesion_box[3]])
            image = pasted(healed(image, box), box, lesion, lesion_box)
        return image


@dataclass
class Procedural(_FromReal):
    """Replace the lesions of a real training image by textured, blurred ellipsoids (Hu et al. 2023, SynTumor)."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    hosts: int = setting(5, "training images with the nearest boxes, one of which is taken by the seed", minimum=1)
    contrast: float = setting(0.15, "most that a lesion is lighter or darker, of the full range", minimum=0, maximum=1)
    sharp: float = setting(2.0, "steepness of a lesion's edge", minimum=0.5)

    def _draw(
        self, bank: Bank, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        for box in boxes:
            image = procedural(healed(image, box), box, rng, self.contrast, self.sharp)
        return image
