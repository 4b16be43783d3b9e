"""The networks of BoxGAN: a direct generator of latent and boxes, a discriminator that also finds boxes.

Legend: b images, c image channels, k condition channels (one a label, one a class, then the halo), f feature maps,
z latent numbers, e numbers of an embedding, *s spatial axes, two or three. Images lie in [-1, 1], conditions in [0, 1].
Level 0 is that of 4 pixels per side, level i has the size start * 2**i.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import ImageSpec, Run
from medaug_plugins.boxgan.dataset import lesion_maps
from medaug_plugins.boxgan.frozen import Frozen
from medaug_plugins.boxgan.settings import Settings
from medaug_plugins.layers import (
    RELU_GAIN,
    EqualizedConv,
    EqualizedDense,
    activate,
    averaged,
    double,
    laid_out,
    minibatch_deviation,
    pixel_norm,
)

POOLED = {2: "brhw,behw->bre", 3: "brdhw,bedhw->bre"}  # dimensions -> how crops are pooled over regions
PROJECTED = (8, 16, 32)  # sides at which the boxes are compared with the features
BOXED = 16  # largest side at which the generator sees boxes; above, only the halo: it would draw the boxes' edges
OUTLINED = 64  # the same for masks, whose edges are those of lesions
REFINED = 16  # largest side at which the generator convolves twice
CROPPED = (16, 32)  # sides at which the surroundings of the boxes are judged on their own
FOUND_AT = 32  # side at which the discriminator finds the boxes, or half the image's where that is smaller


@dataclass(frozen=True)
class Architecture:
    """The settings and the form of the images, and the sizes of both networks that follow from them."""

    settings: Settings
    spec: ImageSpec  # of images whose sides are powers of two, none below 16
    outlined: int = OUTLINED  # largest side at which the generator sees masks: BOXED in weights of versions before 0.2

    @classmethod
    def of_weights(cls, settings: Settings, spec: ImageSpec, state: Mapping[str, Any]) -> "Architecture":
        """Return the sizes of a generator's weights, those of older versions too."""
        older = cls(settings, spec, BOXED)
        with torch.device("meta"):
            shapes = {name: weight.shape for name, weight in Generator(older).state_dict().items()}
        fits = all(name in state and state[name].shape == shape for name, shape in shapes.items())
        return older if fits else cls(settings, spec)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Return the sides of an image."""
        return self.spec.spatial

    @property
    def dims(self) -> int:
        """Return how many axes an image has."""
        return len(self.spec.spatial)

    @property
    def labels(self) -> int:
        """Return how many maps tell where lesions are."""
        return lesion_maps(self.spec, self.settings.form)

    @property
    def classes(self) -> int:
        """Return how many classes of images are told apart, 0 where none are."""
        return len(self.spec.class_names) if self.settings.classes else 0

    @property
    def levels(self) -> int:
        """Return the number of doublings between 4x4 and the full size."""
        return min(self.spatial).bit_length() - 3

    @property
    def start(self) -> tuple[int, ...]:
        """Return the sides of the coarsest features."""
        return tuple(side >> self.levels for side in self.spatial)

    @property
    def conditions(self) -> int:
        """Return the channels of a condition: a map for each label, a plane for each class, the halo of all boxes."""
        return self.labels + self.classes + 1

    def maps(self, level: int) -> int:
        """Return the number of feature maps of a level (Karras et al. 2018, A.1)."""
        return max(4, min(self.settings.base >> (level + 1), self.settings.max_maps))

    def level_of(self, side: int) -> int:
        """Return the level whose shorter side is `side`, or the full size where that is smaller."""
        return min(self.levels, side.bit_length() - 3)


def pyramid(condition: Tensor, levels: int) -> list[Tensor]:
    """Return a condition (b, k, *s) at every level, the coarsest first."""
    steps = [condition]
    for _ in range(levels):
        steps.append(averaged(steps[-1]))
    return steps[::-1]


class FiLMConv(nn.Module):
    """Convolve features beside the condition, then scale and shift them by the latent (FiLM, Perez et al. 2018).

    Each feature map takes noise of a strength that is learnt (Karras et al. 2019, StyleGAN, 3.2). Where it is not
    `boxed` it sees the halo alone, the condition's last channel.
    """

    def __init__(self, size: Architecture, inputs: int, outputs: int, boxed: bool = True) -> None:
        super().__init__()
        self.seen = size.conditions if boxed else 1
        self.conv = EqualizedConv(inputs + self.seen, outputs, 3, dims=size.dims)
        self.film = EqualizedDense(size.settings.latent, 2 * outputs, gain=0.5)
        self.grain = nn.Parameter(torch.empty(outputs)) if size.settings.grain else None

    def forward(self, x: Tensor, condition: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(laid_out(torch.cat([x, condition[:, -self.seen :].to(x.dtype)], 1)))
        if self.grain is not None:
            strength = self.grain.reshape(-1, *[1] * (x.ndim - 2))
            x = torch.addcmul(x, noise.to(x.dtype), strength.to(x.dtype))
        styled = self.film(style).to(x.dtype)
        scale, shift = styled.reshape(*styled.shape, *[1] * (x.ndim - 2)).chunk(2, 1)  # (b, f, 1, ...) each
        return torch.addcmul(shift, pixel_norm(activate(x)), 1 + scale)


class Generator(nn.Module):
    """Draw images from latent vectors, noise and box maps; both reach every level."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.size = size
        maps = [size.maps(level) for level in range(size.levels + 1)]
        self.mapping = nn.ModuleList(EqualizedDense(size.settings.latent, size.settings.latent) for _ in range(2))
        self.dense = EqualizedDense(size.settings.latent, maps[0] * math.prod(size.start), RELU_GAIN / 4)
        self.first = FiLMConv(size, maps[0], maps[0])
        boxed = size.level_of(size.outlined if size.settings.form == "mask" else BOXED)
        self.rising = nn.ModuleList(FiLMConv(size, maps[i], maps[i + 1], i < boxed) for i in range(size.levels))
        refined = maps[1 : size.level_of(REFINED) + 1]
        self.refining = nn.ModuleList(FiLMConv(size, f, f) for f in refined)
        self.to_image = EqualizedConv(maps[-1], size.spec.channels, 3, gain=1.0, dims=size.dims)

    def forward(self, latents: Tensor, noise: Tensor, condition: Tensor) -> Tensor:
        """Return images (b, c, *s) from latents (b, z), noise (b, 1, *s) and conditions (b, k, *s)."""
        conditions = pyramid(condition, self.size.levels)
        noises = self._noises(noise)
        style = pixel_norm(latents)
        for dense in self.mapping:
            style = activate(dense(style))
        x = self.dense(pixel_norm(latents)).reshape(len(latents), -1, *self.size.start)
        x = pixel_norm(activate(laid_out(x)))
        x = self.first(x, conditions[0], style, noises[0])
        for level, rise in enumerate(self.rising, 1):
            x = rise(double(x), conditions[level], style, noises[level])
            if level <= len(self.refining):
                x = self.refining[level - 1](x, conditions[level], style, noises[level])
        return self.to_image(x).float()

    def _noises(self, noise: Tensor) -> list[Tensor]:
        """Return white noise of variance one at every level: scaled sums of 2 independent numbers along each axis."""
        steps = [noise]
        for _ in range(self.size.levels):
            steps.append(averaged(steps[-1]) * 2 ** (self.size.dims / 2))
        return steps[::-1]


