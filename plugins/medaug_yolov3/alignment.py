"""Task-aligned assignment (Feng et al. 2021, TOOD, 3.2): each box is learnt by the predictions that suit it best.

Legend: b images, a predictions of an image over all scales and anchors, m boxes of an image, k classes, p positives.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss

from medaug_yolov3.anchors import by_scale, decode
from medaug_yolov3.networks import STRIDES

POSITIVES = 10  # predictions that learn a box
BY_SCORE, BY_PLACE = 0.5, 6.0  # exponents of score and IoU in the alignment
REACH = 2.0  # cells that a centre may lie away from its own, both sides together: neighbours learn a box too


class Assigned(NamedTuple):
    """The predictions of one image that learn a box."""

    prediction: Tensor  # (p,) int64
    box: Tensor  # (p,) int64, which box each learns
    target: Tensor  # (p,) the score that each should have, at most the best IoU of its box


def aligned_losses(
    raw: Sequence[Tensor], anchors: Tensor, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, Tensor]:
    """Return the losses of places (complete IoU), objectness and classes, each over the sum of the targets.

    Arguments as of `medaug_yolov3.losses.losses`.
    """
    flat = [numbers.flatten(1, 3) for numbers in raw]
    places = [decode(r, a, s, REACH).flatten(1, 3) for r, a, s in zip(raw, by_scale(anchors), STRIDES, strict=True)]
    numbers, found = torch.cat(flat, 1), torch.cat(places, 1)  # (b, a, 5 + k), (b, a, 4)
    centres = torch.cat([_centres(r, s) for r, s in zip(raw, STRIDES, strict=True)])
    scores = (numbers[..., 4:5].sigmoid() * numbers[..., 5:].sigmoid()).detach()
    truth = torch.zeros_like(numbers[..., 4])
    box_loss, class_loss, total = numbers.new_zeros(()), numbers.new_zeros(()), 0.0
    for i, (own, names) in enumerate(zip(boxes, labels, strict=True)):
        if not len(own):
            continue
        asked, label = torch.from_numpy(own).to(found), torch.from_numpy(names).to(found.device)
        chosen = assigned(found[i].detach(), scores[i], centres, asked, label)
        truth[i, chosen.prediction] = chosen.target
        total += float(chosen.target.sum())
        apart = complete_box_iou_loss(found[i, chosen.prediction], asked[chosen.box])
        box_loss = box_loss + (apart * chosen.target).sum()
        classes = F.one_hot(label[chosen.box], numbers.shape[-1] - 5).to(numbers.dtype)
        named = F.binary_cross_entropy_with_logits(numbers[i, chosen.prediction, 5:], classes, reduction="none")
        class_loss = class_loss + (named.sum(1) * chosen.target).sum()
    objectness = F.binary_cross_entropy_with_logits(numbers[..., 4], truth, reduction="sum")
    weight = 1 / max(total, 1.0)
    return {"box": box_loss * weight, "objectness": objectness * weight, "class": class_loss * weight}


def _centres(raw: Tensor, stride: int) -> Tensor:
    """Return the centre (a, 2) of the cell of each prediction of a scale (b, 3, h, w, 5 + k)."""
    h, w = raw.shape[2:4]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    centres = (torch.stack([x, y], -1).to(raw) + 0.5) * stride
    return centres.expand(raw.shape[1], h, w, 2).reshape(-1, 2)


def assigned(found: Tensor, scores: Tensor, centres: Tensor, boxes: Tensor, labels: Tensor) -> Assigned:
    """Choose the predictions that learn each box of an image.

    `found` (a, 4) and `scores` (a, k) are what is predicted, `centres` (a, 2) the cells', `boxes` (m, 4) and `labels`
    (m,) the truth. A prediction learns one box, the one that it overlaps most; its cell's centre lies in it, or is
    the nearest there is.
    """
    overlap = box_iou(boxes, found).clamp(0, 1)  # (m, a)
    inside = ((centres > boxes[:, None, :2]) & (centres < boxes[:, None, 2:])).all(2)
    distance = (centres - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2).square().sum(2)
    inside |= distance <= distance.amin(1, keepdim=True) + 1e-3
    alignment = (scores[:, labels].T + 1e-9) ** BY_SCORE * (overlap + 1e-9) ** BY_PLACE * inside
    count = min(POSITIVES, alignment.shape[1])
    best = alignment.topk(count, 1).indices
    mine = torch.zeros_like(inside).scatter_(1, best, True) & inside
    learner = torch.where(mine, overlap, overlap.new_tensor(-1.0)).argmax(0)  # (a,)
    prediction = mine.any(0).nonzero().squeeze(1)
    box = learner[prediction]
    strength = alignment[box, prediction]
    most = torch.zeros(len(boxes)).to(found).scatter_reduce_(0, box, strength, "amax")
    reached = torch.zeros(len(boxes)).to(found).scatter_reduce_(0, box, overlap[box, prediction], "amax")
    return Assigned(prediction, box, strength / most[box].clamp(min=1e-30) * reached[box])
