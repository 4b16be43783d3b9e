"""GAN conditioned on bounding boxes for a few hundred images and a few minutes of a CPU."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch

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
)
from medaug_plugins.boxgan.augment import Augmentation
from medaug_plugins.boxgan.networks import Architecture, Generator
from medaug_plugins.boxgan.reals import Reals, draw_condition
from medaug_plugins.boxgan.training import KIND, Recipe, Training, draw_noise
from medaug_plugins.layers import check_shares, load_weights, place, train

__all__ = ["BoxGAN"]


@dataclass
class BoxGAN:
    """Draw lesions into boxes after minutes of training: a direct GAN that must let its boxes be found."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2,), channels=(1, 2, 3, 4), condition="boxes", power_of_two=True, default_budget=15.0, shares=True
    )

    form: Literal["boxes", "soft", "mask"] = setting(
        "boxes", "tell the networks boxes, soft spots, or masks (ellipses where there are none)",
        choices=("boxes", "soft", "mask"),
    )  # fmt: skip
    latent: int = setting(64, "numbers in a latent vector", minimum=1)
    base: int = setting(1024, "feature maps at a size s are base / s * 2", minimum=1)
    max_maps: int = setting(128, "most feature maps of a level", minimum=1)
    embedding: int = setting(32, "feature maps in which image and boxes are compared", minimum=1)
    noise: bool = setting(True, "add noise of learned strength to the features of every level")
    loss: Literal["nonsaturating", "relativistic"] = setting(
        "nonsaturating", "score drawn images alone or against real ones", choices=("nonsaturating", "relativistic")
    )
    batch: int = setting(8, "images of a batch", minimum=2)
    lr: float = setting(0.006, "Adam's step size, in both networks", minimum=0)
    anneal: float = setting(
        0.5, "share of the run, at its end, over which the step size falls to zero", minimum=0, maximum=1
    )
    gamma: float = setting(2.0, "weight of the gradient penalty R1 on real images", minimum=0)
    r1_every: int = setting(8, "steps between gradient penalties", minimum=1)
    mismatch: float = setting(1.0, "weight of telling right boxes of a real image from wrong ones", minimum=0)
    finding: float = setting(1.0, "weight of the boxes being found in the image: obedience", minimum=0)
    crop: float = setting(0.0, "weight of what is in and around the boxes looking real on its own", minimum=0)
    target: float = setting(0.0, "sureness of real images that steers the augmentation; 0: none", minimum=0, maximum=1)
    reading: float = setting(1.0, "weight of the latent vector being read out of the image: variety", minimum=0)
    variety: float = setting(5.0, "weight of drawing as varied a batch as the real images are", minimum=0)
    jitter: float = setting(0.05, "most shift and zoom of the boxes that are asked for", minimum=0, maximum=0.5)
    augment: float = setting(0.8, "probability of each augmentation", minimum=0, maximum=1)
    flip: bool = setting(True, "mirror left and right")
    shift: float = setting(0.1, "largest augmenting shift, of the side", minimum=0, maximum=0.5)
    zoom: float = setting(0.1, "largest augmenting zoom, in doublings", minimum=0, maximum=1)
    intensity: float = setting(0.03, "largest augmenting brightness offset, of the full range", minimum=0, maximum=1)
    contrast: float = setting(0.2, "largest augmenting change of contrast", minimum=0, maximum=1)
    ema_kimg: float = setting(1.0, "half life of the generator's moving average, thousand images", minimum=0)
    ema_ramp: float = setting(0.05, "the half life is at most this share of the images done", minimum=0)
    sample_batch: int = setting(16, "images sampled at a time", minimum=1)

    def __post_init__(self) -> None:
        self._average: Generator | None = None

    def architecture(self, spec: ImageSpec) -> Architecture:
        """Return the sizes of the networks for images of this form; raise UsageError where there are none."""
        if len(spec.spatial) != 2 or min(spec.spatial) < 16 or any(side & (side - 1) for side in spec.spatial):
            size = "×".join(map(str, spec.spatial))
            raise UsageError(
                f"boxgan needs 2D images with sides that are powers of two, 16 or more, not {size}; "
                "see preprocess --size"
            )
        labels = max(1, len(spec.label_names))
        return Architecture(
            spec.channels, tuple(spec.spatial), labels, self.latent, self.base, self.max_maps, self.embedding,
            self.noise, self.crop > 0,
        )  # fmt: skip

    def recipe(self) -> Recipe:
        """Return the numbers of a training step."""
        augmentation = Augmentation(self.augment, self.flip, self.shift, self.zoom, self.intensity, self.contrast)
        return Recipe(
            self.loss, self.batch, self.lr, self.anneal, self.gamma, self.r1_every, self.mismatch, self.finding,
            self.crop, self.target, self.reading, self.variety, self.jitter, self.ema_kimg, self.ema_ramp, augmentation,
        )  # fmt: skip

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent."""
        training = self._begin(data, run)
        self._average = training.average
        train(training, self.batch, run)

    def _begin(self, data: Examples, run: Run) -> Training:
        if run.precision == "16":
            raise UsageError("boxgan trains at --precision 32 or bf16; its gradient penalty overflows in 16")
        if len(data) == 0:
            raise BadInput("there is no training image to fit boxgan on")
        check_shares(self.batch, run)
        return Training(self.architecture(data.spec), self.recipe(), Reals(data, run.device, self.form), run)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged generator."""
        if self._average is None:
            raise MedaugError("this boxgan is neither fitted nor loaded")
        return {name: value.detach().cpu().contiguous() for name, value in self._average.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        network = Generator(self.architecture(spec)).requires_grad_(False)
        load_weights(network, state, KIND)
        place(network, device)
        self._average = network

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield one image (c, *s) in [0, 1] a condition, in float32 whatever the run trained in."""
        if self._average is None:
            raise MedaugError("this boxgan is neither fitted nor loaded")
        pairs = zip(conditions, seeds, strict=True)
        while batch := list(islice(pairs, self.sample_batch)):
            yield from self._draw(self._average, [c for c, _ in batch], [seed for _, seed in batch])

    @torch.no_grad()
    def _draw(self, network: Generator, conditions: list[Condition], seeds: list[int]) -> np.ndarray:
        size, device = network.size, network.dense.weight.device
        for condition in conditions:
            if tuple(condition.spatial) != size.spatial:
                raise UsageError(f"this boxgan draws images of {size.spatial}, not {condition.spatial}")
        drawn = [draw_noise(size, torch.Generator().manual_seed(seed)) for seed in seeds]
        maps = torch.stack([draw_condition(condition, size.labels, self.form) for condition in conditions])
        latents, noise = (torch.cat(part).to(device) for part in zip(*drawn, strict=True))
        with torch.autocast(device.type, enabled=False):
            images = network(latents, noise, maps.to(device))
        return ((images + 1) / 2).clamp(0, 1).cpu().contiguous().numpy()
