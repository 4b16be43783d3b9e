"""torchvision's RetinaNet, FCOS and Faster R-CNN on backbones of timm, trained as yolov3 is."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import (
    BadInput,
    Detections,
    Examples,
    ImageSpec,
    MedaugError,
    NetworkCapabilities,
    Run,
    image_seed,
    setting,
)
from medaug_plugins.detection.augment import preview
from medaug_plugins.detection.prediction import LEAST_SCORE, predict
from medaug_plugins.detection.settings import DetectorSettings
from medaug_plugins.detection.training import KIND, train
from medaug_plugins.layers import load_weights
from medaug_plugins.supervised.pretrained import source_of
from medaug_plugins.supervised.settings import NO_AUGMENTATION
from medaug_plugins.torchvision.networks import MAKERS, Architecture

__all__ = ["FCOS", "FasterRCNN", "RetinaNet"]


@dataclass
class _Detector(DetectorSettings):
    """A detector of torchvision on a feature pyramid of strides 8, 16 and 32."""

    maker: ClassVar[str]
    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(
        dims=(2,),
        channels=(1, 2, 3, 4),
        default_budget=2000,
        continues=True,
        shares=True,
        variants={"plain": NO_AUGMENTATION},
    )

    backbone: str = setting("resnet18", "a timm backbone with strides 8, 16 and 32, or 'small' for a CPU")
    width: int = setting(16, "feature maps of backbone 'small' at full size", minimum=2)
    pyramid: int = setting(128, "feature maps of the pyramid and its heads, a multiple of 32", minimum=64)
    anchor_scale: float = setting(2.0, "sides of the smallest anchors, in strides; FCOS has none", minimum=0.25)
    lr: float = setting(0.0005, "learning rate of AdamW after the warm-up", minimum=0)

    def __post_init__(self) -> None:
        self._network: nn.Module | None = None

    def build(self, spec: ImageSpec, pretrained: bool = True) -> nn.Module:
        """Return a network for images of this form, with `pretrained` weights where the settings ask for some.

        Raises UsageError where there is none.
        """
        self.check_sides(spec, self.maker)
        architecture = Architecture(
            backbone=self.backbone,
            width=self.width,
            pyramid=self.pyramid,
            pretrained=source_of(self.pretrained) if pretrained else "",
            channels=spec.channels,
            spatial=(spec.spatial[0] * self.zoom_input, spec.spatial[1] * self.zoom_input),
            classes=max(1, len(spec.label_names)),
            anchor_scale=self.anchor_scale,
            nms=self.nms,
            least_score=LEAST_SCORE,
        )
        return MAKERS[self.maker](architecture)

    def augmented(
        self, images: np.ndarray, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], seed: int
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Return images (b, c, h, w), their boxes and labels as a training step might see them."""
        return preview(images, boxes, labels, settings=self, seed=seed)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent; keep the best average by validation.

        Goes on from the weights that were loaded, where there are any.
        """
        if len(data) == 0:
            raise BadInput(f"there are no training images to fit {self.maker} on")
        if not any(map(len, data.boxes)):
            raise BadInput("the training images have no boxes: a detector has nothing to learn")
        if self._network is not None:
            network = copy.deepcopy(self._network).requires_grad_(True)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(image_seed(abs(run.seed), 0))
                network = self.build(data.spec)
        first = 1 if self.maker == "fasterrcnn" else 0  # its label 0 is the background
        lowered = nullcontext() if run.device == "cpu" else run.autocast()  # the CPU's pooling has no bf16

        def loss(network: nn.Module, images: Tensor, boxes: Sequence, labels: Sequence) -> dict[str, Tensor]:
            targets = [
                {"boxes": torch.from_numpy(own).to(images), "labels": torch.from_numpy(names + first).to(images.device)}
                for own, names in zip(boxes, labels, strict=True)
            ]
            with lowered:
                return network(list(images), targets)

        self._network = train(
            network,
            data,
            run,
            settings=self,
            losses=loss,
            predict=lambda net, images: self._detect(net, images, 1),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the best averaged weights."""
        state = self._fitted().state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Restore `state_dict` for images of this form; raise BadInput where it does not fit."""
        network = self.build(spec, pretrained=False)
        load_weights(network, state, KIND)
        self._network = network.to(device).requires_grad_(False).eval()

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield (boxes, scores, labels) an image (c, *s), best first."""
        yield from self._detect(self._fitted(), images, self.views)

    def _detect(self, network: nn.Module, images: Iterable[np.ndarray], views: int) -> Iterator[Detections]:
        device = next(network.parameters()).device
        first = 1 if self.maker == "fasterrcnn" else 0

        def find(group: np.ndarray) -> list[Detections]:
            found = network([torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(device) for image in group])
            return [_sorted(one, group.shape, first) for one in found]

        yield from predict(find, images, views)

    def _fitted(self) -> nn.Module:
        if self._network is None:
            raise MedaugError(f"this {self.maker} is neither fitted nor loaded")
        return self._network


def _sorted(found: Mapping[str, Tensor], shape: tuple[int, ...], first: int) -> Detections:
    """Return torchvision's answer as arrays, best first, without boxes that have no area."""
    boxes, scores, labels = (found[name].float().cpu().numpy() for name in ("boxes", "scores", "labels"))
    boxes = boxes.clip(0, [shape[3], shape[2], shape[3], shape[2]]).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    order = order[(boxes[order, 2:] > boxes[order, :2]).all(1)]
    return boxes[order], scores[order], labels[order].astype(np.int64) - first


@dataclass
class RetinaNet(_Detector):
    """RetinaNet (Lin et al. 2017): anchors at each place, focal loss."""

    maker: ClassVar[str] = "retinanet"


@dataclass
class FCOS(_Detector):
    """FCOS (Tian et al. 2019): each place in a box says how far its sides are; no anchors."""

    maker: ClassVar[str] = "fcos"


@dataclass
class FasterRCNN(_Detector):
    """Faster R-CNN (Ren et al. 2015): proposals, then a look at each."""

    maker: ClassVar[str] = "fasterrcnn"
