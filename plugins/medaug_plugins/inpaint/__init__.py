"""Paint lesions into real training images: a small conditional GAN that sees what surrounds a box.

Its folder holds the training images: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch

from medaug_cli.plugin import (
    Condition,
    Drawn,
    Examples,
    GeneratorCapabilities,
    ImageSpec,
    Known,
    MedaugError,
    Run,
    UsageError,
)
from medaug_plugins.hosts import Asked, Bank, boxes_of, lesion_free, on_host, outline, with_outlines, without_lesion
from medaug_plugins.inpaint.networks import Architecture, Painter
from medaug_plugins.inpaint.patches import Told, cut, put_back, square_around, told_maps
from medaug_plugins.inpaint.settings import Settings
from medaug_plugins.inpaint.training import KIND, Batch, Lesions, Training, hole
from medaug_plugins.layers import check_shares, draw_latents, load_weights, place, refuse_half, train

__all__ = ["Inpaint"]

BANK = "bank."
LEAST_PATCH = 16


@dataclass
class Inpaint(Settings):
    """Paint a lesion into each asked box of a real image of another patient; the rest of that stays as it is."""

    capabilities: ClassVar[GeneratorCapabilities] = GeneratorCapabilities(
        dims=(2, 3), channels=(1, 2, 3, 4), condition="boxes", default_budget=20.0, shares=True, keeps_images=True
    )

    def __post_init__(self) -> None:
        self._painter: Painter | None = None
        self._bank: Bank | None = None

    def architecture(self, spec: ImageSpec) -> Architecture:
        """Return the sizes of the networks; raise UsageError for a patch that is not a power of two."""
        if self.patch & (self.patch - 1) or 0 < self.patch < LEAST_PATCH:
            raise UsageError(f"--set patch={self.patch}: expected 0 or a power of two from {LEAST_PATCH} on")
        return Architecture(self, spec.channels, len(spec.class_names) if self.classes else 0, spec.dims)

    def knows(self, spec: ImageSpec) -> frozenset[Known]:
        """Return what it knows of its images: boxes, and masks and classes where it is told them."""
        told: set[Known] = {"boxes"}
        if self.form == "mask" and spec.masks:
            told.add("mask")
        if self.classes and spec.class_names:
            told.add("class")
        return frozenset(told)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the lesions of `data` until the run's budget of patches is spent."""
        refuse_half("inpaint", run)
        check_shares(self.batch, run)
        self._bank = Bank.read(data)
        size = self.architecture(data.spec)
        training = Training(size, Lesions(data, self._bank, size=size, run=run), run)
        self._painter = training.average
        train(training, self.batch, run)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged painter, and the training images that it paints into."""
        painter, bank = self._fitted()
        weights = {name: value.detach().cpu().contiguous() for name, value in painter.state_dict().items()}
        return weights | {BANK + name: value for name, value in bank.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        kept = {name.removeprefix(BANK): value for name, value in state.items() if name.startswith(BANK)}
        painter = Painter(self.architecture(spec)).requires_grad_(False)
        load_weights(painter, {name: value for name, value in state.items() if not name.startswith(BANK)}, KIND)
        place(painter, device)
        self._painter, self._bank = painter, Bank.from_state(kept, spec)

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray | Drawn]:
        """Yield one image (c, *s) in [0, 1] per condition, with the boxes of the host's own lesions too."""
        painter, bank = self._fitted()
        pairs = zip(conditions, seeds, strict=True)
        while batch := list(islice(pairs, self.sample_batch)):
            yield from self._draw(painter, bank, [c for c, _ in batch], [seed for _, seed in batch])

    def _draw(
        self, painter: Painter, bank: Bank, conditions: list[Condition], seeds: list[int]
    ) -> Iterator[np.ndarray | Drawn]:
        for condition in conditions:
            bank.check(condition)
        rngs = [np.random.default_rng(seed) for seed in seeds]
        asked = [
            Asked(boxes_of(condition), np.asarray(condition.labels, np.int64), self._class(condition))
            for condition in conditions
        ]
        hosts = [
            bank.host(one.boxes, one.labels, rng, one.image_class) if len(one.boxes) else -1
            for one, rng in zip(asked, rngs, strict=True)
        ]
        paint = iter(self._paint(painter, bank, hosts, conditions, seeds))
        for host, one, condition, rng in zip(hosts, asked, conditions, rngs, strict=True):
            if host < 0:
                yield without_lesion(condition, lesion_free(bank, rng, one.image_class), self._masked(condition, bank))
                continue
            image = bank.image(host)
            for box in one.boxes:
                image = put_back(image, next(paint), square_around(box), box)
            mask = with_outlines(condition, bank, host) if self._masked(condition, bank) else None
            yield on_host(one, np.clip(image, 0, 1), mask, bank, host)

    def _class(self, condition: Condition) -> int:
        return condition.image_class if self.classes else -1

    @torch.no_grad()
    def _paint(
        self, painter: Painter, bank: Bank, hosts: list[int], conditions: list[Condition], seeds: list[int]
    ) -> np.ndarray:
        """Return a painted patch (b, c, p, ...) in [0, 1] for every asked box of every image, in order."""
        device, size = next(painter.parameters()).device, painter.size
        flat = [
            (host, box, Told(outline(condition, box) if self.form == "mask" else None, self._class(condition)))
            for host, condition in zip(hosts, conditions, strict=True)
            for box in boxes_of(condition)
        ]
        if not flat:
            return np.zeros((0, size.channels, *size.shape), np.float32)
        squares = [square_around(box) for _, box, _ in flat]
        patches = cut([bank.image(host) for host, _, _ in flat], squares, size.patch)
        where = told_maps(
            boxes=[box for _, box, _ in flat],
            squares=squares,
            told=[one for _, _, one in flat],
            pixels=size.patch,
            by_mask=self.form == "mask",
            classes=size.classes,
        )
        around = Batch((patches * 2 - 1).to(device), where.to(device))
        latents, noise = [], []
        for seed, condition in zip(seeds, conditions, strict=True):
            rng = torch.Generator().manual_seed(seed)
            for _ in range(len(condition.boxes)):
                latents.append(draw_latents(self.noise, 1, size.latent, rng))
                noise.append(torch.randn(1, 1, *size.shape, generator=rng))
        with torch.autocast(device.type, enabled=False):
            paint = painter(hole(around), around.where, torch.cat(latents).to(device), torch.cat(noise).to(device))
        return ((paint + 1) / 2).clamp(0, 1).cpu().contiguous().numpy()

    def _masked(self, condition: Condition, bank: Bank) -> bool:
        """Tell whether the mask of an image is known: those of its host and of what is put into it."""
        return self.form == "mask" and bank.masks is not None and condition.mask is not None

    def _fitted(self) -> tuple[Painter, Bank]:
        if self._painter is None or self._bank is None:
            raise MedaugError("this inpaint is neither fitted nor loaded")
        return self._painter, self._bank
