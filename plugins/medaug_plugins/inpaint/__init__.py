"""Paint lesions into real training slices: a small conditional GAN that sees what surrounds a box.

Its folder holds the training images: share it only where you may share the scans.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch

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
)
from medaug_plugins.hosts import Bank, lesion_free
from medaug_plugins.inpaint.networks import Architecture, Painter
from medaug_plugins.inpaint.patches import Square, cut, put_back, shares, square_around
from medaug_plugins.inpaint.settings import Settings
from medaug_plugins.inpaint.training import KIND, Batch, Lesions, Training, hole
from medaug_plugins.layers import check_shares, load_weights, place, train

__all__ = ["Inpaint"]

BANK = "bank."


@dataclass
class Inpaint(Settings):
    """Paint a lesion into each asked box of a real slice of another patient; the rest of the slice stays as it is."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2,), channels=(1, 2, 3, 4), condition="boxes", default_budget=20.0, shares=True, keeps_images=True
    )

    def __post_init__(self) -> None:
        self._painter: Painter | None = None
        self._bank: Bank | None = None

    def architecture(self, spec: ImageSpec) -> Architecture:
        """Return the sizes of the networks; raise UsageError for a patch that is no power of two."""
        if self.patch & (self.patch - 1):
            raise UsageError(f"--set patch={self.patch}: a power of two from 16 is wanted")
        return Architecture(self, spec.channels)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the lesions of `data` until the run's budget of patches is spent."""
        if run.precision == "16":
            raise UsageError("inpaint trains at --precision 32 or bf16; its gradient penalty overflows in 16")
        check_shares(self.batch, run)
        self._bank = Bank.read(data)
        lesions = Lesions(self._bank, self.patch, run)
        training = Training(self.architecture(data.spec), lesions, run)
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
        """Yield one image (c, h, w) in [0, 1] a condition, with the boxes of the host's own lesions."""
        painter, bank = self._fitted()
        pairs = zip(conditions, seeds, strict=True)
        while batch := list(islice(pairs, self.sample_batch)):
            yield from self._draw(painter, bank, [c for c, _ in batch], [seed for _, seed in batch])

    def _draw(
        self, painter: Painter, bank: Bank, conditions: list[Condition], seeds: list[int]
    ) -> Iterator[np.ndarray | Drawn]:
        for condition in conditions:
            if tuple(condition.spatial) != bank.images.shape[2:]:
                raise BadInput(f"these images are of {bank.images.shape[2:]}, not {tuple(condition.spatial)}")
        rngs = [np.random.default_rng(seed) for seed in seeds]
        asked = [np.asarray(c.boxes, np.float32).reshape(-1, 4) for c in conditions]
        labels = [np.asarray(c.labels, np.int64) for c in conditions]
        hosts = [
            bank.host(boxes, names, rng) if len(boxes) else -1
            for boxes, names, rng in zip(asked, labels, rngs, strict=True)
        ]
        squares = [[square_around(box) for box in boxes] for boxes in asked]
        paint = iter(self._paint(painter, bank, hosts, asked, squares, seeds))
        for host, boxes, names, around, rng in zip(hosts, asked, labels, squares, rngs, strict=True):
            if host < 0:
                yield np.clip(lesion_free(bank, rng), 0, 1).astype(np.float32)
                continue
            image = bank.image(host)
            for box, square in zip(boxes, around, strict=True):
                image = put_back(image, next(paint), square, box)
            own, theirs = bank.boxes[host], bank.labels[host]
            yield Drawn(np.clip(image, 0, 1), np.concatenate([boxes, own]), np.concatenate([names, theirs]))

    @torch.no_grad()
    def _paint(
        self, painter: Painter, bank: Bank, hosts: list[int], asked: list[np.ndarray], squares: list[list[Square]],
        seeds: list[int],
    ) -> np.ndarray:  # fmt: skip
        """Return a painted patch (b, c, p, p) in [0, 1] for every asked box of every image, in order."""
        device, size = next(painter.parameters()).device, painter.size
        flat = [
            (host, box, sq)
            for host, bs, sqs in zip(hosts, asked, squares, strict=True)
            for box, sq in zip(bs, sqs, strict=True)
        ]
        if not flat:
            return np.zeros((0, size.channels, size.patch, size.patch), np.float32)
        patches = cut([bank.image(host) for host, _, _ in flat], [square for _, _, square in flat], size.patch)
        where = shares([square.inside(box[None], size.patch)[0] for _, box, square in flat], size.patch)
        around = Batch((patches * 2 - 1).to(device), where.to(device))
        latents, noise = [], []
        for seed, boxes in zip(seeds, asked, strict=True):
            rng = torch.Generator().manual_seed(seed)
            for _ in boxes:
                latents.append(torch.randn(1, size.latent, generator=rng))
                noise.append(torch.randn(1, 1, size.patch, size.patch, generator=rng))
        with torch.autocast(device.type, enabled=False):
            paint = painter(hole(around), around.where, torch.cat(latents).to(device), torch.cat(noise).to(device))
        return ((paint + 1) / 2).clamp(0, 1).cpu().contiguous().numpy()

    def _fitted(self) -> tuple[Painter, Bank]:
        if self._painter is None or self._bank is None:
            raise MedaugError("this inpaint is neither fitted nor loaded")
        return self._painter, self._bank
