"""Detection: boxes in an image (Han et al., 2.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from medaug_cli.errors import BadInput, MedaugError
from medaug_cli.metrics.annotations import Annotated, found_boxes, true_boxes
from medaug_cli.metrics.detection import DETECTION, DetectionAnswers, mean_average_precision, on_the_curve
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.operating import MAP_IOU, Cohort, Matched, Scored, cohort_of, match_detections
from medaug_cli.plugin import Detections
from medaug_cli.store import Store
from medaug_cli.tasks.task import Task

IOUS = (0.5, 0.25)
THRESHOLD = 0.001  # score from which Table 1 of Han et al. counts a detection


@dataclass(frozen=True)
class FoundAnswers:
    """What one detector found on the images of u patients, judged at several IoUs and by mAP."""

    views: Mapping[str, DetectionAnswers]  # what stands behind a number's name, as _iou0.5 -> answers at that IoU
    matched: Matched | None = None  # what pictures and breakdowns are made of

    @classmethod
    def of(
        cls,
        scored: Scored,
        cohort: Cohort,
        ious: Sequence[float] = IOUS,
        threshold: float = THRESHOLD,
        matched: Matched | None = None,
    ) -> Self:
        """Judge matched detections at each IoU, and by mAP at its own."""
        views = {f"_iou{iou:g}": DetectionAnswers(scored, cohort, iou, threshold, (on_the_curve,)) for iou in ious}
        precision = DetectionAnswers(scored, cohort, MAP_IOU, threshold, (mean_average_precision,))
        return cls({**views, "": precision}, matched)

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every number (r,) where patients count `weights` (r, u) times, with its IoU behind its name."""
        return {
            f"{name}{ending}": value
            for ending, view in self.views.items()
            for name, value in view.measure(weights).items()
        }

    def joined(self, other: "FoundAnswers", patients: int) -> "FoundAnswers":
        """Return the answers of both; the other's patients are counted on from `patients`."""
        return FoundAnswers({ending: view.joined(other.views[ending], patients) for ending, view in self.views.items()})


def _at(measure: Measure, iou: float, ending: str) -> Measure:
    return replace(measure, name=f"{measure.name}{ending}", words=f"{measure.words}, IoU {iou:g}")


class Detection(Task):
    """Find lesions by boxes."""

    name: ClassVar[str] = "detection"
    kind: ClassVar[str] = "detector"
    needs: ClassVar[str] = "boxes"
    names: ClassVar[str] = "label_names"
    headline: ClassVar[str] = "sensitivity_at_1_iou0.5"
    chosen_by: ClassVar[str] = "cpm_iou0.5"
    main: ClassVar[tuple[str, ...]] = (
        "sensitivity_at_1_iou0.5", "sensitivity_at_4_iou0.5", "cpm_iou0.5", "sensitivity_at_1_iou0.25",
        "sensitivity_at_4_iou0.25", "cpm_iou0.25", "mAP",
    )  # fmt: skip
    operating: ClassVar[str] = f"Table 1 of Han et al., detections with a score of at least {100 * THRESHOLD:g} %"
    measures: ClassVar[Mapping[str, Measure]] = {
        **{
            f"{one.name}_iou{iou:g}": _at(one, iou, f"_iou{iou:g}")
            for iou in IOUS
            for one in DETECTION
            if one.name != "mAP"
        },
        "mAP": _at(DETECTION["mAP"], MAP_IOU, ""),
    }

    def usable(self, store: Store) -> np.ndarray:
        """Return which images (n,) bool were annotated: one without a box is a normal slice then."""
        return store.annotated

    def wanting(self, store: Store) -> str:
        """Say what a store lacks that has no usable image."""
        return f"{store.path} has no annotated image"

    def check(self, real: Store, synthetic: Sequence[Store]) -> None:
        """Raise BadInput where synthetic images hold no box, or boxes of other labels."""
        for store in synthetic:
            if not any(map(len, store.boxes)):
                raise BadInput(f"{store.path} holds no box: its generator was not told where a lesion should be")
            if store.spec.label_names != real.spec.label_names:
                raise BadInput(
                    f"{store.path} has the labels {', '.join(store.spec.label_names)}, {real.path} has "
                    f"{', '.join(real.spec.label_names)}"
                )

    def measurable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say what is missing where nothing can be measured on some images; None where it can."""
        return None if any(len(store.boxes[i]) for i in indices) else "no box"

    def telling(self, store: Store, indices: np.ndarray) -> bool:
        """Tell whether a patient has a box: of those without one no share is found."""
        return self.measurable(store, indices) is None

    def score(self, store: Store, indices: np.ndarray, answers: Sequence[Detections]) -> dict[str, float]:
        """Return the mean sensitivity at one false positive per slice; see metrics.validation_score."""
        from medaug_cli.metrics import validation_score

        return validation_score([store.boxes[i] for i in indices], [store.labels[i] for i in indices], answers)

    def answers(self, store: Store, indices: np.ndarray, found: Sequence[Detections]) -> FoundAnswers:
        """Return detections on some images, matched with their boxes at every IoU."""
        boxes = found_boxes(found, store.spec.dims, [store.ids[i] for i in indices])
        labels = len(store.spec.label_names)
        if len(boxes.labels) and not (boxes.labels.min() >= 0 and boxes.labels.max() < labels):
            raise MedaugError(f"a detector returned a label outside 0 to {labels - 1}")
        data = annotated(store, indices)
        cohort = cohort_of(data)
        matched = match_detections(data, cohort, boxes, tuple(dict.fromkeys((*IOUS, MAP_IOU))))
        return FoundAnswers.of(matched.scored, cohort, matched=matched)

    def counts(self, store: Store, indices: np.ndarray) -> dict[str, int]:
        """Return the boxes of some images."""
        return {"boxes": sum(len(store.boxes[i]) for i in indices)}

    def settings(self) -> dict[str, Any]:
        """Return the IoUs, and the score from which Table 1 counts."""
        return {"ious": list(IOUS), "threshold": THRESHOLD}


def annotated(store: Store, indices: np.ndarray) -> Annotated:
    """Return the boxes of some images of a store."""
    truth = true_boxes([store.boxes[i] for i in indices], [store.labels[i] for i in indices], store.spec.dims)
    spacing = store.spacing[indices, ::-1].astype(np.float64)
    return Annotated(
        tuple(store.ids[i] for i in indices),
        tuple(store.patients[i] for i in indices),
        store.spec.label_names,
        truth,
        store.spec.dims,
        None if np.isnan(spacing).any() else spacing,
    )
