"""Start a network with the weights of another one of its kind, as far as the two match.

Legend: a slot is a channel that stands for something: a label, a class, the halo of all boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medaug_cli.plugin import BadInput


@dataclass(frozen=True)
class Slots:
    """The last channels along an axis of a weight tensor, with the name of what each stands for."""

    before: Sequence[str]
    now: Sequence[str]
    axis: int

    def matched(self) -> list[tuple[int, int]]:
        """Return the slots (before, now) of the same name."""
        return [(self.before.index(name), k) for k, name in enumerate(self.now) if name in self.before]


def named_alike(before: Sequence[str], now: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of slots before and now; one alone on both sides stands for the same, whatever it is called."""
    return (now, now) if len(before) == len(now) == 1 else (before, now)


@torch.no_grad()
def carry(network: nn.Module, before: Mapping[str, Any], slots: Mapping[str, Slots]) -> list[str]:
    """Copy the weights `before` into a network; return the names of those that do not match and stay as they were.

    Raises BadInput where `before`, of a checkpoint, are no weights.
    """
    if not isinstance(before, Mapping) or not all(isinstance(one, Tensor) for one in before.values()):
        raise BadInput("the networks in its checkpoint are damaged: they are no tensors with names")
    anew = []
    for name, own in network.state_dict().items():
        old = before.get(name)
        if old is None or not _copied(own, old.to(own.device, own.dtype), slots.get(name)):
            anew.append(name)
    return anew


def _copied(own: Tensor, old: Tensor, slots: Slots | None) -> bool:
    """Copy the matching part of a tensor; tell whether that is all of it."""
    if slots is None:
        if own.shape != old.shape:
            return False
        own.copy_(old)
        return True
    axis, kept = slots.axis, own.shape[slots.axis] - len(slots.now)
    rest = [shape[:axis] + shape[axis + 1 :] for shape in (own.shape, old.shape)]
    if rest[0] != rest[1] or kept != old.shape[axis] - len(slots.before):
        return False
    own.narrow(axis, 0, kept).copy_(old.narrow(axis, 0, kept))
    matched = slots.matched()
    for then, now in matched:
        own.narrow(axis, kept + now, 1).copy_(old.narrow(axis, kept + then, 1))
    return len(matched) == len(slots.now)


def anew_words(anew: Mapping[str, Sequence[str]]) -> list[str]:
    """Say for each network what in it is newly initialised."""
    said = []
    for network, names in anew.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        said += [f"{network}: {', '.join(names[:3])}{more}"] if names else []
    return said
