"""Real images and their box maps at the size of a level."""

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import Condition, Examples, box_map
from medaug_cpggan.networks import blend, double, shrink

KEPT_NUMBERS = 2**26  # a level that fits into 256 MB of float32 is kept in memory
CHUNK = 64


def draw_map(condition: Condition, times: int) -> Tensor:
    """Return the box map (1, *s) of a condition, halved `times` times by averaging."""
    return shrink(torch.from_numpy(box_map(condition.boxes, condition.spatial))[None, None], times)[0]


class Reals:
    """Give batches of one level; a level that is small enough is read and shrunk only once."""

    def __init__(self, data: Examples, levels: int, device: str) -> None:
        self.data = data
        self.levels = levels
        self.device = torch.device(device)
        self.kept_level = -1
        self.images: Tensor | None = None
        self.maps: Tensor | None = None

    def turn_to(self, level: int) -> None:
        """Keep the images and maps of this level in memory if they are small enough."""
        if level == self.kept_level:
            return
        self.kept_level, self.images, self.maps = level, None, None
        spec, count = self.data.spec, len(self.data)
        pixels = int(np.prod([side >> (self.levels - level) for side in spec.spatial]))
        if count * (spec.channels + 1) * pixels <= KEPT_NUMBERS:
            chunks = [np.arange(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK)]
            self.images = torch.cat([self._read_images(chunk) for chunk in chunks])
            self.maps = torch.cat([self._read_maps(chunk) for chunk in chunks])

    def batch(self, indices: np.ndarray, fade: float) -> Tensor:
        """Return images (b, c, *s) in [-1, 1], faded to the level below as the generator's are."""
        images = self._read_images(indices) if self.images is None else self.images[indices]
        images = images.to(self.device) * 2 - 1
        if fade and self.kept_level:
            images = blend(images, double(shrink(images)), fade)
        return compact(images)

    def box_maps(self, indices: np.ndarray) -> Tensor:
        """Return box maps (b, 1, *s) in [0, 1]."""
        maps = self._read_maps(indices) if self.maps is None else self.maps[indices]
        return maps.to(self.device)

    def _read_images(self, indices: np.ndarray) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(self.data.read(indices), np.float32))
        return shrink(images, self.levels - self.kept_level)

    def _read_maps(self, indices: np.ndarray) -> Tensor:
        times = self.levels - self.kept_level
        return torch.stack([draw_map(self.data.condition(int(index)), times) for index in indices])


def compact(images: Tensor) -> Tensor:
    """Lay 2D images out channels last, which the convolutions like best."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
