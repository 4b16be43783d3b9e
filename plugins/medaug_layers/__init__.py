"""Layers and training pieces that more than one generator is built of (Karras et al. 2018).

Legend: b images, f feature maps, *s spatial axes.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, Run, UsageError
from medaug_layers.descent import Descent

__all__ = [
    "LEAK",
    "RELU_GAIN",
    "Chance",
    "Descent",
    "EqualizedConv",
    "EqualizedDense",
    "activate",
    "check_shares",
    "load_moments",
    "load_weights",
    "minibatch_deviation",
    "pixel_norm",
    "place",
]

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


def activate(x: Tensor) -> Tensor:
    """Return the leaky ReLU of slope 0.2, in the place of `x`."""
    return F.leaky_relu(x, LEAK, inplace=True)


def pixel_norm(x: Tensor) -> Tensor:
    """Normalise the feature vector of every pixel to a mean square of one (4.2)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """Append one channel: how much the images of a strided group differ (3). (b, f, *s) -> (b, f + 1, *s)"""
    group = max(size for size in range(1, group + 1) if len(x) % size == 0)
    grouped = x.float().reshape(group, -1, *x.shape[1:])  # (group, b / group, f, *s)
    deviation = torch.sqrt(grouped.var(0, correction=0) + 1e-8)
    feature = deviation.flatten(1).mean(1).repeat(group)  # (b,)
    plane = feature.reshape(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, plane.to(x.dtype)], 1)


class Chance:
    """The randomness of one step, drawn from the run's seed and the images done: a resumed run repeats it."""

    def __init__(self, seed: int, done: int, device: str) -> None:
        numpy_seed, torch_seed = np.random.SeedSequence(abs(seed), spawn_key=(1, done)).spawn(2)
        self.numpy = np.random.default_rng(numpy_seed)
        self.torch = torch.Generator().manual_seed(int(torch_seed.generate_state(1, np.uint64)[0] >> 1))
        self.device = torch.device(device)

    def indices(self, weights: np.ndarray, count: int) -> np.ndarray:
        """Draw indices (count,) with these weights."""
        return self.numpy.choice(len(weights), count, p=weights)


def check_shares(batch: int, run: Run) -> None:
    """Raise UsageError where the processes of a run cannot have equal shares of a batch."""
    if batch % run.world:
        raise UsageError(f"{run.world} processes cannot share a batch of {batch} equally; choose another number")


def place(network: nn.Module, device: str, dims: int = 2) -> None:
    """Move a network to a device, channels last where its images are."""
    network.to(device)
    if dims == 2:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_weights(network: nn.Module, state: Mapping[str, Any], kind: str) -> None:
    """Copy weights into a network; raise BadInput naming the first that does not fit a generator of this kind."""
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "nothing"
        asked = tuple(own[name].shape) if name in own else "nothing"
        if found != asked:
            raise BadInput(
                f"these weights do not fit a {kind} of these settings and image size: {name} holds {found}, "
                f"expected {asked}"
            )
    network.load_state_dict(dict(state))


def load_moments(optimiser: torch.optim.Optimizer, moments: Mapping[Any, Any]) -> None:
    """Restore an optimiser's `state_dict()["state"]`, whose keys may have become text."""
    state = {int(index): value for index, value in moments.items()}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
