"""Backbones: the features of images at strides 8, 16 and 32.

Legend: b images, c image channels, h and w rows and columns.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import timm
from torch import Tensor, nn

from medaug_cli.plugin import UsageError

STRIDES = (8, 16, 32)
LEAK, TIMM_LEAK = 0.1, 0.01  # the slope of YOLOv3 and darknet, and that of timm's trained darknets


class Backbone(Protocol):
    """Features of images, finest first, and how many maps each has."""

    outputs: list[int]

    def __call__(self, x: Tensor) -> list[Tensor]: ...


def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with batch normalisation and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs),
        nn.LeakyReLU(LEAK, inplace=True),
    )  # fmt: skip


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


def source_of(pretrained: bool | str) -> str:
    """Return "" for no pretrained weights, "true" for timm's, or the file of a setting `pretrained`."""
    text = str(pretrained or "")
    return {"False": "", "false": "", "True": "true"}.get(text, text)


def timm_features(name: str, channels: int, strides: tuple[int, ...], pretrained: str = "") -> nn.Module:
    """Return a backbone of timm with features at these strides.

    `pretrained` is "" for random weights, "true" for timm's (from its cache or hub), or a file of them.
    Raises UsageError where there is no such backbone or no such weights.
    """
    make: Callable = timm.create_model
    try:
        found = make(name, features_only=True, in_chans=channels).feature_info.reduction()
    except Exception as error:
        raise UsageError(f"--set backbone={name}: timm has no such backbone ({error}); 'small' needs none") from error
    if not set(strides) <= set(found):
        raise UsageError(f"--set backbone={name}: it has features at strides {found}, not at {strides}")
    chosen = tuple(found.index(stride) for stride in strides)
    source = {} if pretrained in ("", "true") else {"pretrained_cfg_overlay": {"file": pretrained}}
    try:
        return make(
            name, features_only=True, out_indices=chosen, in_chans=channels, pretrained=bool(pretrained), **source
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"--set pretrained={pretrained}: weights of {name} are neither at hand nor to be had ({reason}); name a "
            "file that timm can read (--set pretrained=FILE.safetensors), or leave it out"
        ) from error
