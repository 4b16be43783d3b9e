"""YOLOv3 (Redmon and Farhadi 2018) on any backbone of timm."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import (
    BadInput,
    Capabilities,
    Detections,
    Examples,
    ImageSpec,
    MedaugError,
    Run,
    UsageError,
    image_seed,
    setting,
)  # fmt: skip
from medaug_yolov3.augment import Amounts
from medaug_yolov3.networks import STRIDES, YOLO, build
from medaug_yolov3.training import Recipe, Training, load_weights, place, predict, training_anchors

__all__ = ["YOLOv3"]

LOG_EVERY = 10  # steps


@dataclass
class YOLOv3:
    """Find boxes at three scales with anchors fitted to the training boxes."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2,), channels=(1, 2, 3, 4), default_budget=2000, continues=True,
        variants={
            "plain": {"flip": False, "shift": 0.0, "zoom": 0.0, "contrast": 0.0, "brightness": 0.0},
            "mosaic": {"mosaic": 1 / 6},  # as many lesions a batch as with a second one in half of the images
        },
    )  # fmt: skip

    backbone: str = setting("darknet53", "a timm backbone with strides 8, 16 and 32, or 'small' for a CPU")
    width: int = setting(16, "feature maps of the first layer of backbone 'small'", minimum=2)
    head_width: int = setting(512, "feature maps of the coarsest head; 128 suits a CPU", minimum=8)
    pretrained: bool = setting(False, "start from timm's weights, downloaded from its hub")
    zoom_input: int = setting(1, "enlarge images by this factor first; small lesions like 2", minimum=1, maximum=16)
    batch: int = setting(16, "images of a step", minimum=1)
    lr: float = setting(0.001, "AdamW's step size after the warm-up", minimum=0)
    weight_decay: float = setting(0.0005, "AdamW's weight decay", minimum=0)
    warm_up: float = setting(100.0, "steps until the full step size", minimum=0)
    ema: float = setting(0.998, "decay of the moving average, a step", minimum=0, maximum=1)
    box_loss: Literal["paper", "giou"] = setting(
        "paper", "squared errors of the paper, or generalised IoU", choices=("paper", "giou")
    )
    assignment: Literal["paper", "aligned"] = setting(
        "paper", "a box is learnt by one anchor, or by the ten predictions that suit it best, with complete IoU",
        choices=("paper", "aligned"),
    )  # fmt: skip
    box_weight: float = setting(1.0, "weight of the box loss", minimum=0)
    validations: int = setting(10, "how often the validation split chooses the best weights", minimum=1)
    flip: bool = setting(True, "augment by left-right flips")
    shift: float = setting(0.1, "augment by shifts of up to this share of a side", minimum=0, maximum=0.5)
    zoom: float = setting(0.2, "augment by zooms of up to this share", minimum=0, maximum=2)
    contrast: float = setting(0.2, "augment contrast by up to this share", minimum=0, maximum=0.9)
    brightness: float = setting(0.1, "augment brightness by up to this much of the range", minimum=0, maximum=0.9)
    mosaic: float = setting(0.0, "share of the images that become a mosaic of four", minimum=0, maximum=1)
    nms: float = setting(0.45, "overlap from which the weaker of two detections is dropped", minimum=0, maximum=1)

    def __post_init__(self) -> None:
        self._network: YOLO | None = None
        self._anchors: Tensor | None = None

    def build(self, spec: ImageSpec) -> YOLO:
        """Return a network for images of this form; raise UsageError where there is none."""
        if any(side * self.zoom_input % STRIDES[-1] for side in spec.spatial):
            size = "×".join(map(str, spec.spatial))
            raise UsageError(
                f"yolov3 needs sides that are multiples of 32, not {size}; --set zoom_input=2 doubles them first"
            )
        classes = max(1, len(spec.label_names))
        return build(self.backbone, self.width, self.head_width, spec.channels, classes, self.pretrained)

    def recipe(self) -> Recipe:
        """Return the numbers of a training step."""
        amounts = Amounts(self.flip, self.shift, self.zoom, self.contrast, self.brightness, self.mosaic)
        return Recipe(
            self.batch, self.lr, self.weight_decay, self.warm_up, self.ema, self.box_loss, self.box_weight,
            self.assignment, self.zoom_input, self.validations, amounts,
        )  # fmt: skip

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent; keep the best average by validation.

        Goes on from the weights and the anchors that were loaded, where there are any.
        """
        if len(data) == 0:
            raise BadInput("there is no training image to fit yolov3 on")
        network, anchors = self._begin(data, run)
        training = Training(network, anchors, self.recipe(), data, run)
        done = training.load_state_dict(run.state) if run.state else 0
        while run.fraction(done) < 1:
            values = training.step(done)
            done += 1
            scores = training.validate(done)
            if done % LOG_EVERY == 0 or scores:
                run.log(done, **{name: float(value) for name, value in values.items()}, **scores)
            run.checkpoint(done, lambda: training.state_dict(done))  # noqa: B023
        training.validate(done, last=True)
        run.checkpoint(done, lambda: training.state_dict(done), force=True)
        self._network, self._anchors = training.best, training.anchors

    def _begin(self, data: Examples, run: Run) -> tuple[YOLO, Tensor]:
        if self._network is not None and self._anchors is not None:
            return copy.deepcopy(self._network).requires_grad_(True).train(), self._anchors
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(image_seed(abs(run.seed), 0))
            return self.build(data.spec), training_anchors(data, self.zoom_input)

    def state_dict(self) -> dict[str, Any]:
        """Return the best averaged weights and the anchors in input pixels."""
        network, anchors = self._fitted()
        weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        return {**weights, "anchors": anchors.cpu()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        anchors = state.get("anchors")
        if anchors is None or tuple(anchors.shape) != (9, 2):
            raise BadInput("these weights are no YOLOv3: nine anchors (9, 2) are wanted")
        pretrained, self.pretrained = self.pretrained, False
        try:
            network = self.build(spec)
        finally:
            self.pretrained = pretrained
        load_weights(network, {name: value for name, value in state.items() if name != "anchors"})
        self._network = place(network, torch.device(device)).requires_grad_(False).eval()
        self._anchors = anchors.to(device)

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield (boxes, scores, labels) an image (c, *s), best first; score = objectness x class."""
        network, anchors = self._fitted()
        yield from predict(network, anchors, self.zoom_input, images, self.recipe().reach, self.nms)

    def _fitted(self) -> tuple[YOLO, Tensor]:
        if self._network is None or self._anchors is None:
            raise MedaugError("this yolov3 is neither fitted nor loaded")
        return self._network, self._anchors
