"""Train YOLOv3: AdamW with warm-up and cosine, a moving average, the best average by validation."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from medaug_cli.plugin import BadInput, Detections, Examples, Run
from medaug_yolov3.alignment import REACH, aligned_losses
from medaug_yolov3.anchors import by_scale, cluster, decode
from medaug_yolov3.augment import Amounts, augment, tiled
from medaug_yolov3.losses import losses
from medaug_yolov3.networks import STRIDES, YOLO

MOST = 300  # detections an image
LEAST_SCORE = 0.001


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training step."""

    batch: int
    lr: float
    weight_decay: float
    warm_up: float
    ema: float
    box_loss: str
    box_weight: float
    assignment: str
    zoom_input: int
    validations: int
    amounts: Amounts

    @property
    def reach(self) -> float:
        """Return how many cells a centre may move over."""
        return REACH if self.assignment == "aligned" else 1.0


def chance(seed: int, done: int) -> np.random.Generator:
    """Return the randomness of one step, drawn from the run's seed and the steps done: a resumed run repeats it."""
    return np.random.default_rng(np.random.SeedSequence(abs(seed), spawn_key=(3, done)))


def training_anchors(data: Examples, zoom_input: int) -> Tensor:
    """Return nine anchors (9, 2) of the training boxes, in pixels of the network's input."""
    sides = [boxes[:, 2:] - boxes[:, :2] for boxes in data.boxes if len(boxes)]
    if not sides:
        raise BadInput("there is no box at all in the training images: a detector has nothing to learn")
    return torch.from_numpy(cluster(np.concatenate(sides) * zoom_input))


