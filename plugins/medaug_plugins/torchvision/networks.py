"""torchvision's detectors, built for images of any channels and size.

Legend: b images, c image channels, k classes.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from medaug_plugins.detection.backbones import STRIDES, SmallBackbone, TimmBackbone
from medaug_plugins.detection.prediction import MOST

OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # of anchor sides (Lin et al. 2017, 4)
RATIOS = (0.5, 1.0, 2.0)  # height to width
PROPOSALS = 400  # of Faster R-CNN in training, of which a quarter is learnt from


@dataclass(frozen=True)
class Architecture:
    """What a network is built for."""

    backbone: str
    width: int
    pyramid: int
    pretrained: str
    channels: int
    spatial: tuple[int, int]  # of the network's input
    classes: int
    anchor_scale: float
    nms: float
    least_score: float


class Features(nn.Module):
    """A backbone and a feature pyramid (Lin et al. 2017): named maps of strides 8, 16 and 32."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        if architecture.backbone == "small":
            self.body: nn.Module = SmallBackbone(architecture.channels, architecture.width)
        else:
            self.body = TimmBackbone(architecture.backbone, architecture.channels, architecture.pretrained)
        self.pyramid = FeaturePyramidNetwork(self.body.outputs, architecture.pyramid)  # type: ignore[arg-type]
        self.out_channels = architecture.pyramid

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.pyramid(OrderedDict((str(i), each) for i, each in enumerate(self.body(x))))


def retinanet(architecture: Architecture) -> nn.Module:
    """Return a RetinaNet with nine anchors a place; its heads are normalised, as in torchvision's second version."""
    sizes = tuple(tuple(stride * architecture.anchor_scale * octave for octave in OCTAVES) for stride in STRIDES)
    anchors, norm = _anchors(sizes), partial(nn.GroupNorm, 32)
    head = RetinaNetHead(
        architecture.pyramid, anchors.num_anchors_per_location()[0], architecture.classes, norm_layer=norm
    )
    return RetinaNet(
        Features(architecture),
        architecture.classes,
        anchor_generator=anchors,
        head=head,
        score_thresh=architecture.least_score,
        nms_thresh=architecture.nms,
        detections_per_img=MOST,
        **_inputs(architecture),
    )


def fcos(architecture: Architecture) -> nn.Module:
    """Return an FCOS."""
    anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    return FCOS(
        Features(architecture),
        architecture.classes,
        anchor_generator=anchors,
        score_thresh=architecture.least_score,
        nms_thresh=architecture.nms,
        detections_per_img=MOST,
        **_inputs(architecture),
    )


def fasterrcnn(architecture: Architecture) -> nn.Module:
    """Return a Faster R-CNN that looks at fewer proposals than torchvision's, for images with few lesions.

    Its class 0 is the background.
    """
    sizes = tuple((stride * architecture.anchor_scale,) for stride in STRIDES)
    names = [str(i) for i in range(len(STRIDES))]
    wide = 4 * architecture.pyramid
    return FasterRCNN(
        Features(architecture),
        rpn_anchor_generator=_anchors(sizes),
        rpn_pre_nms_top_n_train=PROPOSALS,
        rpn_post_nms_top_n_train=PROPOSALS,
        box_batch_size_per_image=PROPOSALS // 4,
        box_roi_pool=MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(architecture.pyramid * 7 * 7, wide),
        box_predictor=_Predictor(wide, architecture.classes + 1),
        box_score_thresh=architecture.least_score,
        box_nms_thresh=architecture.nms,
        box_detections_per_img=MOST,
        **_inputs(architecture),
    )


class _Predictor(nn.Module):
    """Scores (n, k) and box offsets (n, 4 k) of proposals."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.scores, self.offsets = nn.Linear(inputs, classes), nn.Linear(inputs, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), self.offsets(x)


def _anchors(sizes: tuple[tuple[float, ...], ...]) -> AnchorGenerator:
    return AnchorGenerator(sizes, (RATIOS,) * len(sizes))  # type: ignore[arg-type]


def _inputs(architecture: Architecture) -> dict[str, Any]:
    """Return how torchvision is to take images: as large as they are, or enlarged, around zero."""
    height, width = architecture.spatial
    return {
        "image_mean": [0.5] * architecture.channels,
        "image_std": [0.25] * architecture.channels,
        "fixed_size": (width, height),
    }


MAKERS: dict[str, Callable[[Architecture], nn.Module]] = {
    "retinanet": retinanet,
    "fcos": fcos,
    "fasterrcnn": fasterrcnn,
}
