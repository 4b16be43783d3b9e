"""The networks of PGGAN (Karras et al. 2018) with the condition map of CPGGAN (Han et al. 2019, 2.2).

Legend: b images, c image channels, k channels of the condition map, f feature maps, z latent numbers, *s spatial axes.
Level k has the size start * 2**k; level 0 is the 4x4 one. `fade` is the share of the level below:
1 as a fade begins, 0 as it ends. Images lie in [-1, 1], condition maps in [0, 1].
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import Run
from medaug_plugins.cpggan.settings import Settings
from medaug_plugins.layers import (
    RELU_GAIN,
    EqualizedConv,
    EqualizedDense,
    activate,
    laid_out,
    minibatch_deviation,
    pixel_norm,
)

CELLS = (4, 2, 1)  # along a side, of the levels of a spatial pyramid


@dataclass(frozen=True)
class Architecture:
    """The settings and the form of the images, and the sizes of both networks that follow from them."""

    settings: Settings
    channels: int
    spatial: tuple[int, ...]  # powers of two, none below 4
    conditions: int = 1  # channels of the condition map, none for a plain PGGAN

    @property
    def dims(self) -> int:
        """Return the number of spatial axes."""
        return len(self.spatial)

    @property
    def latent(self) -> int:
        """Return the length of a latent vector."""
        return self.settings.latent

    @property
    def levels(self) -> int:
        """Return the number of doublings between level 0 and the full size."""
        return min(self.spatial).bit_length() - 3

    @property
    def start(self) -> tuple[int, ...]:
        """Return the spatial shape of level 0, its shortest side 4."""
        return tuple(side >> self.levels for side in self.spatial)

    def maps(self, level: int) -> int:
        """Return the number of feature maps of a level (Karras et al. 2018, A.1)."""
        return max(1, min(self.settings.base >> (level + 1), self.settings.max_maps))


def double(x: Tensor) -> Tensor:
    """Double every spatial axis by repeating the nearest pixel."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Shrink(torch.autograd.Function):
    """Average pooling whose gradient is spread by `repeat`: bf16 and channels last stay as they are.

    PyTorch's own gradient goes through float32 in another layout, which costs a tenth of a step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        average = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.ndim]
        return cast(Tensor, average(x, factor))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the larger image: each pixel's share of its block's."""
        (gradient,) = gradients
        share = gradient / ctx.factor ** (gradient.ndim - 2)
        return F.interpolate(share, scale_factor=ctx.factor, mode="nearest"), None


def shrink(x: Tensor, times: int = 1) -> Tensor:
    """Halve every spatial axis `times` times by averaging."""
    return x if times == 0 else cast(Tensor, Shrink.apply(x, 2**times))


def blend(new: Tensor, old: Tensor, fade: float) -> Tensor:
    """Fade between two levels: exactly `old` at 1 and exactly `new` at 0."""
    return torch.lerp(new, old.to(new.dtype), fade)


def join(x: Tensor, condition: Tensor | None) -> Tensor:
    """Put the condition map beside features; 2D ones stay channels last, which `cat` along axis 1 would undo."""
    if condition is None:
        return x
    last = (0, *range(2, x.ndim), 1)
    joined = torch.cat([x.permute(last), condition.to(x.dtype).permute(last)], -1)
    return joined.permute(0, -1, *range(1, x.ndim - 1))


