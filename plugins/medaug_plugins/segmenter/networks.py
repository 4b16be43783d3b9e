"""U-Net (Ronneberger et al. 2015) in two or three dimensions, on an encoder whose features are given."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_plugins.supervised.encoders import CONVOLUTION, SmallEncoder, TimmEncoder, block

LEAST_MAPS = 8
WIDE = 32  # feature maps, at the least, beside an encoder of timm, whose finest features are few
RARE = 0.05  # share of the background's pixels that a label is taken for before training


class UNet(nn.Module):
    """Scores of labels (b, k, *s) of images (b, c, *s): coarse features refined by finer ones, step by step."""

    def __init__(self, dims: int, body: SmallEncoder | TimmEncoder, labels: int) -> None:
        super().__init__()
        self.body, self.mode = body, "bilinear" if dims == 2 else "trilinear"
        maps = body.outputs[::-1]
        wide = isinstance(body, TimmEncoder)
        coarse, joins = maps[0], []
        for fine in maps[1:]:
            out = max(WIDE if wide else LEAST_MAPS, fine)
            join = block(dims, coarse + fine, out)
            joins.append(nn.Sequential(join, block(dims, out, out)) if wide else join)
            coarse = out
        self.joins = nn.ModuleList(joins)
        self.head = CONVOLUTION[dims](coarse, labels, 1)
        with torch.no_grad():  # most pixels are background: begin there (Lin et al. 2017, section 3.3)
            assert self.head.bias is not None
            self.head.bias.copy_(torch.tensor([0.0] + [math.log(RARE)] * (labels - 1)))

    def forward(self, images: Tensor) -> Tensor:
        *fine, x = self.body(images)
        for join, features in zip(self.joins, reversed(fine), strict=True):
            x = join(torch.cat([self._as_large(x, features), features], 1))
        return self._as_large(self.head(x), images)

    def _as_large(self, x: Tensor, other: Tensor) -> Tensor:
        if x.shape[2:] == other.shape[2:]:
            return x
        return F.interpolate(x, size=other.shape[2:], mode=self.mode, align_corners=False)
