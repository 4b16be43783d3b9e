"""Real images and their condition maps at the size of a level."""

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import BadInput, Examples
from medaug_plugins.cpggan.conditions import Form, channels, draw_map
from medaug_plugins.cpggan.networks import blend, double, shrink
from medaug_plugins.layers import laid_out

KEPT_NUMBERS = 2**26  # a level that fits into 256 MB of float32 is kept in memory, the device's where it has one
CHUNK = 64


class RealImages:
    """Give batches of one level; a level that is small enough is read and shrunk only once."""

    def __init__(self, examples: Examples, levels: int, device: str, form: Form = "boxes") -> None:
        self.examples, self.levels, self.form = examples, levels, form
        self.device = torch.device(device)
        self.conditions = channels(form, examples.spec)
        self.kept_level = -1
        self.images: Tensor | None = None
        self.maps: Tensor | None = None
        bare = [i for i in range(len(examples)) if form == "mask" and examples.condition(i).mask is None]
        if bare:
            raise BadInput(
                f"{len(bare)} of {len(examples)} training images have no mask, such as one of patient "
                f"{examples.patients[bare[0]]}, and condition=mask was asked for; see preprocess --masks, of external "
                "stores too"
            )

    def turn_to(self, level: int) -> None:
        """Keep the images and maps of this level in memory if they are small enough."""
        if level == self.kept_level:
            return
        self.kept_level, self.images, self.maps = level, None, None
        spec, count = self.examples.spec, len(self.examples)
        pixels = int(np.prod([side >> (self.levels - level) for side in spec.spatial]))
        if count * (spec.channels + self.conditions) * pixels <= KEPT_NUMBERS:
            chunks = [np.arange(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK)]
            self.images = torch.cat([self._read_images(chunk) for chunk in chunks])
            if self.conditions:
                self.maps = torch.cat([self._read_maps(chunk) for chunk in chunks])

    def batch(self, indices: np.ndarray, fade: float) -> Tensor:
        """Return images (b, c, *s) in [-1, 1], faded to the level below as the generator's are."""
        images = self._read_images(indices) if self.images is None else self.images[indices]
        images = images * 2 - 1
        if fade and self.kept_level:
            images = blend(images, double(shrink(images)), fade)
        return laid_out(images)

    def condition_maps(self, indices: np.ndarray) -> Tensor | None:
        """Return condition maps (b, k, *s) in [0, 1], None where there is no condition."""
        if not self.conditions:
            return None
        return self._read_maps(indices) if self.maps is None else self.maps[indices]

    def _read_images(self, indices: np.ndarray) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(self.examples.read(indices), np.float32))
        return shrink(images.to(self.device), self.levels - self.kept_level)

    def _read_maps(self, indices: np.ndarray) -> Tensor:
        times = self.levels - self.kept_level
        maps = [draw_map(self.examples.condition(int(i)), self.form, self.conditions, times) for i in indices]
        return torch.stack(maps).to(self.device)
