"""GAN conditioned on bounding boxes for a few hundred images and a few minutes of a CPU."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch

from medaug_cli.plugin import (
    BadInput,
    Condition,
    Examples,
    GeneratorCapabilities,
    ImageSpec,
    Known,
    MedaugError,
    Run,
    UsageError,
)
from medaug_plugins.boxgan.dataset import RealImages, draw_condition, value_maps
from medaug_plugins.boxgan.networks import Architecture, Discriminator, Generator
from medaug_plugins.boxgan.settings import Settings
from medaug_plugins.boxgan.start import Start
from medaug_plugins.boxgan.training import KIND, Training, draw_noise
from medaug_plugins.layers import anew_words, check_shares, load_weights, place, refuse_half, train

__all__ = ["BoxGAN"]


@dataclass
class BoxGAN(Settings):
    """Draw lesions into boxes after minutes of training: a direct GAN that must let its boxes be found."""

    capabilities: ClassVar[GeneratorCapabilities] = GeneratorCapabilities(
        dims=(2, 3),
        channels=(1, 2, 3, 4),
        condition="boxes",
        power_of_two=True,
        default_budget=15.0,
        shares=True,
        pictured=28.0,  # at 128x128; 44 at 64x64
        unannotated=True,
        continues=True,
    )

    def __post_init__(self) -> None:
        older = self.noise
        if isinstance(older, bool):  # in older files `noise` says whether there is grain
            self.noise, self.grain = "normal", older
        self._average: Generator | None = None
        self._start: Start | None = None

    def knows(self, spec: ImageSpec) -> frozenset[Known]:
        """Return what it knows of its images: boxes, and the mask and the class where it is told them."""
        told: set[Known] = {"boxes"}
        told |= {"mask"} if self.form == "mask" and spec.masks else set()
        return frozenset(told | ({"class"} if self.classes and spec.class_names else set()))

    def architecture(self, spec: ImageSpec) -> Architecture:
        """Return the sizes of the networks for images of this form; raise UsageError where there are none."""
        if min(spec.spatial) < 16 or any(side & (side - 1) for side in spec.spatial):
            size = "×".join(map(str, spec.spatial))
            raise UsageError(
                f"boxgan needs images with sides that are powers of two, 16 or more, not {size}; "
                f"see preprocess {'--size' if spec.dims == 2 else '--regions'}"
            )
        return Architecture(self, spec)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent."""
        training = self._begin(data, run)
        self._average = training.average
        train(training, self.batch, run)

    def _begin(self, data: Examples, run: Run) -> Training:
        refuse_half("boxgan", run)
        if self.frozen_gamma and not self.frozen:
            raise UsageError(
                f"--set frozen_gamma={self.frozen_gamma:g} smooths the second discriminator, and there is none "
                "without --set frozen=0.5; give both or neither"
            )
        if len(data) == 0:
            raise BadInput("there are no training images to fit boxgan on")
        check_shares(self.batch, run)
        size = self.architecture(data.spec)
        return Training(size, RealImages(data, run.device, self.form, size.classes), run, self._start)

    def begin_with(self, other: "BoxGAN", spec: ImageSpec, checkpoint: Mapping[str, Any] | None) -> list[str]:
        """Let `fit` begin with the networks of another BoxGAN; return what in them is newly initialised."""
        size, network = self.architecture(spec), other._average
        if network is None:
            raise MedaugError("a boxgan begins with one that is fitted or loaded")
        if size.dims != network.size.dims:
            raise BadInput(f"a boxgan of {network.size.dims}D images cannot start one of {size.dims}D images")
        discriminator = None if checkpoint is None else checkpoint.get("discriminator")
        self._start = Start(network.size, network.state_dict(), discriminator)
        return anew_words(self._start.carry_into(Generator(size), Discriminator(size), size))

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged generator."""
        if self._average is None:
            raise MedaugError("this boxgan is neither fitted nor loaded")
        return {name: value.detach().cpu().contiguous() for name, value in self._average.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        self.architecture(spec)  # refuses sizes that it does not draw
        network = Generator(Architecture.of_weights(self, spec, state)).requires_grad_(False)
        load_weights(network, state, KIND)
        place(network, device)
        self._average = network

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield one image (c, *s) in [0, 1] per condition, in float32 whatever precision the run trained in."""
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
        values = value_maps(size.spec, self.form)
        maps = torch.stack([draw_condition(each, size.labels, self.form, size.classes, values) for each in conditions])
        latents, noise = (torch.cat(part).to(device) for part in zip(*drawn, strict=True))
        with torch.autocast(device.type, enabled=False):
            images = network(latents, noise, maps.to(device))
        return ((images + 1) / 2).clamp(0, 1).cpu().contiguous().numpy()
