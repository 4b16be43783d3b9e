"""A second discriminator, on frozen features of a network that learnt ImageNet (Sauer et al. 2021, Projected GANs).

It complements the one that sees pixels: alone it let brightness and contrast drift, and lesions went missing.
"""

import torch
from torch import Tensor, nn

from medaug_cli.plugin import Run, UsageError
from medaug_plugins.layers import EqualizedConv, activate, minibatch_deviation
from medaug_plugins.supervised.imagenet import LEAST_SIDE, MAPS, feature_maps

WIDTH = 32  # feature maps of a head


class Frozen(nn.Module):
    """Score images by a small head on each level of frozen features; only the heads are trained.

    A head also sees how much features differ over a batch (Karras et al. 2018, 3): without it images became alike.
    """

    def __init__(self, run: Run | None = None) -> None:
        """Raise UsageError where ImageNet's weights are not installed."""
        super().__init__()
        try:
            feature_maps(torch.zeros(1, 1, LEAST_SIDE, LEAST_SIDE))
        except UsageError as error:
            raise UsageError(f"{error}, or leave frozen features out (--set frozen=0)") from error
        self.run = run  # its processes share each batch
        self.enter = nn.ModuleList(EqualizedConv(maps, WIDTH, 1) for maps in MAPS)
        self.leave = nn.ModuleList(EqualizedConv(WIDTH + 1, 1, 3, gain=1.0) for _ in MAPS)

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        """Return scores (b,) of images (b, c, *s) in [-1, 1]: means over places and levels.

        A volume is seen as a plane across each axis, at `places` (b, 3) from 0 to 1; pictures are seen whole.
        """
        if images.ndim == 4:
            return self._score(images)
        return torch.stack([self._score(plane) for plane in planes(images, places)]).mean(0)

    def _score(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            scores = [
                leave(minibatch_deviation(activate(enter(maps)), self.run)).mean((1, 2, 3))
                for enter, leave, maps in zip(self.enter, self.leave, feature_maps(images.float()), strict=True)
            ]
        return torch.stack(scores).mean(0)


def planes(volumes: Tensor, places: Tensor) -> list[Tensor]:
    """Return a plane of each volume (b, c, d, h, w) across each axis, (b, c, ...), at places (b, 3) in [0, 1)."""
    each = torch.arange(len(volumes), device=volumes.device)
    cut = []
    for axis in range(3):
        side = volumes.shape[2 + axis]
        at = (places[:, axis].to(volumes.device) * side).long().clamp(max=side - 1)
        cut.append(volumes.movedim(2 + axis, 1)[each, at])
    return cut