def prepare(images: np.ndarray, zoom_input: int, device: torch.device) -> Tensor:
    """Return images (b, c, *s) as the network takes them: larger by `zoom_input`, channels last."""
    x = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(device)
    if zoom_input != 1:
        x = F.interpolate(x, scale_factor=zoom_input, mode="bilinear", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


def place(network: YOLO, device: torch.device) -> YOLO:
    """Move a network to a device, channels last."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class Training:
    """The network, its moving average, the best average so far, and a step of all of them."""

    def __init__(self, network: YOLO, anchors: Tensor, recipe: Recipe, data: Examples, run: Run) -> None:
        self.recipe, self.data, self.run = recipe, data, run
        self.device = torch.device(run.device)
        self.network = place(network, self.device)
        self.anchors = anchors.to(self.device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.best, self.best_score, self.validated = copy.deepcopy(self.average), -math.inf, 0
        self.optimiser = torch.optim.AdamW(_groups(self.network, recipe.weight_decay), lr=recipe.lr)

    def step(self, done: int) -> dict[str, Tensor]:
        """Train one step; return the losses."""
        rng = chance(self.run.seed, done)
        images, boxes, labels = self._read(rng, self.recipe.batch)
        for i in np.flatnonzero(rng.random(len(boxes)) < self.recipe.amounts.mosaic):
            images[i], boxes[i], labels[i] = tiled(*self._read(rng, 4))
        images, boxes, labels = augment(images, boxes, labels, self.recipe.amounts, rng)
        boxes = [box * self.recipe.zoom_input for box in boxes]
        parts = self._losses(images, boxes, labels)
        loss = self.recipe.box_weight * parts["box"] + parts["objectness"] + parts["class"]
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(done)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimiser.step()
        self._move_average(done + 1)
        return {"loss": loss.detach(), **{name: value.detach() for name, value in parts.items()}}

    def _read(self, rng: np.random.Generator, count: int) -> tuple[Tensor, list[np.ndarray], list[np.ndarray]]:
        indices = rng.choice(len(self.data), count, p=self.data.weights)
        images = torch.from_numpy(np.ascontiguousarray(self.data.read(indices), np.float32)).to(self.device)
        return images, [self.data.boxes[i] for i in indices], [self.data.labels[i] for i in indices]

    def _losses(self, images: Tensor, boxes: list[np.ndarray], labels: list[np.ndarray]) -> dict[str, Tensor]:
        self.network.train()
        if self.recipe.zoom_input != 1:
            images = F.interpolate(images, scale_factor=self.recipe.zoom_input, mode="bilinear", align_corners=False)
        with self.run.autocast():
            raw = self.network(images.contiguous(memory_format=torch.channels_last))
        raw = [r.float() for r in raw]
        if self.recipe.assignment == "aligned":
            return aligned_losses(raw, self.anchors, boxes, labels)
        return losses(raw, self.anchors, boxes, labels, self.recipe.box_loss)

    def learning_rate(self, done: int) -> float:
        """Return the step size: a linear warm-up, then half a cosine to zero over the run."""
        warm = min(1.0, (done + 1) / max(1.0, self.recipe.warm_up))
        return self.recipe.lr * warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.run.fraction(done))))

    @torch.no_grad()
    def _move_average(self, done: int) -> None:
        decay = min(self.recipe.ema, (1 + done) / (10 + done))
        mine, now = self.average.state_dict(), self.network.state_dict()
        for name, value in mine.items():
            if value.is_floating_point():
                value.lerp_(now[name].detach(), 1 - decay)
            else:
                value.copy_(now[name])

    def validate(self, done: int, last: bool = False) -> dict[str, float]:
        """Score the average if a validation is due; keep it if it is the best so far."""
        due = int(self.run.fraction(done) * self.recipe.validations)
        if due <= self.validated and not last:
            return {}
        self.validated = due
        scores = self.run.validate(
            lambda images: predict(self.average, self.anchors, self.recipe.zoom_input, images, self.recipe.reach)
        )
        if not scores or scores["score"] >= self.best_score:
            self.best.load_state_dict(self.average.state_dict())
            self.best_score = scores.get("score", -math.inf)
        return {f"val_{name}": value for name, value in scores.items() if math.isfinite(value)}

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as if it had never stopped."""
        return {
            "done": done, "validated": self.validated, "best_score": self.best_score, "anchors": self.anchors.cpu(),
            "network": self.network.state_dict(), "average": self.average.state_dict(), "best": self.best.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Restore `state_dict`; return the steps done."""
        for name in ("network", "average", "best"):
            load_weights(getattr(self, name), state[name])
        moments = {int(index): value for index, value in state["optimiser"].items()}
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.anchors = state["anchors"].to(self.device)
        self.validated, self.best_score = int(state["validated"]), float(state["best_score"])
        return int(state["done"])


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups: convolutions decay, biases and batch normalisation do not."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def load_weights(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Copy weights into a network; raise BadInput naming the first that does not fit."""
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "nothing"
        asked = tuple(own[name].shape) if name in own else "nothing"
        if found != asked:
            raise BadInput(
                f"these weights do not fit a YOLOv3 of these settings and labels: {name} holds {found}, "
                f"expected {asked}"
            )
    network.load_state_dict(dict(state))


@torch.no_grad()
def predict(
    network: YOLO,
    anchors: Tensor,
    zoom_input: int,
    images: Iterable[np.ndarray],
    reach: float = 1.0,
    nms: float = 0.45,
    batch: int = 16,
) -> Iterator[Detections]:
    """Yield the detections of each image (c, *s), best first, in pixels of the image."""
    device = anchors.device
    for group in _batches(images, batch):
        height, width = group.shape[-2:]
        raw = network(prepare(group, zoom_input, device))
        scales = [_flat(r.float(), a, s, reach) for r, a, s in zip(raw, by_scale(anchors), STRIDES, strict=True)]
        all_boxes = torch.cat([boxes for boxes, _ in scales], 1) / zoom_input
        all_scores = torch.cat([scores for _, scores in scales], 1)
        all_boxes = torch.minimum(all_boxes.clamp(min=0), all_boxes.new_tensor([width, height, width, height]))
        for i in range(len(group)):
            yield _best(all_boxes[i], all_scores[i], nms)


def _flat(raw: Tensor, anchors: Tensor, stride: int, reach: float) -> tuple[Tensor, Tensor]:
    boxes, scores = decode(raw, anchors, stride, reach), raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()
    return boxes.flatten(1, 3), scores.flatten(1, 3)


def _best(boxes: Tensor, scores: Tensor, nms: float) -> Detections:
    """Return what greedy non-maximum suppression a class leaves (boxes (n, 4), scores (n, k))."""
    place, label = (scores >= LEAST_SCORE).nonzero(as_tuple=True)
    boxes, values = boxes[place], scores[place, label]
    whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, values, label = boxes[whole], values[whole], label[whole]
    kept = batched_nms(boxes, values, label, nms)[:MOST]
    found = (boxes[kept], values[kept], label[kept])
    return tuple(x.cpu().numpy() for x in found)  # type: ignore[return-value]


def _batches(images: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    group: list[np.ndarray] = []
    for image in images:
        group.append(image)
        if len(group) == size:
            yield np.stack(group)
            group = []
    if group:
        yield np.stack(group)
