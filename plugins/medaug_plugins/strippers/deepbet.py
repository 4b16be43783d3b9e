"""deepbet (Fisch et al. 2024): two networks as TorchScript, which lie in the wheel of the same name (MIT).

The first finds the brain in a small picture of the whole scan, the second outlines it in the box around that. Only
the two files are used: nothing of the distribution, which asks for a window system, is imported.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from medaug_cli.plugin import BadInput, Capabilities, Extracted, Plane, setting
from medaug_plugins.strippers.grids import largest_part, nearest
from medaug_plugins.strippers.weights import find_weights

FILES = ("bbox_model.pt", "model.pt")
SMALL, LARGE = (128,) * 3, (256,) * 3
MARGIN = 0.1  # of the box's sides, added on each side
CROSS = 0.02  # of a plane that the brain takes where its box begins
MEAN, SPREAD = 0.449, 0.226  # of the grey values that the networks know


@dataclass
class DeepBet:
    """deepbet 1.0: the recommended stripper of T1-weighted volumes; 10 CPU seconds and 1.4 GB a scan."""

    weights: str = setting("", help="Folder of bbox_model.pt and model.pt; empty: those of the installed deepbet")
    threshold: float = setting(0.5, help="Probability from which a voxel is brain", minimum=0.01, maximum=0.99)
    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,))

    def __post_init__(self) -> None:
        """Find the weights; raise MissingPlugin where they are not."""
        self._files = find_weights(self.weights, FILES, "deepbet", "deepbet", len(FILES))

    def extract(self, image: np.ndarray, spacing: tuple[float, ...] | None, plane: Plane | None) -> Extracted:
        """Return the brain of a volume (z, y, x); the spacing does not matter to it."""
        volume = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 1, 0)[::-1, ::-1]))  # (x, y, z) RAS
        finder, outliner = (_network(path) for path in self._files)
        with torch.inference_mode():
            small = nearest(volume, SMALL)
            low, high = torch.quantile(small, torch.tensor([0.005, 0.995])).tolist()
            if high <= low:
                return Extracted(np.zeros(image.shape, bool))
            first = largest_part(_foreground(finder, small, low, high).numpy() > 0.5)
            if not first.any():
                return Extracted(np.zeros(image.shape, bool))
            box = _box(first, volume.shape)
            inside = _foreground(outliner, nearest(volume[box], LARGE), low, high)
            found = nearest(inside, volume[box].shape).numpy() > self.threshold
        mask = np.zeros(volume.shape, bool)
        mask[box] = largest_part(found, fill=True) if found.any() else found
        return Extracted(np.ascontiguousarray(mask[::-1, ::-1].transpose(2, 1, 0)))


def _foreground(network: torch.jit.ScriptModule, volume: torch.Tensor, low: float, high: float) -> torch.Tensor:
    grey = ((volume - low) / (high - low)).clamp(0, 1)
    grey = SPREAD * (grey - grey.mean()) / grey.std() + MEAN
    return network(grey[None, None])[0, 1]


def _box(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box of a mask (128, 128, 128), scaled to a volume's shape and enlarged."""
    box = []
    for axis, length in enumerate(shape):
        share = mask.mean(tuple(other for other in range(3) if other != axis))
        where = np.flatnonzero(share > CROSS)
        if not len(where):
            where = np.flatnonzero(share)
        scale = length / mask.shape[axis]
        middle = round((where[-1] + 1 + where[0]) / 2 * scale)
        side = round((where[-1] + 1 - where[0]) * scale * (1 + 2 * MARGIN))
        box.append(slice(max(0, int(middle - side / 2)), min(length, int(middle + side / 2))))
    return tuple(box)


@lru_cache(maxsize=2)
def _network(path: Path) -> torch.jit.ScriptModule:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that TorchScript will go some day
            return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise BadInput(f"{path} is not a network of deepbet ({str(error).splitlines()[0][:160]})") from error
