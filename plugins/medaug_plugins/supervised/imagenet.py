"""What images look like to a network that learnt ImageNet: the features `imagenet` of `medaug tsne`.

Legend of shapes: b images, c channels, *s spatial axes, k features.
"""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_plugins.layers import laid_out, place
from medaug_plugins.supervised.pretrained import load_pretrained

NETWORK = "tf_efficientnet_lite0"
STAGES = (2, 3, 4)  # of strides 8, 16 and 32
LEAST_SIDE = 64  # smaller images are enlarged: the network learnt on 224 pixels


def imagenet(images: np.ndarray) -> np.ndarray:
    """Return the mean of every feature map of EfficientNet-Lite0 (b, k) over images (b, c, *s) in [0, 1].

    Colour is seen as such, any other number of channels one by one; of a volume the three planes through its middle.
    Raises UsageError where the weights are not installed.
    """
    if images.ndim == 5:
        middles = [np.take(images, images.shape[axis] // 2, axis) for axis in (2, 3, 4)]
        return np.concatenate([imagenet(plane) for plane in middles], 1)
    pixels = torch.from_numpy(np.ascontiguousarray(images, np.float32))
    seen = [pixels] if pixels.shape[1] == 3 else [plane.expand(-1, 3, -1, -1) for plane in pixels.split(1, 1)]
    return torch.cat([_described(each) for each in seen], 1).numpy()


@torch.no_grad()
def _described(images: Tensor) -> Tensor:
    factor = LEAST_SIDE / min(images.shape[2:])
    if factor > 1:
        images = F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    return torch.cat([maps.mean((2, 3)) for maps in _network()(laid_out(2 * images - 1))], 1)


@cache
def _network() -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(NETWORK, features_only=True, out_indices=STAGES)
    load_pretrained(network, NETWORK, channels=3, source="imagenet")
    place(network, "cpu")
    return network.eval().requires_grad_(False)
