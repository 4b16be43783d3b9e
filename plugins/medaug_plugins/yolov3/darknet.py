"""Darknet's own weight files: a whole network, or as much of its beginning as the file holds.

A file is a header (int32 major, minor, revision, then the images seen: uint64 from version 0.2 on, uint32 before) and
float32 numbers, a convolution after the other in the order of the cfg: with batch normalisation its shift, scale, mean
and variance, without it the bias; then the weights, outputs first.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, UsageError
from medaug_plugins.detection.backbones import TimmBackbone
from medaug_plugins.yolov3.networks import ANCHORS, YOLO, TinyBackbone

Convolution = tuple[nn.Conv2d, nn.BatchNorm2d | None]


def convolutions(network: YOLO) -> list[Convolution]:
    """Return the convolutions in the order of darknet's cfg; raise UsageError where darknet has no such network."""
    body = network.backbone
    darknet53 = isinstance(body, TimmBackbone) and body.name == "darknet53"
    if not (darknet53 or isinstance(body, TinyBackbone)):
        raise UsageError("darknet's files are for --set backbone=darknet53 or backbone=tiny, with any head_width")
    assert isinstance(body, nn.Module)
    found = _pairs(body)
    for i in reversed(range(len(network.heads))):
        found += _pairs(network.heads[i])
        if i:
            found += _pairs(network.lateral[i - 1])
    return found


def _pairs(module: nn.Module) -> list[Convolution]:
    """Return each convolution with the normalisation that follows it, in the order of the modules."""
    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    after = [*layers[1:], None]
    return [
        (layer, then if isinstance(then, nn.BatchNorm2d) else None)
        for layer, then in zip(layers, after, strict=True)
        if isinstance(layer, nn.Conv2d)
    ]


def tensors(pair: Convolution) -> Iterator[Tensor]:
    """Yield what a file holds of a convolution, in its order."""
    convolution, norm = pair
    if norm is None:
        assert convolution.bias is not None
        yield convolution.bias
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        yield from (norm.bias, norm.weight, norm.running_mean, norm.running_var)
    yield convolution.weight


@torch.no_grad()
def read_weights(network: YOLO, path: Path) -> int:
    """Copy a darknet file into a network; return how many convolutions it held.

    The file may end after any convolution (`darknet53.conv.74` holds the backbone); one of a whole network for
    another number of classes gives all but the linear layers. Raises BadInput where it fits neither way.
    """
    numbers, wanted = _numbers(path), convolutions(network)
    ends = np.cumsum([sum(t.numel() for t in tensors(pair)) for pair in wanted])
    if len(numbers) in ends:
        held = int(np.searchsorted(ends, len(numbers))) + 1
        sizes: list[int | None] = [None] * held
    else:
        classes = _classes(len(numbers), wanted)
        if classes is None:
            raise BadInput(
                f"{path} holds {len(numbers):,} numbers, which end in the middle of a convolution of this network "
                f"({ends[-1]:,} for all of it); it is of another network, or damaged"
            )
        held, sizes = len(wanted), [classes] * len(wanted)
    place = 0
    for pair, classes in zip(wanted[:held], sizes, strict=True):
        if classes is not None and pair[1] is None:
            place += _linear(pair, classes)
            continue
        for tensor in tensors(pair):
            chosen = numbers[place : place + tensor.numel()].reshape(tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(chosen))
            place += tensor.numel()
    return held


def _numbers(path: Path) -> np.ndarray:
    """Return the float32 numbers of a file after its header."""
    try:
        content = path.read_bytes()
        major, minor, _ = struct.unpack_from("<3i", content)
    except (OSError, struct.error) as error:
        raise BadInput(f"{path} cannot be read as darknet weights ({error})") from error
    start = 12 + (8 if major * 10 + minor >= 2 and max(major, minor) < 1000 else 4)
    if not 0 <= major < 1000 or len(content) < start or (len(content) - start) % 4:
        raise BadInput(f"{path} is not a darknet weight file: its header says version {major}.{minor}")
    return np.frombuffer(content, "<f4", offset=start).astype(np.float32)


def _linear(pair: Convolution, classes: int) -> int:
    """Return how many numbers a linear layer has for so many classes."""
    return (pair[0].in_channels + 1) * ANCHORS * (5 + classes)


def _classes(count: int, wanted: list[Convolution]) -> int | None:
    """Return the classes for which the whole network has `count` numbers."""
    linear = [pair for pair in wanted if pair[1] is None]
    fixed = sum(t.numel() for pair in wanted if pair[1] is not None for t in tensors(pair))
    none, one = (sum(_linear(pair, classes) for pair in linear) for classes in (0, 1))
    classes, rest = divmod(count - fixed - none, one - none)
    return classes if rest == 0 and classes > 0 else None


def weight_bytes(network: YOLO, seen: int = 0, backbone_only: bool = False) -> bytes:
    """Return the file of a network, or of its backbone, as darknet 0.2 writes it; `seen` counts training images."""
    wanted = convolutions(network)
    if backbone_only:
        assert isinstance(network.backbone, nn.Module)
        wanted = wanted[: len(_pairs(network.backbone))]
    held = (tensor.detach().cpu().contiguous().numpy() for pair in wanted for tensor in tensors(pair))
    return struct.pack("<3iQ", 0, 2, 0, seen) + b"".join(each.astype("<f4").tobytes() for each in held)
