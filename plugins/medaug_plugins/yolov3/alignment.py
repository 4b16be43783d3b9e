"""Task-aligned assignment (Feng et al. 2021, TOOD, 3.2): each box is learnt by the predictions that suit it best.

Legend: b images, a predictions of an image over all scales and anchors, m the most boxes of an image, k classes,
p pairs of a prediction and the box that it learns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss

from medaug_plugins.yolov3.anchors import by_scale, decode

POSITIVES = 10  # predictions that learn a box
BY_SCORE, BY_PLACE = 0.5, 6.0  # exponents of score and IoU in the alignment
REACH = 2.0  # cells that a centre may lie away from its own, both sides together: neighbours learn a box too


class Assigned(NamedTuple):
    """The predictions that learn a box."""

    image: Tensor  # (p,) int64
    prediction: Tensor  # (p,) int64
    box: Tensor  # (p,) int64, which box of its image each learns
    target: Tensor  # (p,) the score that each should have, at most the best IoU of its box


def aligned_losses(
    raw: Sequence[Tensor], anchors: Tensor, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, Tensor]:
    """Return the losses of places (complete IoU), objectness and classes, each over the sum of the targets.

    Arguments as of `medaug_plugins.yolov3.losses.losses`.
    """
    scales = list(zip(raw, by_scale(anchors), strict=True))
    numbers = torch.cat([r.flatten(1, 3) for r in raw], 1)  # (b, a, 5 + k)
    found = torch.cat([decode(r, shapes, stride, REACH).flatten(1, 3) for r, (shapes, stride) in scales], 1)
    centres = torch.cat([_centres(r, stride) for r, (_, stride) in scales])
    scores = (numbers[..., 4:5].sigmoid() * numbers[..., 5:].sigmoid()).detach()
    asked, names, real = _padded(boxes, labels, numbers.device)
    truth = torch.zeros_like(numbers[..., 4])
    if not real.any():
        nothing = numbers.new_zeros(())
        objectness = F.binary_cross_entropy_with_logits(numbers[..., 4], truth, reduction="sum")
        return {"box": nothing, "objectness": objectness, "class": nothing}
    image, prediction, box, target = assigned(
        found.detach(), scores, centres=centres, boxes=asked, labels=names, real=real
    )
    truth[image, prediction] = target
    # Places: complete IoU (Zheng et al. 2020), weighted by the target, as classes are (TOOD).
    apart = complete_box_iou_loss(found[image, prediction], asked[image, box])
    classes = F.one_hot(names[image, box], numbers.shape[-1] - 5).to(numbers.dtype)
    named = F.binary_cross_entropy_with_logits(numbers[image, prediction, 5:], classes, reduction="none")
    # Objectness: all predictions learn their target, which is 0 for those that learn no box.
    objectness = F.binary_cross_entropy_with_logits(numbers[..., 4], truth, reduction="sum")
    weight = 1 / target.sum().clamp(min=1.0)
    box_loss, class_loss = (apart * target).sum(), (named.sum(1) * target).sum()
    return {"box": box_loss * weight, "objectness": objectness * weight, "class": class_loss * weight}


def _centres(raw: Tensor, stride: int) -> Tensor:
    """Return the centre (a, 2) of the cell of each prediction of a scale (b, 3, h, w, 5 + k)."""
    h, w = raw.shape[2:4]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    centres = (torch.stack([x, y], -1).to(raw) + 0.5) * stride
    return centres.expand(raw.shape[1], h, w, 2).reshape(-1, 2)


def _padded(
    boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes (b, m, 4) and labels (b, m) of all images, and which of them are real (b, m)."""
    most = max(1, *map(len, boxes))
    asked = np.zeros((len(boxes), most, 4), np.float32)
    names, real = np.zeros((len(boxes), most), np.int64), np.zeros((len(boxes), most), bool)
    for i, (own, label) in enumerate(zip(boxes, labels, strict=True)):
        asked[i, : len(own)], names[i, : len(own)], real[i, : len(own)] = own, label, True
    asked_t, names_t, real_t = (torch.from_numpy(x).to(device) for x in (asked, names, real))
    return asked_t, names_t, real_t


def assigned(found: Tensor, scores: Tensor, centres: Tensor, boxes: Tensor, labels: Tensor, real: Tensor) -> Assigned:
    """Choose the predictions that learn each box.

    `found` (b, a, 4) and `scores` (b, a, k) are what is predicted, `centres` (a, 2) the cells', `boxes` (b, m, 4) and
    `labels` (b, m) the truth where `real` (b, m). A prediction learns one box, the one that it overlaps most; its
    cell's centre lies in it, or is the nearest there is.
    """
    overlap = _overlaps(boxes, found)  # (b, m, a)
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    inside = ((centres > low) & (centres < high)).all(3)
    distance = (centres - (low + high) / 2).square().sum(3)
    inside = (inside | (distance <= distance.amin(2, keepdim=True) + 1e-3)) & real[:, :, None]
    likely = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, scores.shape[1]))
    alignment = (likely + 1e-9) ** BY_SCORE * (overlap + 1e-9) ** BY_PLACE * inside
    best = alignment.topk(min(POSITIVES, alignment.shape[2]), 2).indices
    mine = torch.zeros_like(inside).scatter_(2, best, True) & inside
    learner = torch.where(mine, overlap, overlap.new_tensor(-1.0)).argmax(1)  # (b, a)
    image, prediction = mine.any(1).nonzero(as_tuple=True)
    box = learner[image, prediction]
    strength, place = alignment[image, box, prediction], image * boxes.shape[1] + box
    most, reached = (
        torch.zeros(boxes.shape[0] * boxes.shape[1]).to(found).scatter_reduce_(0, place, values, "amax")
        for values in (strength, overlap[image, box, prediction])
    )
    return Assigned(image, prediction, box, strength / most[place].clamp(min=1e-30) * reached[place])


def _overlaps(boxes: Tensor, found: Tensor) -> Tensor:
    """Return the IoU (b, m, a) of boxes (b, m, 4) with predictions (b, a, 4)."""
    one, other = boxes[:, :, None], found[:, None]
    sides = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0)
    both = sides.prod(3)
    areas = (one[..., 2:] - one[..., :2]).prod(3) + (other[..., 2:] - other[..., :2]).prod(3)
    return both / (areas - both).clamp(min=1e-9)
