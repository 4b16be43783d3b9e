"""Layers of progressive GANs (Karras et al. 2018; sections are its).

Legend: b images, f feature maps, *s spatial axes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import Run
from medaug_plugins.layers.sharing import mine, whole

LEAK = 0.2
RELU_GAIN = math.sqrt(2)


class EqualizedConv(nn.Module):
    """Convolve with weights that are scaled by gain / sqrt(fan-in) as they are used (4.1).

    An odd kernel keeps the size, one of 4 halves it.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, gain: float = RELU_GAIN, bias: bool = True, dims: int = 2
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[kernel] * dims))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.scale = gain / math.sqrt(inputs * kernel**dims)
        self.stride, self.padding = (2, 1) if kernel == 4 else (1, kernel // 2)
        self.convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class EqualizedDense(nn.Module):
    """Multiply by weights that are scaled by gain / sqrt(fan-in) as they are used (4.1)."""

    def __init__(self, inputs: int, outputs: int, gain: float = RELU_GAIN, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight from N(0, 1) and set every bias, and whatever else has one axis, to zero (4.1)."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def activate(x: Tensor) -> Tensor:
    """Return the leaky ReLU of slope 0.2, in the place of `x`."""
    return F.leaky_relu(x, LEAK, inplace=True)


def pixel_norm(x: Tensor) -> Tensor:
    """Normalise the feature vector of every pixel to a mean square of one (4.2)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def minibatch_deviation(x: Tensor, run: Run | None = None, group: int = 4) -> Tensor:
    """Append one channel: how much the images of a strided group differ (3). (b, f, *s) -> (b, f + 1, *s)

    Where the processes of a run share a batch, the groups are those of the whole of it.
    """
    every = x.float() if run is None else whole(x.float(), run)
    group = max(size for size in range(1, group + 1) if len(every) % size == 0)
    grouped = every.reshape(group, -1, *x.shape[1:])  # (group, b / group, f, *s)
    deviation = torch.sqrt(grouped.var(0, correction=0) + 1e-8)
    feature = deviation.flatten(1).mean(1).repeat(group)  # (b,)
    feature = feature if run is None else mine(feature, run)
    plane = feature.reshape(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, plane.to(x.dtype)], 1)
