"""metrics.json: what `medaug evaluate` finds, as a file for scripts."""

from dataclasses import dataclass

from medaug_cli.boxes import Strict
from medaug_cli.metrics.breakdown import Breakdown
from medaug_cli.metrics.differences import Compared, Interval
from medaug_cli.metrics.matching import BY_DISTANCE
from medaug_cli.metrics.operating import MAP_IOU
from medaug_cli.metrics.resampling import RESAMPLES

AP_RULE = "mean precision envelope at 101 recalls, {hit}, no cap, mean over the classes that have boxes"
ANY_IOU = 0.0  # the key of the figures of rules that ask for no IoU


class AveragePrecision(Strict):
    """Average precision by one definition: at 101 recalls (COCO), at 11 (VOC 2007), of all points (VOC since 2010)."""

    mean: float | None  # over the classes that have boxes
    classes: dict[str, float | None]


class AtIou(Strict):
    """One detector at one IoU; null where there is no box to find. Of several seeds: their mean.

    Where a system has several seeds, `thresholds` and `breakdown` are those of the first.
    """

    sensitivity: float | None  # at the score threshold
    fps_per_slice: float | None
    at_fps: dict[str, float | None]  # false positives per slice -> sensitivity
    cpm: float | None  # mean sensitivity at 1/8 to 8
    mAP: float | None
    interval: dict[str, Interval | None]
    thresholds: dict[str, float | None]  # false positives per slice -> the score behind them
    curve_ends_at: float  # false positives per slice of all detections; beyond, sensitivity is the last one
    average_precision: dict[str, AveragePrecision] = {}  # 101-point, 11-point and all-point
    breakdown: Breakdown | None = None  # at one false positive per slice
    seeds: list[dict[str, float | None]] = []  # each seed's numbers, where there are several


class Row(Strict):
    """One detector, or the seeds of one system: then numbers are means over them."""

    detector: str
    mAP: float | None
    ap: dict[str, float | None]  # by class
    iou: dict[str, AtIou]
    against_first: dict[str, Compared] | None  # IoU -> number -> difference
    coco: list[float] | None  # COCO's twelve numbers in COCO's order
    weights: str | None = None  # SHA-256 of the detector's weights or of its detections file; of each seed, by commas
    seeds: int = 1


class Metrics(Strict):
    """metrics.json."""

    rule: str = "coco"
    ap_rule: str = AP_RULE.format(hit="IoU 0.5")
    threshold: float
    split: str | None
    slices: int
    slices_without_boxes: int
    boxes: int
    boxes_by_label: dict[str, int]
    crowds: int = 0  # regions that are not a single lesion: not among the boxes
    patients: int
    resampled: str = "patients"
    resamples: int
    seed: int
    data: dict[str, str] = {}  # file -> SHA-256
    tool_version: str = ""
    note: str | None = None
    remarks: list[str] = []  # what a reader must know of the data: what could not be measured, and why
    rows: list[Row]


@dataclass(frozen=True)
class Analysis:
    """How to evaluate."""

    ious: tuple[float, ...] = (0.5, 0.25)  # (ANY_IOU,) by rules that ask for no IoU
    threshold: float = 0.001
    resamples: int = RESAMPLES
    seed: int = 0
    coco: bool = False  # also COCO's twelve numbers
    rule: str = "coco"
    sizes: tuple[float, ...] | None = None  # edges of the groups of lesions, pixels or mm

    @property
    def map_iou(self) -> float:
        """Return the IoU of mAP."""
        return ANY_IOU if self.rule in BY_DISTANCE else MAP_IOU


def label(number: float) -> str:
    """Write an IoU or a rate as a key of metrics.json: 0.5, 0.25, 8."""
    return f"{number:g}"


def hit_words(rule: str, iou: str) -> str:
    """Say what a hit is: `IoU 0.5`, or where its centre lies."""
    by_distance = {"luna": "centre within the radius", "center": "centre in the box"}
    return by_distance.get(rule, f"IoU {iou}")
