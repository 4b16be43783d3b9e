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
MAPS = (40, 112, 320)  # of each
LEAST_SIDE = 64  # smaller images are enlarged: the network learnt on 224 pixels


def imagenet(images: np.ndarray) -> np.ndarray:
    """Return the mean of every feature map of EfficientNet-Lite0 (b, k) over images (b, c, *s) in [0, 1].

    Colour is seen as such, any other number of channels one by one; of a volume the three planes through its middle.
    Raises UsageError where the weights are not installed.
    """
    if images.ndim == 5:
        middles = [np.take(images, images.shape[axis] // 2, axis) for axis in (2, 3, 4)]
        return np.concatenate([imagenet(plane) for plane in middles], 1)
    pixels = 2 * torch.from_numpy(np.ascontiguousarray(images, np.float32)) - 1
    seen = [pixels] if pixels.shape[1] == 3 else pixels.split(1, 1)
    with torch.no_grad():
        return torch.cat([maps.mean((2, 3)) for each in seen for maps in feature_maps(each)], 1).numpy()


def feature_maps(images: Tensor) -> list[Tensor]:
    """Return the feature maps (b, f, h, w) of each stage for images (b, c, h, w) in [-1, 1]; gradients pass through.

    Three channels are colours, of others the mean is seen.
    """
    factor = LEAST_SIDE / min(images.shape[2:])
    if factor > 1:
        images = F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    coloured = images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    maps: list[Tensor] = _network(str(images.device))(laid_out(coloured))
    return maps


@cache
def _network(device: str) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(NETWORK, features_only=True, out_indices=STAGES)
    load_pretrained(network, NETWORK, channels=3, source="imagenet")
    place(network, device)
    return network.eval().requires_grad_(False)
