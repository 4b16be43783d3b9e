"""Generate regions of interest alone and put them into real training slices.

Its folder holds the training slices: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from medaug_cli.plugin import (
    BadInput,
    Capabilities,
    Condition,
    Drawn,
    Examples,
    ImageSpec,
    MedaugError,
    Run,
    UsageError,
    image_seed,
    setting,
)
from medaug_plugins.boxgan import BoxGAN
from medaug_plugins.hosts import MARGIN, Bank, lesion_free
from medaug_plugins.regions.pasting import cut, put

__all__ = ["Regions"]

PREFIX = "region."


class Crops:
    """The regions around every box of a bank, each with its label: what the GAN of regions is fitted on."""

    def __init__(self, bank: Bank, spec: ImageSpec, side: int) -> None:
        self.spec = ImageSpec(spec.channels, (side, side), spec.label_names)
        places = [(i, k) for i, boxes in enumerate(bank.boxes) for k in range(len(boxes))]
        self.images = np.stack([cut(bank.image(i), bank.boxes[i][k], MARGIN, side) for i, k in places])
        self.boxes: Sequence[np.ndarray] = [middle(side)] * len(places)
        self.labels: Sequence[np.ndarray] = [bank.labels[i][k : k + 1] for i, k in places]
        self.patients: Sequence[str] = [str(bank.patients[i]) for i, _ in places]
        self.weights = np.full(len(places), 1 / len(places))
        self.classes, self.synthetic = np.full(len(places), -1, np.int64), np.zeros(len(places), bool)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return regions (b, c, s, s)."""
        return self.images[np.asarray(indices)]

    def condition(self, index: int) -> Condition:
        """Return the box in the middle and its label."""
        return Condition(self.spec.spatial, self.boxes[index], self.labels[index])


def middle(side: int) -> np.ndarray:
    """Return the box (1, 4) of a region of this side."""
    return np.array([[MARGIN, MARGIN, 1 + MARGIN, 1 + MARGIN]], np.float32) * side / (1 + 2 * MARGIN)


@dataclass
class Regions:
    """Draw regions around lesions with a small BoxGAN conditioned on their label, and put them into real slices."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2,), channels=(1, 2, 3, 4), condition="boxes", default_budget=20.0, shares=True, keeps_images=True
    )

    side: int = setting(32, "pixels of a region's side, a power of two", minimum=16)
    blending: Literal["poisson", "soft"] = setting(
        "poisson", "keep a region's gradients, or fade it in over its margin", choices=("poisson", "soft")
    )
    latent: int = setting(64, "numbers in a latent vector", minimum=1)
    base: int = setting(512, "feature maps at a size s are base / s * 2", minimum=1)
    max_maps: int = setting(64, "most feature maps of a level", minimum=1)
    batch: int = setting(16, "regions of a batch", minimum=2)
    lr: float = setting(0.006, "Adam's step size, in both networks", minimum=0)
    gamma: float = setting(0.5, "weight of the gradient penalty R1 on real regions", minimum=0)
    variety: float = setting(5.0, "weight of drawing as varied a batch as the real regions are", minimum=0)

    def __post_init__(self) -> None:
        if self.side & (self.side - 1):
            raise UsageError(f"side must be a power of two, as 32 is, not {self.side}")
        self._bank: Bank | None = None
        self._gan = BoxGAN(
            latent=self.latent, base=self.base, max_maps=self.max_maps, batch=self.batch, lr=self.lr, gamma=self.gamma,
            variety=self.variety, mismatch=0.0, jitter=0.0, shift=0.05, classes=False,
        )  # fmt: skip

    def fit(self, data: Examples, run: Run) -> None:
        """Fit the GAN on the regions around the boxes of `data`, and keep its slices."""
        if len(data) == 0:
            raise BadInput("there is no training image to fit regions on")
        self._bank = Bank.read(data)
        self._gan.fit(Crops(self._bank, data.spec, self.side), run)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged generator of regions, and the training slices with their boxes."""
        return {PREFIX + name: value for name, value in self._gan.state_dict().items()} | self._kept().state_dict()

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        slices = {name: value for name, value in state.items() if not name.startswith(PREFIX)}
        self._bank = Bank.from_state(slices, spec)
        self._gan.load_state_dict(weights, ImageSpec(spec.channels, (self.side, self.side), spec.label_names), device)

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray | Drawn]:
        """Yield one slice (c, h, w) in [0, 1] a condition, with the boxes of its own lesions too."""
        bank = self._kept()
        for condition, seed in zip(conditions, seeds, strict=True):
            if tuple(condition.spatial) != bank.images.shape[2:]:
                raise BadInput(f"these images are of {bank.images.shape[2:]}, not {tuple(condition.spatial)}")
            rng = np.random.default_rng(seed)
            boxes = np.asarray(condition.boxes, np.float32).reshape(-1, 4)
            if not len(boxes):
                yield np.clip(lesion_free(bank, rng), 0, 1).astype(np.float32)
                continue
            labels = np.asarray(condition.labels, np.int64)
            host = bank.host(boxes, labels, rng)
            image = bank.image(host)
            for box, region in zip(boxes, self._draw(labels, seed), strict=True):
                image = put(image, box, region, MARGIN, self.blending == "poisson")
            image = np.clip(image, 0, 1).astype(np.float32)
            every = np.concatenate([boxes, bank.boxes[host]]), np.concatenate([labels, bank.labels[host]])
            yield Drawn(image, *every)

    def _draw(self, labels: np.ndarray, seed: int) -> Iterator[np.ndarray]:
        """Yield one region (c, s, s) a label."""
        asked = [Condition((self.side, self.side), middle(self.side), np.array([label])) for label in labels]
        return self._gan.sample(asked, [image_seed(seed, k) for k in range(len(asked))])

    def _kept(self) -> Bank:
        if self._bank is None:
            raise MedaugError("this regions is neither fitted nor loaded")
        return self._bank
