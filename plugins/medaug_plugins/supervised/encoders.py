"""Encoders of classifiers and segmenters: a small residual network in two or three dimensions, or any of timm's.

Legend: b images, c channels, *s spatial axes.
"""

from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

from medaug_cli.plugin import UsageError
from medaug_plugins.layers.architectures import is_architecture
from medaug_plugins.supervised.pretrained import load_pretrained

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def block(dims: int, inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3-wide convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        CONVOLUTION[dims](inputs, outputs, 3, stride, 1, bias=False), NORM[dims](outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two convolutions that add to what enters (He et al. 2016)."""

    def __init__(self, dims: int, maps: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            block(dims, maps, maps), CONVOLUTION[dims](maps, maps, 3, 1, 1, bias=False), NORM[dims](maps)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


class SmallEncoder(nn.Module):
    """A residual network for CPUs: `width` maps after a first step of `stem`, twice as many each time that the size is
    halved."""

    def __init__(self, dims: int, channels: int, width: int, levels: int, stem: int) -> None:
        super().__init__()
        widths = [width << level for level in range(levels)]
        self.enter = block(dims, channels, width, stem)
        self.stages = nn.ModuleList(
            nn.Sequential(block(dims, a, b, stride=2), Residual(dims, b)) for a, b in pairwise(widths)
        )
        self.outputs = widths
        self.strides = [stem << level for level in range(levels)]

    def forward(self, x: Tensor) -> list[Tensor]:
        seen = [self.enter(x)]
        for stage in self.stages:
            seen.append(stage(seen[-1]))
        return seen


class TimmEncoder(nn.Module):
    """The features of any of timm's networks, finest first.

    With `frozen` the layers that lead to so many of the finest pretrained features stay as they are: edges and
    textures serve any image, and what is not trained costs no gradient.
    """

    def __init__(self, name: str, channels: int, pretrained: str, frozen: int) -> None:
        import timm  # as long to load as torch itself: network 'small' goes without

        super().__init__()
        if not is_architecture(name):
            raise UsageError(f"--set network={name}: timm has no such network with features")
        try:
            self.body = timm.create_model(name, features_only=True, in_chans=channels)
        except Exception as error:
            raise UsageError(f"--set network={name}: timm has no such network with features ({error})") from error
        load_pretrained(self.body, name, channels, pretrained)
        self.outputs: list[int] = self.body.feature_info.channels()  # type: ignore[operator, union-attr]
        self.strides: list[int] = self.body.feature_info.reduction()  # type: ignore[operator, union-attr]
        self.frozen = _layers_up_to(self.body, frozen) if pretrained else []
        for parameter in [each for layer in self.frozen for each in layer.parameters(recurse=False)]:
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but the frozen ones, whose normalisation keeps what it has seen."""
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.body(x * 2 - 1))  # from [0, 1] to the range that ImageNet's weights were trained on


def _layers_up_to(body: nn.Module, count: int) -> list[nn.Module]:
    """Return the layers, in the order in which timm's networks name them, that end in the `count`-th features."""
    if not count:
        return []
    names = [str(each).replace(".", "_") for each in body.feature_info.module_name()]  # type: ignore[operator, union-attr]
    last = names[min(count, len(names)) - 1]
    layers = [(name.replace(".", "_"), each) for name, each in body.named_modules() if name and each._parameters]
    own = [place for place, (name, _) in enumerate(layers) if f"{name}_".startswith(f"{last}_")]
    return [each for _, each in layers[: max(own, default=-1) + 1]]


def encoder(
    name: str, dims: int, channels: int, *, width: int, levels: int, stem: int, pretrained: str, frozen: int
) -> SmallEncoder | TimmEncoder:
    """Return an encoder; raise UsageError where the settings do not go together."""
    if name == "small":
        if pretrained:
            raise UsageError("--set pretrained is for timm's networks; choose one with --set network=NAME")
        return SmallEncoder(dims, channels, width, levels, stem)
    if dims != 2:
        raise UsageError(f"--set network={name}: timm's networks take 2D images; 3D images need network=small")
    return TimmEncoder(name, channels, pretrained, frozen)
