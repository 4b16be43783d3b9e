"""SynthStrip (Hoopes et al. 2022): a U-Net that gives each voxel its distance in mm from the brain's surface.

Its weights (`synthstrip.1.pt`) come with FreeSurfer, under FreeSurfer's licence; nothing brings them but the user. The
layout is read off the names of the tensors: `encoder.L.K`, `decoder.L.K` and `remaining.K`, levels and convolutions.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from medaug_cli.plugin import BadInput, Capabilities, Extracted, Plane, setting
from medaug_plugins.strippers.grids import largest_part, resized
from medaug_plugins.strippers.weights import find_weights, read_weights

FILES = ("synthstrip.1.pt", "synthstrip.pt")
DIVISOR, LEAST, MOST = 64, 192, 320  # of the voxels of 1 mm along each side
SLOPE = 0.2  # of the activations
FAR = 100.0  # mm from the brain, where the network was not asked

Weights = Mapping[str, torch.Tensor]


@dataclass
class SynthStrip:
    """SynthStrip 1: a brain in any kind of scan."""

    weights: str = setting("", help="synthstrip.1.pt of FreeSurfer, or the folder that it is in")
    border: float = setting(1.0, help="Distance in mm from the brain's surface up to which a voxel is kept")
    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,))

    def __post_init__(self) -> None:
        """Find the weights; raise MissingPlugin where they are not."""
        self._file: Path = find_weights(self.weights, FILES, "", "SynthStrip")[0]

    def extract(self, image: np.ndarray, spacing: tuple[float, ...] | None, plane: Plane | None) -> Extracted:
        """Return the brain of a volume (z, y, x)."""
        step = spacing or (1.0, 1.0, 1.0)
        shape = [max(1, round(n * s)) for n, s in zip(image.shape, step, strict=True)]
        turned = resized(image, shape, order=0).transpose(2, 0, 1)[:, ::-1, ::-1]  # to the left, down and front: LIA
        grey, (of_scan, of_frame) = _framed(turned)
        grey = grey - grey.min()
        grey = np.clip(grey / max(float(np.percentile(grey, 99)), 1e-9), 0, 1).astype(np.float32)
        with torch.inference_mode():
            weights = read_weights(self._file, "SynthStrip")
            distance = network(torch.from_numpy(grey)[None, None], weights)[0, 0].numpy()
        whole = np.full(turned.shape, FAR, np.float32)
        whole[of_scan] = distance[of_frame]
        found = resized(np.ascontiguousarray(whole[:, ::-1, ::-1].transpose(1, 2, 0)), image.shape)
        mask = found < self.border
        return Extracted(largest_part(mask, fill=True) if mask.any() else mask)


def _framed(grey: np.ndarray) -> tuple[np.ndarray, tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Return what is not zero in the middle of a frame for the network, and which part of either is the other's."""
    content = ndimage.find_objects((grey != 0).astype(np.uint8))
    low = [part.start for part in content[0]] if content else [0, 0, 0]
    high = [part.stop for part in content[0]] if content else list(grey.shape)
    frame = [int(np.clip(-(-(h - n) // DIVISOR) * DIVISOR, LEAST, MOST)) for n, h in zip(low, high, strict=True)]
    of_scan, of_frame = [], []
    for a, b, side in zip(low, high, frame, strict=True):
        taken = min(b - a, side)
        first, start = a + (b - a - taken) // 2, (side - taken) // 2
        of_scan.append(slice(first, first + taken))
        of_frame.append(slice(start, start + taken))
    framed = np.zeros(frame, np.float32)
    framed[tuple(of_frame)] = grey[tuple(of_scan)]
    return framed, (tuple(of_scan), tuple(of_frame))


def network(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Return the distances (1, 1, *s) of a volume (1, 1, *s); raise BadInput for weights of another network."""
    count = 1 + max((int(name.split(".")[1]) for name in weights if name.startswith("encoder.")), default=-1)
    last = max((int(name.split(".")[1]) for name in weights if name.startswith("remaining.")), default=0)
    if not count or x.shape[2] % 2**count:
        raise BadInput("these are not the weights of SynthStrip: no tensor is named encoder.0.0.conv.weight")

    def convolve(x: torch.Tensor, name: str, active: bool = True) -> torch.Tensor:
        x = functional.conv3d(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], padding=1)
        return functional.leaky_relu(x, SLOPE, inplace=True) if active else x

    def convolve_all(x: torch.Tensor, level: str) -> torch.Tensor:
        for number in itertools.takewhile(lambda k: f"{level}.{k}.conv.weight" in weights, itertools.count()):
            x = convolve(x, f"{level}.{number}")
        return x

    try:
        skips = []
        for level in range(count):
            skips.append(convolve_all(x, f"encoder.{level}"))
            x = functional.max_pool3d(skips[-1], 2)
        for level in range(count):
            x = functional.interpolate(convolve_all(x, f"decoder.{level}"), scale_factor=2, mode="nearest")
            x = torch.cat([x, skips.pop()], 1)
        for number in range(last):
            x = convolve(x, f"remaining.{number}")
        return convolve(x, f"remaining.{last}", active=False)
    except (KeyError, RuntimeError) as error:
        raise BadInput(f"these are not the weights of SynthStrip ({error})") from error
