"""A GAN conditioned on bounding boxes for a few hundred images and a few minutes of a CPU.

No growing; a non-saturating loss with lazy R1; image and box map augmented together; a discriminator
that also sees real images with wrong boxes; a locator, trained on real images alone, that tells the
generator where it sees a lesion. Sources stand at the code.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch

from medaug_boxgan.augment import Amounts
from medaug_boxgan.networks import Architecture, Generator
from medaug_boxgan.training import Recipe, Training, compact, draw_maps, load_weights, place
from medaug_cli.plugin import (
    BadInput,
    Capabilities,
    Condition,
    Examples,
    ImageSpec,
    MedaugError,
    Run,
    UsageError,
    setting,
)  # fmt: skip

__all__ = ["BoxGAN"]

LOG_EVERY = 10  # steps


@dataclass
class BoxGAN:
    """Draw images at the full size from the start, with lesions where the boxes are."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2, 3), channels=(1, 2, 3, 4), condition="boxes", power_of_two=True, default_budget=20
    )

    latent: int = setting(128, "numbers in a latent vector", minimum=1)
    base: int = setting(512, "feature maps at a size s are base / s * 2; 8192 suits a GPU", minimum=8)
    max_maps: int = setting(128, "most feature maps of a level; 512 suits a GPU", minimum=4)
    batch: int = setting(16, "images of a step", minimum=2)
    lr: float = setting(0.002, "Adam's step size, in all networks", minimum=0)
    r1_weight: float = setting(0.5, "weight of the R1 penalty", minimum=0)
    r1_every: int = setting(8, "steps between R1 penalties", minimum=1)
    mismatch: float = setting(0.5, "weight of real images with wrong boxes as fakes", minimum=0)
    locate: float = setting(2.0, "weight of lesions that the locator misses in the generator's loss", minimum=0)
    locator_width: int = setting(16, "feature maps of the locator's first layer", minimum=1)
    diversity: float = setting(0.0, "weight of the mode-seeking loss", minimum=0)
    ema_images: float = setting(2000.0, "longest half life of the moving average, images", minimum=1)
    flip: bool = setting(True, "augment by left-right flips")
    shift: float = setting(0.06, "augment by shifts of up to this share of a side", minimum=0, maximum=0.25)
    zoom: float = setting(0.08, "augment by zooms of up to this share", minimum=0, maximum=0.5)
    contrast: float = setting(0.15, "augment contrast by up to this share", minimum=0, maximum=0.9)
    brightness: float = setting(0.1, "augment brightness by up to this share", minimum=0, maximum=0.9)
    sample_batch: int = setting(16, "images sampled at a time", minimum=1)

    def __post_init__(self) -> None:
        self._average: Generator | None = None

    def architecture(self, spec: ImageSpec) -> Architecture:
        """Return the sizes of the networks for images of this form; raise UsageError where there are none."""
        if min(spec.spatial) < 16 or any(side & (side - 1) for side in spec.spatial):
            size = "×".join(map(str, spec.spatial))
            raise UsageError(f"boxgan needs sides that are powers of two, 16 or more, not {size}; see preprocess --size")
        labels = max(1, len(spec.label_names))
        return Architecture(spec.channels, labels, spec.spatial, self.latent, self.base, self.max_maps)

    def recipe(self) -> Recipe:
        """Return the numbers of a training step."""
        amounts = Amounts(self.flip, self.shift, self.zoom, self.contrast, self.brightness)
        return Recipe(
            self.batch, self.lr, self.r1_weight, self.r1_every, self.mismatch, self.locate, self.diversity,
            self.ema_images, self.locator_width, amounts,
        )  # fmt: skip

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent."""
        if run.precision == "16":
            raise UsageError("boxgan trains at --precision 32 or bf16; its gradient penalty overflows in 16")
        if len(data) == 0:
            raise BadInput("there is no training image to fit boxgan on")
        if self.diversity and self.batch % 2:
            raise UsageError(f"--set diversity needs an even batch, not {self.batch}")
        training = Training(self.architecture(data.spec), self.recipe(), data, run)
        done = training.load_state_dict(run.state) if run.state else 0
        self._average = training.average
        while run.fraction(done) < 1:
            images, losses = training.step(done)
            done += images
            if training.steps % LOG_EVERY == 0:
                run.log(done, **{name: float(value) for name, value in losses.items()})
            run.checkpoint(done, lambda: training.state_dict(done))  # noqa: B023
        run.checkpoint(done, lambda: training.state_dict(done), force=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged generator."""
        return {name: value.detach().cpu().contiguous() for name, value in self._fitted().state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        size = self.architecture(spec)
        network = Generator(size).requires_grad_(False)
        load_weights(network, state)
        place(network, device, size.dims)
        self._average = network

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield one image (c, *s) in [0, 1] a condition, in float32 whatever the run trained in."""
        network = self._fitted()
        pairs = zip(conditions, seeds, strict=True)
        while batch := list(islice(pairs, self.sample_batch)):
            yield from self._draw(network, [c for c, _ in batch], [seed for _, seed in batch])

    def _fitted(self) -> Generator:
        if self._average is None:
            raise MedaugError("this boxgan is neither fitted nor loaded")
        return self._average

    @torch.no_grad()
    def _draw(self, network: Generator, conditions: list[Condition], seeds: list[int]) -> np.ndarray:
        size, device = network.size, network.dense.weight.device
        for condition in conditions:
            if condition.spatial != size.spatial:
                raise UsageError(f"this boxgan draws images of {size.spatial}, not {condition.spatial}")
        noise = [torch.randn(1, size.latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        maps = compact(torch.stack([draw_maps(condition, size.labels) for condition in conditions]))
        with torch.autocast(device.type, enabled=False):
            images = network(torch.cat(noise).to(device), maps.to(device))
        return ((images + 1) / 2).clamp(0, 1).cpu().contiguous().numpy()
