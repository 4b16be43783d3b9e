"""A second discriminator, on frozen features of a network that learnt ImageNet (Sauer et al. 2021, Projected GANs).

It complements the one that sees pixels: alone it let brightness and contrast drift, and lesions went missing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medaug_cli.plugin import Run, UsageError
from medaug_plugins.layers import EqualizedConv, activate, minibatch_deviation
from medaug_plugins.supervised.imagenet import LEAST_SIDE, MAPS, feature_maps

WIDTH = 32  # feature maps of a head
AT_A_TIME = 32  # images that the network sees at once where features of many are wanted

Views = list[list[Tensor]]  # features (b, f, h, w) of each level of each view: a picture, or a plane of a volume


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
        return self.score(features_of(images, places))

    def score(self, views: Views) -> Tensor:
        """Return scores (b,) of features: means over places, levels and views."""
        with torch.autocast(views[0][0].device.type, enabled=False):
            scores = [
                leave(minibatch_deviation(activate(enter(maps)), self.run)).mean((1, 2, 3))
                for levels in views
                for enter, leave, maps in zip(self.enter, self.leave, levels, strict=True)
            ]
        return torch.stack(scores).mean(0)

    def steepness(self, views: Views, spreads: Sequence[Tensor]) -> Tensor:
        """Return R1 (Mescheder et al. 2018, 4.1) of features, (b,): how steeply scores rise where these lie.

        A slope is by how much a score rises with a whole map, in units of `spreads`, the spread of each level's
        features, so that neither the size of maps nor the range of features counts.
        """
        squares = []
        for levels in views:
            at = [maps.detach().requires_grad_() for maps in levels]
            gradients = torch.autograd.grad(self.score([at]).sum(), at, create_graph=True)
            slopes = [
                gradient * gradient[0, 0].numel() * spread for gradient, spread in zip(gradients, spreads, strict=True)
            ]
            squares.append(torch.stack([slope.square().sum(1).mean((1, 2)) for slope in slopes]).sum(0))
        return torch.stack(squares).mean(0)


def features_of(images: Tensor, places: Tensor) -> Views:
    """Return the frozen features of images (b, c, *s) in [-1, 1]; `places` as in `Frozen`."""
    with torch.autocast(images.device.type, enabled=False):
        return [feature_maps(view.float()) for view in ([images] if images.ndim == 4 else planes(images, places))]


@torch.no_grad()
def feature_spreads(images: Tensor) -> list[Tensor]:
    """Return the spread of each level's features over images and places: the root of the mean variance of its maps."""
    middles = torch.full((len(images), 3), 0.5)
    parts = zip(images.split(AT_A_TIME), middles.split(AT_A_TIME), strict=True)
    views = [view for some, places in parts for view in features_of(some, places)]
    return [torch.cat(maps).var((0, 2, 3)).mean().sqrt() for maps in zip(*views, strict=True)]


def planes(volumes: Tensor, places: Tensor) -> list[Tensor]:
    """Return a plane of each volume (b, c, d, h, w) across each axis, (b, c, ...), at places (b, 3) in [0, 1)."""
    each = torch.arange(len(volumes), device=volumes.device)
    cut = []
    for axis in range(3):
        side = volumes.shape[2 + axis]
        at = (places[:, axis].to(volumes.device) * side).long().clamp(max=side - 1)
        cut.append(volumes.movedim(2 + axis, 1)[each, at])
    return cut
