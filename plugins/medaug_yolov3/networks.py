"""The network of YOLOv3 (Redmon and Farhadi 2018, 2.3 and 2.4).

Legend: b images, c image channels, k classes, h and w a scale's rows and columns.
Scales go from fine to coarse, strides 8, 16 and 32, with three anchors each.
"""

from collections.abc import Callable
from itertools import pairwise

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import UsageError

STRIDES = (8, 16, 32)
LEAK = 0.1
PRIOR = -4.0  # bias of objectness: nearly every cell is empty


def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with batch normalisation and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(LEAK)
    )


class Shortcut(nn.Module):
    """Two convolutions that add to what enters, as in Darknet-53 (table 1)."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(block(maps, maps // 2, 1), block(maps // 2, maps, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class SmallBackbone(nn.Module):
    """A darknet of eleven convolutions for CPUs: one shortcut a stage, `width` maps in the first."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width << stage for stage in range(6)]
        self.enter = block(channels, widths[0], 3)
        self.stages = nn.ModuleList(nn.Sequential(block(a, b, 3, stride=2), Shortcut(b)) for a, b in pairwise(widths))
        self.outputs = widths[3:]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.enter(x)
        seen = []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return seen[2:]


class TimmBackbone(nn.Module):
    """Any backbone of timm that has features at strides 8, 16 and 32."""

    def __init__(self, name: str, channels: int, pretrained: bool) -> None:
        super().__init__()
        make: Callable = timm.create_model
        try:
            strides = make(name, features_only=True, in_chans=channels).feature_info.reduction()
        except Exception as error:
            raise UsageError(
                f"--set backbone={name}: timm has no such backbone ({error}); 'small' needs none"
            ) from error
        if not set(STRIDES) <= set(strides):
            raise UsageError(f"--set backbone={name}: it has features at strides {strides}, YOLOv3 needs 8, 16 and 32")
        chosen = tuple(strides.index(stride) for stride in STRIDES)
        self.body = make(name, features_only=True, out_indices=chosen, in_chans=channels, pretrained=pretrained)
        self.outputs = self.body.feature_info.channels()

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.body(x)


class Head(nn.Module):
    """The five convolutions of a scale and its three-by-three and linear ones (2.3)."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.neck = nn.Sequential(
            block(inputs, width, 1), block(width, 2 * width, 3), block(2 * width, width, 1),
            block(width, 2 * width, 3), block(2 * width, width, 1),
        )  # fmt: skip
        last = nn.Conv2d(2 * width, outputs, 1)
        self.out = nn.Sequential(block(width, 2 * width, 3), last)
        with torch.no_grad():
            if last.bias is not None:
                last.bias.view(3, -1)[:, 4] = PRIOR

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.neck(x)
        return x, self.out(x)


class YOLO(nn.Module):
    """A backbone and three heads; each coarser head passes what it knows to the finer one."""

    def __init__(self, backbone: SmallBackbone | TimmBackbone, classes: int, head_width: int = 512) -> None:
        super().__init__()
        self.backbone, self.classes = backbone, classes
        widths = [head_width >> 2, head_width >> 1, head_width]
        fine, middle, coarse = backbone.outputs
        above = [fine + widths[0], middle + widths[1], coarse]
        outputs = 3 * (5 + classes)
        self.heads = nn.ModuleList(Head(a, w, outputs) for a, w in zip(above, widths, strict=True))
        self.lateral = nn.ModuleList(block(widths[i + 1], widths[i], 1) for i in range(2))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return, for images (b, c, *s), raw predictions (b, 3, h, w, 5 + k) a scale, finest first."""
        features = self.backbone(images)
        raw: list[Tensor] = []
        below: Tensor | None = None
        for i in (2, 1, 0):
            x = features[i]
            if below is not None:
                x = torch.cat([F.interpolate(self.lateral[i](below), scale_factor=2, mode="nearest"), x], 1)
            below, out = self.heads[i](x)
            b, _, h, w = out.shape
            raw.insert(0, out.view(b, 3, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2))
        return raw


def build(backbone: str, width: int, head_width: int, channels: int, classes: int, pretrained: bool = False) -> YOLO:
    """Return a network; raise UsageError for a backbone that there is not."""
    body = SmallBackbone(channels, width) if backbone == "small" else TimmBackbone(backbone, channels, pretrained)
    return YOLO(body, classes, head_width)
