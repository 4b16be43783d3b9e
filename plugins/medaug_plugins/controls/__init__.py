"""Controls that a GAN must beat: generators without training, which draw from the real training images themselves.

Their folder holds those images: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, Condition, Drawn, Examples, ImageSpec, MedaugError, Run, setting
from medaug_plugins.controls.lesions import pasted, procedural
from medaug_plugins.hosts import Bank, aligned, lesion_free

__all__ = ["CopyPaste", "Duplicate", "Procedural"]

CAPABILITIES = Capabilities(
    dims=(2,), channels=(1, 2, 3, 4), condition="boxes", default_budget=0.001, learns=False, keeps_images=True
)


class _FromReal:
    """What the controls share: keeping the training images."""

    _bank: Bank | None = None

    def fit(self, data: Examples, run: Run) -> None:
        """Keep the training images that have a box."""
        self._bank = Bank.read(data)
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
        """Yield one image (c, h, w) in [0, 1] a condition, with the boxes of the host's own lesions."""
        bank = self._kept()
        for condition, seed in zip(conditions, seeds, strict=True):
            if tuple(condition.spatial) != bank.images.shape[2:]:
                raise BadInput(f"these images are of {bank.images.shape[2:]}, not {tuple(condition.spatial)}")
            boxes = np.asarray(condition.boxes, np.float32).reshape(-1, 4)
            labels = np.asarray(condition.labels, np.int64)
            rng = np.random.default_rng(seed)
            if len(boxes):
                drawn = self._draw(bank, boxes, labels, rng)
                yield Drawn(np.clip(drawn.image, 0, 1).astype(np.float32), drawn.boxes, drawn.labels)
            else:
                yield np.clip(lesion_free(bank, rng), 0, 1).astype(np.float32)

    def _kept(self) -> Bank:
        if self._bank is None:
            raise MedaugError("this generator is neither fitted nor loaded")
        return self._bank

    def _draw(self, bank: Bank, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Drawn:
        raise NotImplementedError


class _PutIn(_FromReal):
    """Put a lesion into each asked box of a real image that keeps its own lesions."""

    def _draw(self, bank: Bank, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Drawn:
        host = bank.host(boxes, labels, rng)
        image = bank.image(host)
        for box, label in zip(boxes, labels, strict=True):
            image = self._put(bank, image, box, int(label), rng)
        return Drawn(image, np.concatenate([boxes, bank.boxes[host]]), np.concatenate([labels, bank.labels[host]]))

    def _put(self, bank: Bank, image: np.ndarray, box: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError


@dataclass
class Duplicate(_FromReal):
    """Repeat real training images, moved so that their lesions lie in the asked boxes, with other tones."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    contrast: float = setting(0.1, "largest change of contrast", minimum=0, maximum=1)
    brightness: float = setting(0.03, "largest change of brightness, of the full range", minimum=0, maximum=1)

    def _draw(self, bank: Bank, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Drawn:
        mirror = np.array([boxes[:, 2], boxes[:, 1], boxes[:, 0], boxes[:, 3]]).T
        mirror[:, [0, 2]] = bank.images.shape[3] - mirror[:, [0, 2]]
        straight, turned = bank.nearest(boxes, labels, 1)[0], bank.nearest(mirror, labels, 1)[0]
        if bank.difference(straight, boxes, labels) <= bank.difference(turned, mirror, labels):
            image = aligned(bank.image(straight), bank.boxes[straight], boxes)
        else:
            image = aligned(bank.image(turned), bank.boxes[turned], mirror)[..., ::-1]
        factor, offset = 1 + self.contrast * rng.uniform(-1, 1), self.brightness * rng.uniform(-1, 1)
        return Drawn((image - image.mean()) * factor + image.mean() + offset, boxes, labels)


@dataclass
class CopyPaste(_PutIn):
    """Put real lesions into real slices of other patients, softly blended (Yang et al. 2021, TumorCP)."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    flip: bool = setting(True, "mirror half of the pasted lesions")

    def _put(self, bank: Bank, image: np.ndarray, box: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
        donor, which = bank.donor(box, label, rng)
        lesion, mask, lesion_box = bank.image(donor), bank.mask(donor, which), bank.boxes[donor][which]
        if self.flip and rng.random() < 0.5:
            width = lesion.shape[-1]
            lesion = np.ascontiguousarray(lesion[..., ::-1])
            mask = None if mask is None else np.ascontiguousarray(mask[..., ::-1])
            lesion_box = np.array([width - lesion_box[2], lesion_box[1], width - lesion_box[0], lesion_box[3]])
        return pasted(image, box, lesion, lesion_box, mask)


@dataclass
class Procedural(_PutIn):
    """Put textured, blurred ellipsoids into real slices (Hu et al. 2023, SynTumor)."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    contrast: float = setting(0.15, "most that a lesion is lighter or darker, of the full range", minimum=0, maximum=1)
    sharp: float = setting(2.0, "steepness of a lesion's edge", minimum=0.5)

    def _put(self, bank: Bank, image: np.ndarray, box: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
        return procedural(image, box, rng, self.contrast, self.sharp)
