"""Begin BoxGAN's networks with those of another, of the same labels and size or of others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from medaug_plugins.boxgan.networks import Architecture, FiLMConv
from medaug_plugins.layers import Slots, carry

ONE_LABEL = "lesions"  # what a single label stands for, whatever it is called


@dataclass(frozen=True)
class Start:
    """What the networks of a new run begin with."""

    before: Architecture
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any] | None  # None if it is not available

    def carry_into(self, generator: nn.Module, discriminator: nn.Module, now: Architecture) -> dict[str, list[str]]:
        """Copy what matches into both networks; return the names of what does not match, for each."""
        anew = {"generator": carry(generator, self.generator, _slots_of_generator(generator, self.before, now))}
        if self.discriminator is None:
            return anew | {"discriminator": ["all of it, since it is not available"]}
        slots = _slots_of_discriminator(discriminator, self.before, now)
        return anew | {"discriminator": carry(discriminator, self.discriminator, slots)}


def _slots_of_generator(network: nn.Module, before: Architecture, now: Architecture) -> dict[str, Slots]:
    boxed = [name for name, part in network.named_modules() if isinstance(part, FiLMConv) and part.seen > 1]
    return {f"{name}.conv.weight": Slots(_condition(before), _condition(now), 1) for name in boxed}


def _slots_of_discriminator(network: nn.Module, before: Architecture, now: Architecture) -> dict[str, Slots]:
    names = [name for name, _ in network.named_parameters()]
    told = {
        name: Slots(_condition(before), _condition(now), 1)
        for name in names
        if name.startswith("embeddings.") and name.endswith(".weight")
    }
    return told | {name: Slots(_labels(before), _labels(now), 0) for name in names if name.startswith("find.")}


def _condition(size: Architecture) -> list[str]:
    """Return what each channel of a condition stands for."""
    return [*_labels(size), *(f"class {name}" for name in size.spec.class_names[: size.classes]), "halo"]


def _labels(size: Architecture) -> list[str]:
    if size.labels == 1:
        return [ONE_LABEL]
    spec = size.spec
    by_mask = size.settings.form == "mask" and spec.mask_names
    return [f"label {name}" for name in (spec.mask_names if by_mask else spec.label_names)]
