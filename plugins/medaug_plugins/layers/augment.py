"""Augment images and their conditions together, differentiably (DiffAugment, Zhao et al. 2020).

Real and generated images are both changed before the discriminator sees them. Changes of position move
image and condition together; changes of intensity affect only the image. No cutout and no quarter turns:
they would show in the samples. Shifts are whole pixels and zooms are rare, because interpolation blurs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_cli.plugin import Run
from medaug_plugins.layers.sharing import whole
from medaug_plugins.layers.training import laid_out

ADA_KIMG = 10  # thousand images from no augmentation to all of it
MOST = 0.95  # largest probability of an augmentation that is steered
SURE_MEMORY = 0.95  # of the moving average of the signs of real images' scores


@dataclass(frozen=True)
class Augmentation:
    """How far, and how often, images are changed."""

    share: float  # probability of each change except flips; a quarter of it for a zoom
    flip: bool  # left and right
    shift: float  # at most, as a share of the side
    zoom: float  # at most, in doublings
    intensity: float = 0.0  # at most, as a share of the full range
    contrast: float = 0.0
    dims: int = 2
    flip_rows: bool = False  # the other axes

    @classmethod
    def of(cls, settings: Any, share: float, dims: int) -> "Augmentation":
        """Return what the settings of a generator ask for, with this probability."""
        names = ("flip", "flip_rows", "shift", "zoom", "intensity", "contrast")
        return cls(share=share, dims=dims, **{name: getattr(settings, name) for name in names})

    def draw_moves(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw affine maps (count, d, d + 1) from places in the result to places in the image, in [-1, 1]."""
        shift = (torch.rand(count, self.dims, generator=generator) * 2 - 1) * 2 * self.shift
        zoom = (torch.rand(count, generator=generator) * 2 - 1) * self.zoom
        shift = shift * self._chosen(count, generator)[:, None]
        scale = torch.exp2(zoom * self._chosen(count, generator, self.share / 4))
        mirror = 1 - 2 * (torch.rand(count, generator=generator) < 0.5 * self.flip).float()
        moves = torch.zeros(count, self.dims, self.dims + 1)
        for axis in range(self.dims):  # x first
            moves[:, axis, axis] = scale if axis else scale * mirror
        if self.flip_rows:
            moves[:, 1:] *= 1 - 2 * (torch.rand(count, self.dims - 1, 1, generator=generator) < 0.5).float()
        moves[:, :, -1] = shift
        return moves

    def draw_tones(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw a factor and an offset (count, 2) of the images' intensities."""
        numbers = torch.rand(count, 2, generator=generator) * 2 - 1
        factor = 1 + numbers[:, 0] * self.contrast * self._chosen(count, generator)
        offset = 2 * numbers[:, 1] * self.intensity * self._chosen(count, generator)
        return torch.stack([factor, offset], 1)

    def _chosen(self, count: int, generator: torch.Generator, share: float | None = None) -> Tensor:
        return (torch.rand(count, generator=generator) < (self.share if share is None else share)).float()


def move(pixels: Tensor, moves: Tensor) -> Tensor:
    """Move images, conditions or both of them (b, n, *s) by affine maps (b, d, d + 1); borders are repeated."""
    shape = [len(pixels), 1, *pixels.shape[2:]]
    grid = F.affine_grid(moves.to(pixels.device, torch.float32), shape, align_corners=False)
    return F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)


def in_whole_pixels(moves: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Round the shifts of affine maps (b, d, d + 1) to pixels of images (*s)."""
    pixel = 2 / torch.tensor(spatial[::-1], dtype=moves.dtype, device=moves.device)
    return torch.cat([moves[..., :-1], (torch.round(moves[..., -1] / pixel) * pixel)[..., None]], 2)


def tone(images: Tensor, tones: Tensor) -> Tensor:
    """Change contrast around the mean of each image (b, c, *s), and add an offset, by (b, 2)."""
    factor, offset = tones.to(images.device).reshape(len(tones), 2, *[1] * (images.ndim - 1)).unbind(1)
    mean = images.mean(tuple(range(1, images.ndim)), keepdim=True)
    return (images - mean) * factor + mean + offset


def change(images: Tensor, conditions: Tensor, moves: Tensor, tones: Tensor) -> tuple[Tensor, Tensor]:
    """Return images (b, c, *s) and conditions (b, k, *s) changed together; k may be 0."""
    moved = move(torch.cat([images, conditions], 1), in_whole_pixels(moves, tuple(images.shape[2:])))
    images, conditions = moved.split([images.shape[1], conditions.shape[1]], 1)
    return laid_out(tone(images, tones)), conditions.contiguous()


class Steering:
    """How often images are changed: at a fixed rate, or more where real ones are recognised too surely (ADA).

    (Karras et al. 2020, 3: the sign of real images' scores, on average, is held at `target`; 0 steers nothing.)
    """

    def __init__(self, share: float, target: float, run: Run) -> None:
        self.share, self.target, self.run = share, target, run
        self.sure = target  # moving average of the signs of real images' scores

    def observe(self, scores: Tensor, batch: int) -> None:
        """Learn the scores of a process's real images; a score of zero is undecided."""
        if not self.target:
            return
        self.sure = SURE_MEMORY * self.sure + (1 - SURE_MEMORY) * float(whole(scores.sign(), self.run).mean())
        step = batch / (1000 * ADA_KIMG) * (1 if self.sure > self.target else -1)
        self.share = min(max(self.share + step, 0.0), MOST)

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run goes on with."""
        return {"augment": self.share, "sure": self.sure}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`, from among other things."""
        self.share, self.sure = float(state["augment"]), float(state["sure"])