def regions(boxes: Tensor) -> Tensor:
    """Return what the pyramid of a crop pools over, (b, 2**d + 2, *s), each summing to one, from box maps (b, 1, *s).

    The boxes, their quarters (eighths in 3D) and the ring around them: crops of any size need no resizing (He et al.
    2014).
    """
    d = boxes.ndim - 2
    axes = tuple(range(2, boxes.ndim))
    total = boxes.sum(axes, keepdim=True) + 1e-6
    halves = []
    for axis in axes:
        at = torch.arange(boxes.shape[axis], device=boxes.device, dtype=boxes.dtype)
        at = at.reshape(-1, *[1] * (boxes.ndim - 1 - axis))
        beyond = (at - (boxes * at).sum(axes, keepdim=True) / total + 0.5).clamp(0, 1)
        halves.append((beyond, 1 - beyond))
    pool = F.max_pool2d if d == 2 else F.max_pool3d
    ring = pool(boxes, 5, 1, 2) - boxes
    quarters = []
    for chosen in itertools.product(*halves):
        quarter = boxes
        for half in chosen:
            quarter = quarter * half
        quarters.append(quarter)
    parts = torch.cat([boxes, *quarters, ring], 1)
    return parts / (parts.sum(axes, keepdim=True) + 1e-6)


class Seen(NamedTuple):
    """What the discriminator says of images without their boxes."""

    score: Tensor  # (b,)
    features: list[Tensor]  # (b, e, *s) at each projected level
    crops: list[Tensor]  # (b, e, *s) at each cropped level
    found: Tensor  # (b, labels, *s), logits of the box maps
    latents: Tensor  # (b, z), the latent vectors that it reconstructs from generated images


