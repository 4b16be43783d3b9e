"""Begin BoxGAN's networks with those of another, of the same labels and size or of others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from medaug_plugins.boxgan.networks import Architecture, FiLMConv
from medaug_plugins.layers import Slots, carry, named_alike


@dataclass(frozen=True)
class Start:
    """What the networks of a new run begin with."""

    before: Architecture
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any] | None  # None if it is not available

    def carry_into(self, generator: nn.Module, discriminator: nn.Module, now: Architecture) -> dict[str, list[str]]:
        """Copy what matches into both networks; return the names of what does not match, for each."""
        conditions, labels = self._slots(now)
        anew = {"generator": carry(generator, self.generator, _slots_of_generator(generator, conditions))}
        if self.discriminator is None:
            return anew | {"discriminator": ["all of it, since it is not available"]}
        slots = _slots_of_discriminator(discriminator, conditions, labels)
        return anew | {"discriminator": carry(discriminator, self.discriminator, slots)}

    def _slots(self, now: Architecture) -> tuple[Slots, Slots]:
        """Return the channels of a condition as inputs, and the labels as outputs."""
        before, after = named_alike(_labels(self.before), _labels(now))
        conditions = Slots([*before, *_classes(self.before), "halo"], [*after, *_classes(now), "halo"], 1)
        return conditions, Slots(before, after, 0)


def _slots_of_generator(network: nn.Module, conditions: Slots) -> dict[str, Slots]:
    boxed = [name for name, part in network.named_modules() if isinstance(part, FiLMConv) and part.seen > 1]
    return {f"{name}.conv.weight": conditions for name in boxed}


def _slots_of_discriminator(network: nn.Module, conditions: Slots, labels: Slots) -> dict[str, Slots]:
    names = [name for name, _ in network.named_parameters()]
    told = {name: conditions for name in names if name.startswith("embeddings.") and name.endswith(".weight")}
    return told | {name: labels for name in names if name.startswith("find.")}


def _labels(size: Architecture) -> list[str]:
    """Return what each map of lesions stands for."""
    spec = size.spec
    by_mask = size.settings.form == "mask" and spec.mask_names
    return [f"label {name}" for name in (spec.mask_names if by_mask else spec.label_names)] or ["lesions"]


def _classes(size: Architecture) -> list[str]:
    return [f"class {name}" for name in size.spec.class_names[: size.classes]]
