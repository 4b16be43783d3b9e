"""The network of YOLOv3 (Redmon and Farhadi 2018, 2.3 and 2.4).

Legend: b images, c image channels, k classes, h and w a scale's rows and columns.
Scales go from fine to coarse, strides 8, 16 and 32 (tiny: 16 and 32), with three anchors each.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_plugins.detection.backbones import STRIDES, Backbone, SmallBackbone, TimmBackbone, block

ANCHORS = 3  # a scale
PRIOR = -4.0  # bias of objectness: nearly every cell is empty
POOLS = (13, 9, 5)  # of spatial pyramid pooling, in the order in which they are joined


class TinyBackbone(nn.Module):
    """The seven convolutions of yolov3-tiny, with features at strides 16 and 32."""

    outputs = [256, 1024]

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 16, 32, 64, 128, 256, 512, 1024)
        self.blocks = nn.ModuleList(block(a, b, 3) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        for each in self.blocks[:4]:
            x = F.max_pool2d(each(x), 2)
        fine = self.blocks[4](x)
        x = self.blocks[5](F.max_pool2d(fine, 2))
        return [fine, self.blocks[6](F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, 1))]


class Pyramid(nn.Module):
    """Spatial pyramid pooling of yolov3-spp: the largest value near each place, near and wide, beside the place."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(F.max_pool2d(x, side, 1, side // 2) for side in POOLS), x], 1)


class Head(nn.Module):
    """The five convolutions of a scale and its three-by-three and linear ones (2.3); `spp` adds one and the pools."""

    def __init__(self, inputs: int, width: int, outputs: int, kind: str = "full") -> None:
        super().__init__()
        if kind == "tiny":
            self.neck = block(inputs, width, 1) if width else nn.Identity()
            wide = 2 * width or 256
        else:
            wide = 2 * width
            pools = [Pyramid(), block(4 * width, width, 1)] if kind == "spp" else []
            self.neck = nn.Sequential(
                block(inputs, width, 1),
                block(width, wide, 3),
                block(wide, width, 1),
                *pools,
                block(width, wide, 3),
                block(wide, width, 1),
            )
        last = nn.Conv2d(wide, outputs, 1)
        self.out = nn.Sequential(block(width or inputs, wide, 3), last)
        with torch.no_grad():
            if last.bias is not None:
                last.bias.view(ANCHORS, -1)[:, 4] = PRIOR

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.neck(x)
        return x, self.out(x)


class YOLO(nn.Module):
    """A backbone and a head a scale; each coarser head passes what it knows to the finer one."""

    anchors: Tensor  # (3 a scale, 2), sides in pixels of the input, smallest first

    def __init__(self, backbone: Backbone, classes: int, widths: list[int], spp: bool = False) -> None:
        super().__init__()
        self.backbone, self.classes = backbone, classes
        scales, outputs = len(widths), ANCHORS * (5 + classes)
        tiny = scales == 2
        passed = [128 if tiny else width for width in widths[:-1]]
        above = [own + more for own, more in zip(backbone.outputs, [*passed, 0], strict=True)]
        kinds = ["tiny" if tiny else "full"] * scales
        if spp:
            kinds[-1] = "spp"
        self.heads = nn.ModuleList(Head(a, w, outputs, k) for a, w, k in zip(above, widths, kinds, strict=True))
        self.lateral = nn.ModuleList(block(widths[i + 1], passed[i], 1) for i in range(scales - 1))
        self.register_buffer("anchors", torch.ones(ANCHORS * scales, 2))

    @property
    def strides(self) -> tuple[int, ...]:
        """Return how many pixels a cell is wide, of each scale, finest first."""
        return STRIDES[-len(self.heads) :]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return, for images (b, c, *s), raw predictions (b, 3, h, w, 5 + k) a scale, finest first."""
        features = self.backbone(images)
        raw: list[Tensor] = []
        below: Tensor | None = None
        for i in reversed(range(len(features))):
            x = features[i]
            if below is not None:
                x = torch.cat([F.interpolate(self.lateral[i](below), scale_factor=2, mode="nearest"), x], 1)
            below, out = self.heads[i](x)
            b, _, h, w = out.shape
            raw.insert(0, out.view(b, ANCHORS, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2))
        return raw


def build(
    backbone: str,
    *,
    channels: int,
    classes: int,
    width: int,
    depth: int = 1,
    stem: int = 1,
    head_width: int,
    spp: bool = False,
    pretrained: str = "",
) -> YOLO:
    """Return a network; raise UsageError for an unknown backbone."""
    if backbone == "tiny":
        return YOLO(TinyBackbone(channels), classes, [0, 256])
    if backbone == "small":
        body: Backbone = SmallBackbone(channels, width, depth, stem)
    else:
        body = TimmBackbone(backbone, channels, pretrained)
    return YOLO(body, classes, [head_width >> 2, head_width >> 1, head_width], spp)
