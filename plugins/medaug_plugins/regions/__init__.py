"""Generate regions of interest alone and put them into real training images.

Its folder holds the training images: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from medaug_cli.plugin import (
    MARGIN,
    BadInput,
    Condition,
    Drawn,
    Examples,
    GeneratorCapabilities,
    ImageSpec,
    Known,
    MedaugError,
    Run,
    UsageError,
    image_seed,
    setting,
)
from medaug_plugins.boxgan import BoxGAN
from medaug_plugins.hosts import (
    Asked,
    Bank,
    boxes_of,
    lesion_free,
    lesion_weights,
    on_host,
    outline,
    with_outlines,
    without_lesion,
)
from medaug_plugins.layers import refuse_half
from medaug_plugins.regions.pasting import cut, put

__all__ = ["Regions"]

PREFIX = "region."


class Crops:
    """The regions around every box of a bank, each with its label: what the GAN of regions is fitted on."""

    def __init__(self, data: Examples, bank: Bank, side: int) -> None:
        spec = data.spec
        self.data, self.spec = data, of_regions(spec, side)
        places = [(i, k) for i, boxes in enumerate(bank.boxes) for k in range(len(boxes))]
        self.images = np.stack([cut(bank.image(i), bank.boxes[i][k], MARGIN, side) for i, k in places])
        self.boxes: Sequence[np.ndarray] = [middle(side, spec.dims)] * len(places)
        self.labels: Sequence[np.ndarray] = [bank.labels[i][k : k + 1] for i, k in places]
        self.patients: Sequence[str] = [str(bank.patients[i]) for i, _ in places]
        self.masks = [region_mask(bank.mask(i, k), bank.boxes[i][k], side) for i, k in places]
        unknown = np.full(len(bank), -1, np.int64)
        self.classes = (unknown if bank.classes is None else bank.classes)[[i for i, _ in places]]
        self.synthetic = np.zeros(len(places), bool)
        self.annotated = np.ones(len(places), bool)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def weights(self) -> np.ndarray:
        """Return how often each region is drawn now."""
        return lesion_weights(self.data)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return regions (b, c, p, ...)."""
        return self.images[np.asarray(indices)]

    def condition(self, index: int) -> Condition:
        """Return the box in the middle and its label, and the mask and the class where they are known."""
        mask, image_class = self.masks[index], int(self.classes[index])
        return Condition(self.spec.spatial, self.boxes[index], self.labels[index], mask, image_class)


def of_regions(spec: ImageSpec, side: int) -> ImageSpec:
    """Return the form of regions of this side out of images of a form."""
    return ImageSpec(spec.channels, (side,) * spec.dims, spec.label_names, class_names=spec.class_names)


def region_mask(mask: np.ndarray | None, box: np.ndarray, side: int) -> np.ndarray | None:
    """Return the mask (p, ...) uint8 of a lesion in the region around its box; None where it is not known."""
    if mask is None:
        return None
    return (cut((mask > 0).astype(np.float32)[None], box, MARGIN, side)[0] >= 0.5).astype(np.uint8)


def middle(side: int, dims: int) -> np.ndarray:
    """Return the box (1, 2*d) of a region of this side."""
    return np.array([[MARGIN] * dims + [1 + MARGIN] * dims], np.float32) * side / (1 + 2 * MARGIN)


