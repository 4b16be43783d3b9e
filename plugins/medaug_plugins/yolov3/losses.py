"""The losses of YOLOv3 (Redmon and Farhadi 2018, 2.1 and 2.2)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from medaug_plugins.yolov3.anchors import assign, by_scale, decode, encode

IGNORE = 0.7  # a prediction that overlaps a box by more is not background; the paper has 0.5, yolov3.cfg 0.7


def losses(
    raw: Sequence[Tensor], anchors: Tensor, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], *, box_loss: str
) -> dict[str, Tensor]:
    """Return the losses of places, objectness and classes, each summed over an image and averaged over b.

    `raw` (b, 3, h, w, 5 + k) a scale, `boxes` b of (m, 4) in input pixels, `labels` b of (m,).
    """
    count = len(boxes)
    image = np.repeat(np.arange(count), [len(b) for b in boxes])
    all_boxes = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    all_labels = np.concatenate([np.zeros(0, np.int64), *labels])
    scale, anchor, row, column = assign(all_boxes, anchors.cpu().numpy())
    total = {name: raw[0].new_zeros(()) for name in ("box", "objectness", "class")}
    for i, (numbers, (shapes, stride)) in enumerate(zip(raw, by_scale(anchors), strict=True)):
        mine = scale == i
        place = [torch.from_numpy(a[mine]).to(numbers.device) for a in (image, anchor, row, column)]
        place[2].clamp_(max=numbers.shape[2] - 1)
        place[3].clamp_(max=numbers.shape[3] - 1)
        target = torch.from_numpy(all_boxes[mine]).to(numbers.device)
        answer = numbers[place[0], place[1], place[2], place[3]]  # (n, 5 + k)
        area = numbers.shape[2] * numbers.shape[3] * stride**2
        # Places: of the one anchor that fits a box best, and of no other (2.1).
        total["box"] = total["box"] + _places(
            answer, target, anchors=shapes[place[1]], place=place, stride=stride, area=area, box_loss=box_loss
        )
        classes = F.one_hot(torch.from_numpy(all_labels[mine]).to(numbers.device), numbers.shape[-1] - 5)
        # Classes: independent logistic ones, so that labels may overlap (2.2).
        named = F.binary_cross_entropy_with_logits(answer[:, 5:], classes.to(answer.dtype), reduction="sum")
        total["class"] = total["class"] + named
        # Objectness: 1 where an anchor has a box, else 0; a prediction that overlaps a box well without being the one
        # that learns it counts nothing (2.1).
        truth = torch.zeros_like(numbers[..., 4])
        truth[place[0], place[1], place[2], place[3]] = 1
        counted = ~_overlapping(decode(numbers.detach(), shapes, stride), boxes) | (truth > 0)
        each = F.binary_cross_entropy_with_logits(numbers[..., 4], truth, reduction="none")
        total["objectness"] = total["objectness"] + (each * counted).sum()
    return {name: value / count for name, value in total.items()}


def _places(
    answer: Tensor, target: Tensor, anchors: Tensor, place: list[Tensor], stride: int, area: int, box_loss: str
) -> Tensor:
    """Return the summed loss of places; small boxes weigh up to twice as much."""
    weight = 2 - (target[:, 2:] - target[:, :2]).prod(1) / area
    if box_loss == "paper":
        offset, log_sides = encode(target, anchors, stride)
        error = (answer[:, :2].sigmoid() - offset).square().sum(1) + (answer[:, 2:4] - log_sides).square().sum(1)
        return (weight * error).sum()
    centre = (answer[:, :2].sigmoid() + torch.stack([place[3], place[2]], 1)) * stride
    sides = answer[:, 2:4].clamp(max=8).exp() * anchors
    found = torch.cat([centre - sides / 2, centre + sides / 2], 1)
    return (weight * generalized_box_iou_loss(found, target)).sum()


def _overlapping(found: Tensor, boxes: Sequence[np.ndarray]) -> Tensor:
    """Return which predictions (b, 3, h, w, 4) overlap a box of their image by more than IGNORE."""
    most = max((len(b) for b in boxes), default=0)
    over = torch.zeros(found.shape[:-1], dtype=torch.bool, device=found.device)
    for j in range(most):
        box = np.stack([b[j] if j < len(b) else np.zeros(4, np.float32) for b in boxes])
        truth = torch.from_numpy(box).to(found).view(-1, 1, 1, 1, 4)
        sides = (torch.minimum(found[..., 2:], truth[..., 2:]) - torch.maximum(found[..., :2], truth[..., :2])).clamp(
            min=0
        )
        both = sides.prod(-1)
        areas = (found[..., 2:] - found[..., :2]).prod(-1) + (truth[..., 2:] - truth[..., :2]).prod(-1)
        over |= both > IGNORE * (areas - both)
    return over
