"""YOLOv3 (Redmon and Farhadi 2018) on any backbone of timm."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import (
    BadInput,
    Detections,
    Examples,
    ImageSpec,
    MedaugError,
    NetworkCapabilities,
    Run,
    UsageError,
    image_seed,
    setting,
)
from medaug_plugins.detection.augment import preview
from medaug_plugins.detection.backbones import TIMM_LEAK, TimmBackbone
from medaug_plugins.detection.prediction import best, predict
from medaug_plugins.detection.settings import DetectorSettings
from medaug_plugins.detection.training import KIND, train
from medaug_plugins.layers import load_weights
from medaug_plugins.supervised.pretrained import source_of
from medaug_plugins.supervised.settings import NO_AUGMENTATION
from medaug_plugins.yolov3.alignment import REACH, aligned_losses
from medaug_plugins.yolov3.anchors import PUBLISHED, by_scale, cluster, decode
from medaug_plugins.yolov3.cfg import cfg
from medaug_plugins.yolov3.darknet import read_weights, weight_bytes
from medaug_plugins.yolov3.losses import losses
from medaug_plugins.yolov3.networks import YOLO, build

__all__ = ["YOLOv3"]


@dataclass
class YOLOv3(DetectorSettings):
    """Find boxes at three scales with anchors fitted to the training boxes."""

    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(
        dims=(2,),
        channels=(1, 2, 3, 4),
        default_budget=2000,
        continues=True,
        shares=True,
        exports=("onnx", "darknet"),
        variants={
            "plain": NO_AUGMENTATION,
            "mosaic": {"mosaic": 1 / 6},  # as many lesions a batch as with a second one in half of the images
        },
    )

    backbone: str = setting(
        "darknet53", "a timm backbone with strides 8, 16 and 32, 'small' for a CPU, or 'tiny': all of yolov3-tiny"
    )
    width: int = setting(16, "feature maps of backbone 'small' at full size", minimum=2)
    depth: int = setting(1, "shortcuts a stage of backbone 'small'", minimum=1, maximum=8)
    stem: int = setting(1, "stride of the first convolution of backbone 'small'; 2 halves the work", choices=(1, 2))
    head_width: int = setting(512, "feature maps of the coarsest head; 128 suits a CPU", minimum=8)
    spp: bool = setting(False, "spatial pyramid pooling before the coarsest head (yolov3-spp)")
    weights: str = setting("", "start from a darknet file: a whole .weights, or its beginning (darknet53.conv.74)")
    anchors: Literal["boxes", "coco"] = setting(
        "boxes", "fitted to the training boxes, or the published ones", choices=("boxes", "coco")
    )
    weight_decay: float = setting(0.0005, "AdamW's weight decay", minimum=0)
    box_loss: Literal["paper", "giou"] = setting(
        "paper", "squared errors of the paper, or generalised IoU", choices=("paper", "giou")
    )
    assignment: Literal["paper", "aligned"] = setting(
        "paper",
        "a box is learnt by one anchor, or by the ten predictions that suit it best, with complete IoU",
        choices=("paper", "aligned"),
    )
    box_weight: float = setting(1.0, "weight of the box loss", minimum=0)
    mosaic: float = setting(0.0, "share of the images that become a mosaic of four", minimum=0, maximum=1)

    def __post_init__(self) -> None:
        self._network: YOLO | None = None
        self._spec: ImageSpec | None = None

    def build(self, spec: ImageSpec, pretrained: bool = True) -> YOLO:
        """Return a network for images of this form, with `pretrained` weights where the settings ask for some.

        Raises UsageError where there is none.
        """
        self.check_sides(spec, "yolov3")
        source = source_of(self.pretrained)
        if source and (self.weights or self.backbone in ("small", "tiny")):
            raise UsageError("--set pretrained is for timm's backbones, and does not go with --set weights")
        network = build(
            self.backbone,
            channels=spec.channels,
            classes=max(1, len(spec.label_names)),
            width=self.width,
            depth=self.depth,
            stem=self.stem,
            head_width=self.head_width,
            spp=self.spp,
            pretrained=source if pretrained else "",
        )
        if source and isinstance(network.backbone, TimmBackbone):
            network.backbone.set_leak(TIMM_LEAK)
        return network

    def loss_weights(self) -> Mapping[str, float]:
        """Return the weight of the box loss."""
        return {"box": self.box_weight}

    def augmented(
        self, images: np.ndarray, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], seed: int
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Return images (b, c, h, w), their boxes and labels as a training step might see them."""
        return preview(images, boxes, labels, settings=self, seed=seed, mosaic=self.mosaic)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent; keep the best average by validation.

        Goes on from the weights and the anchors that were loaded, where there are any.
        """
        if len(data) == 0:
            raise BadInput("there are no training images to fit yolov3 on")
        network = place(self._begin(data, run), torch.device(run.device))

        def loss(network: nn.Module, images: Tensor, boxes: Sequence, labels: Sequence) -> dict[str, Tensor]:
            with run.autocast():
                raw = network(self._enlarged(images))
            return self._losses([r.float() for r in raw], network.anchors, boxes, labels)  # type: ignore[arg-type]

        best = train(
            network,
            data,
            run,
            settings=self,
            losses=loss,
            predict=lambda net, images: self._detect(net, images, 1),  # type: ignore[arg-type]
            mosaic=self.mosaic,
        )
        assert isinstance(best, YOLO)
        self._network, self._spec = best, data.spec

    def _begin(self, data: Examples, run: Run) -> YOLO:
        if self._network is not None:
            return copy.deepcopy(self._network).requires_grad_(True).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(image_seed(abs(run.seed), 0))
            network = self.build(data.spec)
        network.anchors.copy_(self._shapes(data, len(network.anchors)))
        if self.weights:
            read_weights(network, Path(self.weights))
        return network

    def _shapes(self, data: Examples, count: int) -> Tensor:
        """Return the anchors (count, 2) in pixels of the network's input."""
        sides = [boxes[:, 2:] - boxes[:, :2] for boxes in data.boxes if len(boxes)]
        if not sides:
            raise BadInput("the training images have no boxes: a detector has nothing to learn")
        if self.anchors == "coco":
            return torch.tensor(PUBLISHED[count])
        return torch.from_numpy(cluster(np.concatenate(sides) * self.zoom_input, count=count))

    def _losses(self, raw: list[Tensor], anchors: Tensor, boxes: Sequence, labels: Sequence) -> dict[str, Tensor]:
        boxes = [box * self.zoom_input for box in boxes]
        if self.assignment == "aligned":
            return aligned_losses(raw, anchors, boxes, labels)
        return losses(raw, anchors, boxes, labels, box_loss=self.box_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the best averaged weights and the anchors in input pixels."""
        state = self._fitted().state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        network = self.build(spec, pretrained=False)
        anchors = state.get("anchors")
        if anchors is None or tuple(anchors.shape) != tuple(network.anchors.shape):
            raise BadInput(f"these weights do not fit this yolov3: expected {len(network.anchors)} anchors")
        load_weights(network, state, KIND)
        self._network, self._spec = place(network, torch.device(device)).requires_grad_(False).eval(), spec

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield (boxes, scores, labels) an image (c, *s), best first; score = objectness x class."""
        yield from self._detect(self._fitted(), images, self.views)

    def _detect(self, network: YOLO, images: Iterable[np.ndarray], views: int) -> Iterator[Detections]:
        def find(group: np.ndarray) -> list[Detections]:
            x = torch.from_numpy(np.ascontiguousarray(group, np.float32)).to(network.anchors.device)
            boxes, scores = self._boxes(network, x)
            return [best(*one, self.nms) for one in zip(boxes, scores, strict=True)]

        yield from predict(find, images, views)

    def _boxes(self, network: YOLO, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return every box (b, n, 4) in pixels of the images (b, c, h, w), and its scores (b, n, k)."""
        height, width = images.shape[-2:]
        raw = [r.float() for r in network(self._enlarged(images))]
        scales = list(zip(raw, by_scale(network.anchors), strict=True))
        boxes = torch.cat([decode(r, shapes, stride, self._reach).flatten(1, 3) for r, (shapes, stride) in scales], 1)
        scores = torch.cat([(r[..., 4:5].sigmoid() * r[..., 5:].sigmoid()).flatten(1, 3) for r in raw], 1)
        limits = boxes.new_tensor([width, height, width, height])
        return torch.minimum((boxes / self.zoom_input).clamp(min=0), limits), scores

    @property
    def _reach(self) -> float:
        """Return how many cells a centre may move over."""
        return REACH if self.assignment == "aligned" else 1.0

    def _enlarged(self, images: Tensor) -> Tensor:
        if self.zoom_input != 1:
            images = F.interpolate(images, scale_factor=self.zoom_input, mode="bilinear", align_corners=False)
        return images.contiguous(memory_format=torch.channels_last)

    def graph(self) -> nn.Module:
        """Return a module from images (b, c, h, w) to every box (b, n, 4) and its scores (b, n, k)."""
        return _Graph(self, copy.deepcopy(self._fitted()).to("cpu").eval())

    def files(self, form: str) -> dict[str, bytes]:
        """Return the cfg and the weights of darknet; raise UsageError where darknet has no such network or layer."""
        network, spec = self._fitted(), self._spec
        assert spec is not None
        if form != "darknet":
            raise UsageError(f"yolov3 has no form {form!r}")
        height, width = (side * self.zoom_input for side in spec.spatial)
        text = cfg(network, (height, width), spec.channels, self._reach)
        return {"detector.cfg": text.encode(), "detector.weights": weight_bytes(network)}

    def _fitted(self) -> YOLO:
        if self._network is None:
            raise MedaugError("this yolov3 is neither fitted nor loaded")
        return self._network


class _Graph(nn.Module):
    """All of a detector but the suppression, for export."""

    def __init__(self, detector: YOLOv3, network: YOLO) -> None:
        super().__init__()
        self.detector, self.network = detector, network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.detector._boxes(self.network, images)


def place(network: YOLO, device: torch.device) -> YOLO:
    """Move a network to a device, channels last."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