@dataclass
class Regions:
    """Draw regions around lesions with a small BoxGAN conditioned on their label, and put them into real images."""

    capabilities: ClassVar[GeneratorCapabilities] = GeneratorCapabilities(
        dims=(2, 3), channels=(1, 2, 3, 4), condition="boxes", default_budget=20.0, shares=True, keeps_images=True
    )

    side: int = setting(32, "pixels of a region's side, a power of two", minimum=16)
    blending: Literal["poisson", "soft"] = setting(
        "poisson", "keep a region's gradients, or fade it in over its margin", choices=("poisson", "soft")
    )
    form: Literal["boxes", "mask"] = setting(
        "boxes", "condition on the label only, or on the lesion's mask too (an ellipse where there is none)",
        choices=("boxes", "mask"),
    )  # fmt: skip
    latent: int = setting(64, "size of the latent vector", minimum=1)
    noise: Literal["normal", "uniform"] = setting(
        "normal", "distribution of the latent vector", choices=("normal", "uniform")
    )
    base: int = setting(512, "feature maps at a size s are base / s * 2", minimum=1)
    max_maps: int = setting(64, "maximum number of feature maps per level", minimum=1)
    batch: int = setting(16, "regions per batch", minimum=2)
    lr: float = setting(0.006, "learning rate of Adam, in both networks", minimum=0)
    gamma: float = setting(0.5, "weight of the gradient penalty R1 on real regions", minimum=0)
    variety: float = setting(5.0, "weight of drawing as varied a batch as the real regions are", minimum=0)

    def __post_init__(self) -> None:
        if self.side & (self.side - 1):
            raise UsageError(f"side must be a power of two, as 32 is, not {self.side}")
        self._bank: Bank | None = None
        self._gan = BoxGAN(
            latent=self.latent, noise=self.noise, base=self.base, max_maps=self.max_maps, batch=self.batch, lr=self.lr,
            gamma=self.gamma, variety=self.variety, mismatch=0.0, jitter=0.0, shift=0.05, form=self.form,
        )  # fmt: skip

    def knows(self, spec: ImageSpec) -> frozenset[Known]:
        """Return what it knows of its images: boxes, and masks and classes where its regions are told them."""
        told: set[Known] = {"boxes"}
        if self.form == "mask" and spec.masks:
            told.add("mask")
        if spec.class_names:
            told.add("class")
        return frozenset(told)

    def fit(self, data: Examples, run: Run) -> None:
        """Fit the GAN on the regions around the boxes of `data`, and keep its images."""
        if len(data) == 0:
            raise BadInput("there are no training images to fit regions on")
        refuse_half("regions", run)
        self._bank = Bank.read(data)
        self._gan.fit(Crops(data, self._bank, self.side), run)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged generator of regions, and the training images with their boxes."""
        return {PREFIX + name: value for name, value in self._gan.state_dict().items()} | self._kept().state_dict()

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        slices = {name: value for name, value in state.items() if not name.startswith(PREFIX)}
        self._bank = Bank.from_state(slices, spec)
        self._gan.load_state_dict(weights, of_regions(spec, self.side), device)

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray | Drawn]:
        """Yield one image (c, *s) in [0, 1] per condition, with the boxes of the host's own lesions too."""
        bank = self._kept()
        for condition, seed in zip(conditions, seeds, strict=True):
            bank.check(condition)
            rng, boxes = np.random.default_rng(seed), boxes_of(condition)
            if not len(boxes):
                yield without_lesion(
                    condition, lesion_free(bank, rng, condition.image_class), self._masked(condition, bank)
                )
                continue
            labels = np.asarray(condition.labels, np.int64)
            host = bank.host(boxes, labels, rng, condition.image_class)
            image = bank.image(host)
            for box, region in zip(boxes, self._draw(condition, seed), strict=True):
                image = put(image, box, region, MARGIN, self.blending == "poisson")
            image = np.clip(image, 0, 1).astype(np.float32)
            mask = with_outlines(condition, bank, host) if self._masked(condition, bank) else None
            yield on_host(Asked(boxes, labels, condition.image_class), image, mask, bank, host)

    def _draw(self, condition: Condition, seed: int) -> Iterator[np.ndarray]:
        """Yield one region (c, p, ...) per asked lesion."""
        dims = len(condition.spatial)
        asked = [
            Condition(
                (self.side,) * dims,
                middle(self.side, dims),
                np.array([label], np.int64),
                region_mask(outline(condition, box), box, self.side),
                condition.image_class,
            )
            for box, label in zip(condition.boxes, condition.labels, strict=True)
        ]
        return self._gan.sample(asked, [image_seed(seed, k) for k in range(len(asked))])

    def _masked(self, condition: Condition, bank: Bank) -> bool:
        """Tell whether the mask of an image is known: those of its host and of what is put into it."""
        return self.form == "mask" and bank.masks is not None and condition.mask is not None

    def _kept(self) -> Bank:
        if self._bank is None:
            raise MedaugError("this regions is neither fitted nor loaded")
        return self._bank
