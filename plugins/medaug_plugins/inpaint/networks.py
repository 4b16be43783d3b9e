"""The networks of Inpaint: one paints into a hole of a patch, one judges painted patches.

Legend: b patches, c image channels, f feature maps, z latent numbers, p pixels of a side, of which there are two or
three. Images lie in [-1, 1].
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medaug_cli.plugin import Run
from medaug_plugins.inpaint.settings import Settings
from medaug_plugins.layers import (
    EqualizedConv,
    EqualizedDense,
    activate,
    averaged,
    double,
    minibatch_deviation,
    pixel_norm,
)

COARSEST = 8  # pixels of the innermost level
PATCHES = {2: 64, 3: 32}  # dimensions -> pixels of a patch's side, where none is asked for


@dataclass(frozen=True)
class Architecture:
    """The settings and the images' channels, and the sizes of both networks that follow from them."""

    settings: Settings  # whose patch is 0, or a power of two, 16 or more
    channels: int
    classes: int = 0  # of images, that are told
    dims: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the spatial shape of a patch."""
        return (self.patch,) * self.dims

    @property
    def patch(self) -> int:
        """Return the side of the square that is repainted."""
        return self.settings.patch or PATCHES[self.dims]

    @property
    def latent(self) -> int:
        """Return how many latent numbers a lesion is drawn from."""
        return self.settings.latent

    @property
    def maps(self) -> list[int]:
        """Return the feature maps of every level, the finest first."""
        levels = (self.patch // COARSEST).bit_length()
        return [min(self.settings.width << level, self.settings.max_maps) for level in range(levels)]


class FiLMConv(nn.Module):
    """Convolve, add noise of learned strength, normalise, then scale and shift by the latent (FiLM)."""

    def __init__(self, inputs: int, outputs: int, latent: int, noisy: bool = True, dims: int = 2) -> None:
        super().__init__()
        self.conv = EqualizedConv(inputs, outputs, 3, dims=dims)
        self.film = EqualizedDense(latent, 2 * outputs, gain=0.5)
        self.grain = nn.Parameter(torch.empty(outputs)) if noisy else None

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x)
        if self.grain is not None:
            grain = self.grain.reshape(-1, *[1] * (x.ndim - 2))
            x = torch.addcmul(x, noise.to(x.dtype), grain.to(x.dtype))
        styled = self.film(style).to(x.dtype)
        scale, shift = styled.reshape(*styled.shape, *[1] * (x.ndim - 2)).chunk(2, 1)
        return torch.addcmul(shift, pixel_norm(activate(x)), 1 + scale)


class Painter(nn.Module):
    """See what surrounds a hole, at every level, and paint the patch (Ronneberger et al. 2015, with latents).

    The finest level gets no noise: its grain would show more than the lesion.
    """

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.size, maps, dims = size, size.maps, size.dims
        self.mapping = nn.ModuleList(EqualizedDense(size.latent, size.latent) for _ in range(2))
        self.enter = EqualizedConv(size.channels + 2 + size.classes, maps[0], 3, dims=dims)
        self.down = nn.ModuleList(EqualizedConv(a, b, 4, dims=dims) for a, b in itertools.pairwise(maps))
        self.middle = FiLMConv(maps[-1], maps[-1], size.latent, dims=dims)
        self.up = nn.ModuleList(
            FiLMConv(maps[i + 1] + maps[i], maps[i], size.latent, noisy=i > 0, dims=dims)
            for i in reversed(range(len(maps) - 1))
        )
        self.leave = EqualizedConv(maps[0], size.channels, 3, gain=1.0, dims=dims)

    def forward(self, around: Tensor, where: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
        """Paint (b, c, p, ...) from patches with a hole, latents (b, z), noise, and what is told (b, 2 + k, p, ...).

        The last is how much of the paint shows, the map of the lesion, and a plane for each of k classes.
        """
        style = pixel_norm(latents)
        for dense in self.mapping:
            style = activate(dense(style))
        x = activate(self.enter(torch.cat([around, where], 1)))
        seen, noises = [x], [noise]
        for down in self.down:
            x = activate(down(x))
            seen.append(x)
            noises.append(averaged(noises[-1]) * 2 ** (x.ndim / 2 - 1))  # white noise of variance one at every level
        x = self.middle(x, style, noises[-1])
        for level, up in zip(reversed(range(len(seen) - 1)), self.up, strict=True):
            x = up(torch.cat([double(x), seen[level]], 1), style, noises[level])
        return self.leave(x).float()


class Judge(nn.Module):
    """Score patches together with the map of their lesion and their class."""

    def __init__(self, size: Architecture, run: Run | None = None) -> None:
        super().__init__()
        self.run = run  # whose processes share each batch
        maps, dims = size.maps, size.dims
        self.enter = EqualizedConv(size.channels + 1 + size.classes, maps[0], 3, dims=dims)
        self.down = nn.ModuleList(EqualizedConv(a, b, 4, dims=dims) for a, b in itertools.pairwise(maps))
        self.more = nn.ModuleList(EqualizedConv(b, b, 3, dims=dims) for b in maps[1:])
        self.last = EqualizedConv(maps[-1] + 1, maps[-1], 4, dims=dims)
        self.dense = EqualizedDense(maps[-1] * (COARSEST // 2) ** dims, maps[-1])
        self.score = EqualizedDense(maps[-1], 1, gain=1.0)

    def forward(self, patches: Tensor, told: Tensor) -> Tensor:
        """Score patches (b, c, p, ...) with maps of their lesion and planes of classes (b, 1 + k, p, ...): (b,)."""
        x = activate(self.enter(torch.cat([patches, told], 1)))
        for down, more in zip(self.down, self.more, strict=True):
            x = activate(down(x))
            x = (x + activate(more(x))) * 0.5**0.5
        x = activate(self.last(minibatch_deviation(x, self.run)))
        with torch.autocast(x.device.type, enabled=False):
            return self.score(activate(self.dense(x.float().flatten(1)))).squeeze(1)
