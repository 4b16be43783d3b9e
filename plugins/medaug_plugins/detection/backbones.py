"""Backbones: the features of images at strides 8, 16 and 32.

Legend: b images, c image channels, h and w rows and columns.
"""

import pickle
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from medaug_cli.plugin import UsageError
from medaug_plugins.layers.architectures import is_architecture

STRIDES = (8, 16, 32)
LEAK, TIMM_LEAK = 0.1, 0.01  # the slope of YOLOv3 and darknet, and that of timm's trained darknets


class Backbone(Protocol):
    """Features of images, finest first, and how many maps each has."""

    outputs: list[int]

    def __call__(self, x: Tensor) -> list[Tensor]: ...


def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with batch normalisation and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(LEAK, inplace=True),
    )


class Shortcut(nn.Module):
    """Two convolutions that add to what enters, as in Darknet-53 (table 1)."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(block(maps, maps // 2, 1), block(maps // 2, maps, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class SmallBackbone(nn.Module):
    """A darknet for CPUs: `depth` shortcuts a stage, `width` maps at full size.

    With a `stem` of 2 there is no full size: the first convolution halves it, and half of the work goes.
    """

    def __init__(self, channels: int, width: int, depth: int = 1, stem: int = 1) -> None:
        super().__init__()
        widths = [width << stage for stage in range(stem - 1, 6)]
        self.enter = block(channels, widths[0], 3 if stem == 1 else 5, stem)
        self.stages = nn.ModuleList(
            nn.Sequential(block(a, b, 3, stride=2), *(Shortcut(b) for _ in range(depth))) for a, b in pairwise(widths)
        )
        self.outputs = widths[-3:]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.enter(x)
        seen = []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return seen[-3:]


class TimmBackbone(nn.Module):
    """Any backbone of timm that has features at strides 8, 16 and 32."""

    def __init__(self, name: str, channels: int, pretrained: str) -> None:
        super().__init__()
        self.name = name
        self.body = timm_features(name, channels, STRIDES, pretrained)
        self.outputs: list[int] = self.body.feature_info.channels()  # type: ignore[operator, union-attr]
        if not pretrained:
            self.set_leak(LEAK)

    def set_leak(self, slope: float) -> None:
        """Set the slope of a darknet below zero: 0.1 in the paper and in darknet's weights, 0.01 in timm's."""
        for layer in self.modules():
            if isinstance(layer, nn.LeakyReLU) and self.name.startswith("darknet"):
                layer.negative_slope = slope

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.body(x)


def timm_features(name: str, channels: int, strides: tuple[int, ...], pretrained: str = "") -> nn.Module:
    """Return a backbone of timm with features at these strides.

    `pretrained` is "" for random weights, "true" for timm's (from its cache or hub), or a file of them.
    Raises UsageError where there is no such backbone or no such weights.
    """
    make: Callable = timm.create_model
    if not is_architecture(name):
        raise UsageError(f"--set backbone={name}: timm has no such backbone; 'small' needs none")
    try:
        found = make(name, features_only=True, in_chans=channels).feature_info.reduction()
    except Exception as error:
        raise UsageError(f"--set backbone={name}: timm has no such backbone ({error}); 'small' needs none") from error
    if not set(strides) <= set(found):
        raise UsageError(f"--set backbone={name}: it has features at strides {found}, not at {strides}")
    chosen = tuple(found.index(stride) for stride in strides)
    try:
        source = {} if pretrained in ("", "true") else {"pretrained_cfg_overlay": {"state_dict": _weights(pretrained)}}
        return make(
            name, features_only=True, out_indices=chosen, in_chans=channels, pretrained=bool(pretrained), **source
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"--set pretrained={pretrained}: the weights of {name} cannot be loaded ({reason}); name a file of weights "
            "(--set pretrained=FILE.safetensors or FILE.pth), or leave it out"
        ) from error


def _weights(path: str) -> dict[str, Tensor]:
    """Return the weights of a file, the averaged ones where a checkpoint holds both; it can run no code.

    timm would read it too, but before 1.0.26 it ran what a pickle asked for.
    """
    stored: Any
    if path.endswith(".safetensors"):
        stored = load_file(path)
    else:
        try:
            with warnings.catch_warnings(action="ignore"):  # of old pickles, which are read or refused all the same
                stored = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UsageError("it holds more than weights, and is not opened further") from error
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
            break
    if not isinstance(stored, dict) or not stored or not all(isinstance(v, Tensor) for v in stored.values()):
        raise UsageError("it holds no weights by name")
    return {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in stored.items()}
