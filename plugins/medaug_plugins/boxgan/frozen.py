"""A second discriminator, on frozen features of a network that learnt ImageNet (Sauer et al. 2021, Projected GANs).

It stands beside the one that sees pixels: alone it let brightness and contrast wander, and lesions went missing.
"""

import torch
from torch import Tensor, nn

from medaug_cli.plugin import UsageError
from medaug_plugins.layers import EqualizedConv, activate
from medaug_plugins.supervised.imagenet import MAPS, feature_maps

WIDTH = 32  # feature maps of a head


class Frozen(nn.Module):
    """Score images by a small head on each level of frozen features; the heads alone learn."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        if dims != 2:
            raise UsageError("frozen weighs features of pictures; leave it at 0 for volumes")
        self.enter = nn.ModuleList(EqualizedConv(maps, WIDTH, 1) for maps in MAPS)
        self.leave = nn.ModuleList(EqualizedConv(WIDTH, 1, 3, gain=1.0) for _ in MAPS)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (b,) of images (b, c, h, w) in [-1, 1]: means over places and levels."""
        with torch.autocast(images.device.type, enabled=False):
            scores = [
                leave(activate(enter(maps))).mean((1, 2, 3))
                for enter, leave, maps in zip(self.enter, self.leave, feature_maps(images.float()), strict=True)
            ]
        return torch.stack(scores).mean(0)