class Shrinking(nn.Module):
    """Halve and convolve, beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, dims: int = 2) -> None:
        super().__init__()
        self.first = EqualizedConv(inputs, outputs, 4, dims=dims)
        self.second = EqualizedConv(outputs, outputs, 3, dims=dims)
        self.shortcut = EqualizedConv(inputs, outputs, 1, gain=1.0, bias=False, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        main = activate(self.second(activate(self.first(x))))
        return (main + self.shortcut(laid_out(averaged(x)))) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Score images, compare them with box maps by projection (Miyato & Koyama 2018), and find the boxes.

    The trunk sees the image alone, so that one pass can be scored against right and wrong boxes.
    """

    def __init__(self, size: Architecture, run: Run | None = None) -> None:
        super().__init__()
        self.size, self.run = size, run  # the processes of the run share each batch
        maps, dims = [size.maps(level) for level in range(size.levels + 1)], size.dims
        top = size.levels - 1  # the first convolution halves the image
        self.projected = sorted({min(top, size.level_of(side)) for side in PROJECTED})
        self.found_level = min(top, size.level_of(FOUND_AT))
        coarse = self.found_level - 1
        self.from_image = EqualizedConv(size.spec.channels, maps[top], 4, dims=dims)
        self.blocks = nn.ModuleList(Shrinking(maps[i + 1], maps[i], dims) for i in range(top))
        self.features = nn.ModuleList(
            EqualizedConv(maps[i], size.settings.embedding, 1, gain=1.0, dims=dims) for i in self.projected
        )
        self.embeddings = nn.ModuleList(
            EqualizedConv(size.conditions, size.settings.embedding, 3, gain=1.0, dims=dims) for _ in self.projected
        )
        self.coarse = EqualizedConv(maps[coarse], maps[self.found_level], 3, dims=dims)
        self.fine = EqualizedConv(2 * maps[self.found_level], maps[self.found_level], 3, dims=dims)
        self.find = EqualizedConv(maps[self.found_level], size.labels, 1, gain=1.0, dims=dims)
        self.conv = EqualizedConv(maps[0] + 1, maps[0], 3, dims=dims)
        self.dense = EqualizedDense(maps[0] * math.prod(size.start), maps[0])
        self.score = EqualizedDense(maps[0], 1, gain=1.0)
        self.read = EqualizedDense(maps[0], size.settings.latent, gain=1.0)
        self.frozen = Frozen(run) if size.settings.frozen else None
        self.cropped = sorted({min(top, size.level_of(side)) for side in CROPPED}) if size.settings.crop else []
        if self.cropped:
            self.crops = nn.ModuleList(
                EqualizedConv(maps[i], size.settings.embedding, 1, dims=dims) for i in self.cropped
            )
            self.crop_dense = EqualizedDense(len(self.cropped) * (2**dims + 2) * size.settings.embedding, maps[0])
            self.crop_score = EqualizedDense(maps[0], 1, gain=1.0)

    def forward(self, image: Tensor) -> Seen:
        """Look at images (b, c, *s)."""
        x = activate(self.from_image(image))
        levels = [x]
        for block in reversed(self.blocks):
            x = block(x)
            levels.append(x)
        levels.reverse()
        last = activate(self.conv(minibatch_deviation(x, self.run)))
        features = [conv(levels[i]).float() for conv, i in zip(self.features, self.projected, strict=True)]
        crops = [activate(self.crops[n](levels[i])).float() for n, i in enumerate(self.cropped)]
        found = self._find(levels).float()
        with torch.autocast(x.device.type, enabled=False):  # eight bits are too few for a score
            last = activate(self.dense(last.float().flatten(1)))
            return Seen(self.score(last).squeeze(1), features, crops, found, self.read(last))

    def _find(self, levels: list[Tensor]) -> Tensor:
        coarse = double(activate(self.coarse(levels[self.found_level - 1])))
        return self.find(activate(self.fine(torch.cat([coarse, levels[self.found_level]], 1))))

    def agreement(self, seen: Seen, condition: Tensor) -> Tensor:
        """Return how well boxes (b, k, *s) fit what was seen, (b,): inner products summed over pixels."""
        conditions = pyramid(condition, self.size.levels)
        total = torch.zeros_like(seen.score)
        with torch.autocast(condition.device.type, enabled=False):
            for feature, embed, level in zip(seen.features, self.embeddings, self.projected, strict=True):
                embedded = embed(conditions[level])
                scale = 1 / math.sqrt(feature[0].numel())
                total = total + (feature * embedded).flatten(1).sum(1) * scale
        return total

    def lesion(self, seen: Seen, condition: Tensor) -> Tensor:
        """Score what is seen in and around boxes (b, k, *s) alone, (b,) (Ouyang et al. 2018, PS-GAN, 3.2)."""
        boxes = pyramid(condition[:, : self.size.labels].amax(1, keepdim=True), self.size.levels)
        with torch.autocast(condition.device.type, enabled=False):
            pooled = [
                torch.einsum(POOLED[self.size.dims], regions(boxes[level]), crop).flatten(1)
                for crop, level in zip(seen.crops, self.cropped, strict=True)
            ]
            return self.crop_score(activate(self.crop_dense(torch.cat(pooled, 1)))).squeeze(1)
