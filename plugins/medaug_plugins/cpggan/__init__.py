"""GANs that grow: CPGGAN, conditioned on boxes (Han et al. 2019), and the PGGAN it is made of (Karras et al. 2018)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch

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
    UsageError,
    setting,
)  # fmt: skip
from medaug_plugins.cpggan.conditions import Form, channel_names, channels, draw_map, resolved
from medaug_plugins.cpggan.dataset import RealImages
from medaug_plugins.cpggan.networks import Architecture, Discriminator, Generator, double
from medaug_plugins.cpggan.schedule import Schedule, read_batches
from medaug_plugins.cpggan.settings import PRESETS, Settings
from medaug_plugins.cpggan.training import KIND, Start, Training
from medaug_plugins.layers import (
    LOG_EVERY,
    Slots,
    anew_words,
    check_shares,
    draw_latents,
    load_weights,
    map_of_label,
    named_alike,
    place,
)

__all__ = ["CPGGAN", "PGGAN", "ClassPGGAN"]


@dataclass
class CPGGAN(Settings):
    """Grow a generator from 4x4 to the full size, conditioned on box maps at every scale."""

    capabilities: ClassVar[GeneratorCapabilities] = GeneratorCapabilities(
        dims=(2, 3),
        channels=(1, 2, 3, 4),
        condition="boxes",
        power_of_two=True,
        shares=True,
        pictured=90.0,  # at 128x128 of preset=small as it was; 249 at 64x64
        continues=True,
    )

    def __new__(cls, **given: Any) -> "CPGGAN":
        """Note which settings are given, even at their defaults: a preset changes only the others."""
        made = super().__new__(cls)
        made._given = frozenset(given)
        return made

    def __post_init__(self) -> None:
        self._given: frozenset[str]
        for name, value in PRESETS[self.preset].items():
            if name not in self._given:
                setattr(self, name, value)
        read_batches(self.batches)
        self._average: Generator | None = None
        self._lod = 0.0
        self._start: Start | None = None
        self._form: Form = self.condition
        self._told: tuple[str, ...] = ()  # what each channel of its condition map stands for
        self._values: tuple[int, ...] = ()  # channels of the labels of boxes, where it is told masks

    def knows(self, spec: ImageSpec) -> frozenset[Known]:
        """Return what it knows of its images: where lesions are, their outlines, the class, or their labels alone."""
        told: dict[Form, frozenset[Known]] = {
            "none": frozenset(), "class": frozenset({"class"}), "label": frozenset({"labels"}),
            "mask": frozenset({"boxes", "mask"} if spec.masks else {"boxes"}),
        }  # fmt: skip
        return told.get(resolved(self.condition, spec), frozenset({"boxes"}))

    def architecture(self, spec: ImageSpec) -> Architecture:
        """Return the sizes of the networks for images of this form; raise UsageError where there are none."""
        if min(spec.spatial) < 4 or any(side & (side - 1) for side in spec.spatial):
            size = "×".join(map(str, spec.spatial))
            raise UsageError(f"cpggan needs sides that are powers of two, 4 or more, not {size}; see preprocess --size")
        conditions = channels(resolved(self.condition, spec), spec)
        return Architecture(self, spec.channels, spec.spatial, conditions=conditions)

    def scheduled_lod(self, schedule: Schedule, run: Run, done: int) -> float:
        """Return the level of detail that the schedule asks for; a run that is prolonged never goes back."""
        if self.schedule == "paper":
            return schedule.lod(done / 1000)
        return schedule.lod(run.fraction(done) / self.growing * schedule.growing_kimg)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent (Karras et al. 2018, A.1)."""
        training = self._begin(data, run)
        schedule = Schedule(min(data.spec.spatial), read_batches(self.batches), self.fade_kimg, self.stable_kimg)
        for level in range(schedule.levels + 1):
            batch = schedule.at_lod(level).batch
            check_shares(batch, run)
            if self.variety and batch == 1:
                raise UsageError(
                    f"variety={self.variety:g} compares the images of a batch, and batches={self.batches} has batches "
                    "of one; take larger ones, or --set variety=0"
                )
        done = training.load_state_dict(run.state) if run.state else 0
        self._average = training.average
        self._lod = training.lod
        while run.fraction(done) < 1:
            stage = schedule.at_lod(min(self._lod, self.scheduled_lod(schedule, run, done)))
            images, losses = training.step(done, stage)
            self._lod = stage.lod
            done += images
            if training.steps % LOG_EVERY == 0:
                run.log(done, lod=stage.lod, **{name: float(value) for name, value in losses.items()})
            run.checkpoint(done, lambda: training.state_dict(done))  # noqa: B023
        run.checkpoint(done, lambda: training.state_dict(done), force=True)

    def _begin(self, data: Examples, run: Run) -> Training:
        if len(data) == 0:
            raise BadInput("there are no training images to fit cpggan on")
        size = self.architecture(data.spec)
        self._turn_to(data.spec)
        return Training(size, RealImages(data, size.levels, run.device, self._form), run, self._start)

    def begin_with(self, other: "CPGGAN", spec: ImageSpec, checkpoint: Mapping[str, Any] | None) -> list[str]:
        """Let `fit` begin with the networks of another of its kind, at the level that they have reached.

        Return what in them is newly initialised; raise BadInput where images are of another size, which starts at
        another level, UsageError for another preset.
        """
        size, network = self.architecture(spec), other._average
        if network is None:
            raise MedaugError("a cpggan begins with one that is fitted or loaded")
        if network.size.spatial != size.spatial:
            sizes = ["x".join(map(str, one.spatial)) for one in (network.size, size)]
            raise BadInput(f"a cpggan of {sizes[0]} images cannot start one of {sizes[1]} images: both must grow alike")
        if self.preset != other.preset:  # all settings are those of the weights: none is left that it could change
            raise UsageError(
                f"--set preset={self.preset} changes nothing about weights to start from, which bring their settings; "
                "give those that should differ"
            )
        discriminator = None if checkpoint is None else checkpoint.get("discriminator")
        told = named_alike(other._told, channel_names(resolved(self.condition, spec), spec))
        self._start = Start(Slots(*told, 1), network.state_dict(), discriminator, other._lod)
        return anew_words(self._start.carry_into(Generator(size), Discriminator(size)))

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged generator and the level of detail that it has reached."""
        if self._average is None:
            raise MedaugError("this cpggan is neither fitted nor loaded")
        weights = {name: value.detach().cpu().contiguous() for name, value in self._average.state_dict().items()}
        return {**weights, "lod": torch.tensor(self._lod, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        size = self.architecture(spec)
        lod = float(state["lod"]) if "lod" in state and state["lod"].numel() == 1 else -1.0
        if not 0 <= lod <= size.levels:
            raise BadInput(f"these are not weights of a CPGGAN of this image size: lod must be 0 to {size.levels}")
        network = Generator(size).requires_grad_(False)
        load_weights(network, {name: value for name, value in state.items() if name != "lod"}, KIND)
        place(network, device)
        self._average, self._lod = network, lod
        self._turn_to(spec)

    def _turn_to(self, spec: ImageSpec) -> None:
        """Note how conditions of this form are told to the networks."""
        self._form, self._values = resolved(self.condition, spec), map_of_label(spec)
        self._told = channel_names(self._form, spec)

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray | Drawn]:
        """Yield one image (c, *s) in [0, 1] per condition, in float32 whatever precision the run trained in.

        An image drawn without a condition is yielded without boxes: where its lesions are is unknown.
        """
        if self._average is None:
            raise MedaugError("this cpggan is neither fitted nor loaded")
        pairs = zip(conditions, seeds, strict=True)
        while batch := list(islice(pairs, self.sample_batch)):
            images = self._draw(self._average, [c for c, _ in batch], [seed for _, seed in batch])
            yield from images if self.capabilities.condition == "boxes" else map(_unplaced, images)

    @torch.no_grad()
    def _draw(self, network: Generator, conditions: list[Condition], seeds: list[int]) -> np.ndarray:
        size, lod = network.size, self._lod
        device = network.dense.weight.device
        for condition in conditions:
            if condition.spatial != size.spatial:
                raise UsageError(f"this cpggan draws images of {size.spatial}, not {condition.spatial}")
        noise = [draw_latents(self.noise, 1, size.latent, torch.Generator().manual_seed(s)) for s in seeds]
        condition_maps = None
        if size.conditions:
            maps = [draw_map(each, self._form, size.conditions, int(lod), self._values) for each in conditions]
            condition_maps = torch.stack(maps).to(device)
        with torch.autocast(device.type, enabled=False):
            images = network(torch.cat(noise).to(device), condition_maps, size.levels - int(lod), lod % 1)
        for _ in range(int(lod)):
            images = double(images)
        return ((images + 1) / 2).clamp(0, 1).cpu().contiguous().numpy()


def _unplaced(image: np.ndarray) -> Drawn:
    return Drawn(image, np.zeros((0, 2 * (image.ndim - 1)), np.float32), np.zeros(0, np.int64))


@dataclass
class PGGAN(CPGGAN):
    """Grow a generator from 4x4 to the full size without a condition (Karras et al. 2018)."""

    capabilities: ClassVar[GeneratorCapabilities] = replace(CPGGAN.capabilities, condition="none", unannotated=True)
    condition: Literal["none"] = setting("none", "condition: nothing", choices=("none",))


@dataclass
class ClassPGGAN(CPGGAN):
    """Grow a generator from 4x4 to the full size for classes: a plane of ones for that of the image.

    Where the store names no classes, or with condition=label, it is one for each label that the image's lesions have.
    """

    capabilities: ClassVar[GeneratorCapabilities] = replace(CPGGAN.capabilities, condition="label")
    condition: Literal["class", "label"] = setting(
        "class", "condition: the class of the image, or the labels of its lesions", choices=("class", "label")
    )