class GeneratorBlock(nn.Module):
    """Two convolutions of one level; the condition map joins before the first of them."""

    def __init__(self, size: Architecture, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualizedConv(inputs + size.conditions, outputs, 3, dims=size.dims)
        self.second = EqualizedConv(outputs, outputs, 3, dims=size.dims)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = pixel_norm(activate(self.first(join(double(x), condition))))
        return pixel_norm(activate(self.second(x)))


class Generator(nn.Module):
    """Draw images from latent vectors and condition maps."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.size = size
        maps = [size.maps(level) for level in range(size.levels + 1)]
        self.dense = EqualizedDense(size.latent, maps[0] * math.prod(size.start), RELU_GAIN / 4, bias=False)
        self.dense_bias = nn.Parameter(torch.empty(maps[0]))
        self.conv = EqualizedConv(maps[0] + size.conditions, maps[0], 3, dims=size.dims)
        self.blocks = nn.ModuleList(GeneratorBlock(size, *maps[k : k + 2]) for k in range(size.levels))
        self.to_image = nn.ModuleList(EqualizedConv(f, size.channels, 1, gain=1.0, dims=size.dims) for f in maps)

    def forward(self, latents: Tensor, condition: Tensor | None, level: int, fade: float = 0.0) -> Tensor:
        """Return images (b, c, *s) of a level from latents (b, z) and condition maps (b, k, *s) of that level."""
        every = [None if condition is None else shrink(condition, level - k) for k in range(level + 1)]
        x = self._first_level(latents, every[0])
        below = x
        for k in range(level):
            below, x = x, self.blocks[k](x, every[k + 1])
        image = self.to_image[level](x)
        if fade and level:
            image = blend(image, double(self.to_image[level - 1](below)), fade)
        return image.float()

    def _first_level(self, latents: Tensor, condition: Tensor | None) -> Tensor:
        x = self.dense(pixel_norm(latents)).reshape(len(latents), -1, *self.size.start)
        x = laid_out(x)
        bias = self.dense_bias.reshape(-1, *[1] * self.size.dims).to(x.dtype)
        x = pixel_norm(activate(x + bias))
        return pixel_norm(activate(self.conv(join(x, condition))))


def pyramid_pooled(x: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Return features (b, f, *s) as numbers (b, n): means over cells, so many a side (He et al. 2014), or each."""
    pool = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    return torch.cat([pool(x, each).flatten(1) for each in cells], 1) if cells else x.flatten(1)


class DiscriminatorBlock(nn.Module):
    """Two convolutions of one level, then the average of 2x2 pixels."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualizedConv(inputs, inputs, 3, dims=dims)
        self.second = EqualizedConv(inputs, outputs, 3, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        return shrink(activate(self.second(activate(self.first(x)))))


class Judged(NamedTuple):
    """What the discriminator says of images."""

    scores: Tensor  # (b,)
    latents: Tensor | None = None  # (b, z) from which they seem to be drawn, where these are read


class Discriminator(nn.Module):
    """Score how real images look together with their condition maps, and read from which latent vectors they come."""

    def __init__(self, size: Architecture, run: Run | None = None) -> None:
        super().__init__()
        self.run = run  # whose processes share each batch
        dims, maps = size.dims, [size.maps(level) for level in range(size.levels + 1)]
        inputs = size.channels + size.conditions
        self.from_image = nn.ModuleList(EqualizedConv(inputs, f, 1, dims=dims) for f in maps)
        self.blocks = nn.ModuleList(DiscriminatorBlock(dims, maps[k + 1], maps[k]) for k in range(size.levels))
        self.conv = EqualizedConv(maps[0] + 1, maps[0], 3, dims=dims)
        last = max(1, min(size.settings.base, size.settings.max_maps))
        self.cells = CELLS if size.settings.pooling else ()
        pooled = sum(cells**dims for cells in CELLS) if self.cells else math.prod(size.start)
        self.dense = EqualizedDense(maps[0] * pooled, last)
        self.score = EqualizedDense(last, 1, gain=1.0)
        self.read = EqualizedDense(last, size.latent, gain=1.0) if size.settings.reading else None

    def forward(self, image: Tensor, condition: Tensor | None, level: int, fade: float = 0.0) -> Tensor:
        """Return scores (b,) of images (b, c, *s) and condition maps (b, k, *s) of a level."""
        return self.judge(image, condition, level, fade).scores

    def judge(self, image: Tensor, condition: Tensor | None, level: int, fade: float = 0.0) -> Judged:
        """Return scores of images and condition maps of a level, and the latent vectors that are read from them."""
        seen = join(image, condition)
        x = activate(self.from_image[level](seen))
        for k in reversed(range(level)):
            x = self.blocks[k](x)
            if fade and k == level - 1:
                x = blend(x, activate(self.from_image[k](shrink(seen))), fade)
        x = activate(self.conv(minibatch_deviation(x, self.run)))
        with torch.autocast(x.device.type, enabled=False):  # eight bits are too few for a score
            seen = activate(self.dense(pyramid_pooled(x.float(), self.cells)))
            return Judged(self.score(seen).squeeze(1), None if self.read is None else self.read(seen))
