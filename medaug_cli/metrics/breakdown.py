"""What stands behind one detector's figures at one score: errors by kind, lesions by size, slices and patients."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medaug_cli.boxes import Strict
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, without_crowds
from medaug_cli.metrics.matching import BY_DISTANCE
from medaug_cli.metrics.operating import (
    MATCHED_FPS,
    Matched,
    Sightings,
    curve_numbers,
)

NEAR = 0.1  # IoU from which a detection lies near a lesion (Bolya et al. 2020, section 2.2)
EDGES = {"pixels": (32.0, 96.0), "mm": (5.0, 10.0, 20.0)}  # of the sizes, as the side of a square of the same area
KINDS = ("duplicate", "wrong class", "poorly localised", "wrong class and place", "background")


class Errors(Strict):
    """Every false positive and every missed lesion, once: after TIDE (Bolya et al. 2020).

    The first that holds: `duplicate`, IoU of a hit with a found lesion; `wrong_class`, with a lesion of another
    class; `poorly_localised`, an IoU of 0.1 with a lesion; `wrong_class_and_place`, with one of another class;
    `background`. A missed lesion is `missed_near` where a false positive of its class lies on or near it, or one of
    another class on it.
    """

    correct: int
    duplicate: int
    wrong_class: int
    poorly_localised: int
    wrong_class_and_place: int
    background: int
    missed: int
    missed_near: int  # of those missed


class SizeGroup(Strict):
    """How many lesions of one size are found; size is the side of a square (cube) of the lesion's area (volume)."""

    at_least: float
    below: float | None
    unit: str  # pixels or mm
    boxes: int
    sensitivity: float | None  # of several seeds: their mean

    def words(self) -> str:
        """Write the sizes of the group: 32 to 96 px."""
        unit = "px" if self.unit == "pixels" else self.unit
        if self.below is None:
            return f"from {self.at_least:.3g} {unit}"
        return f"{self.at_least:.3g} to {self.below:.3g} {unit}"


class OnLesionSlices(Strict):
    """The figures of the slices that hold a lesion, as if there were no others."""

    slices: int
    fps_per_slice: float | None  # at the score threshold of Table 1
    at_fps: dict[str, float | None]
    cpm: float | None


class Breakdown(Strict):
    """A detector at the lowest score that keeps to one false positive per slice; null where nothing is defined."""

    score: float | None  # None: no detection keeps to that
    sensitivity: float | None
    fps_per_slice: float
    errors: Errors | None  # None by rules that ask for no IoU
    sizes: list[SizeGroup]
    slice_sensitivity: float | None  # share of slices with a lesion on which one is found
    slice_specificity: float | None  # share of slices without a lesion that have no detection
    slice_auc: float | None  # of the best score on a slice, lesion or none; at every threshold
    patient_sensitivity: float | None  # mean over patients with lesions of the share found
    patients_wholly_found: int
    patients_without_a_find: int
    patients_with_lesions: int
    fps_per_patient: float
    on_lesion_slices: OnLesionSlices


def break_down(
    matched: Matched, iou: float, score: float | None, threshold: float, edges: tuple[float, ...] | None = None
) -> Breakdown:
    """Return what stands behind a detector's figures at `score`; `threshold` is Table 1's."""
    data, cohort, found = matched.data, matched.cohort, matched.found
    seen = matched.at(iou, np.inf if score is None else score)
    truth, count = without_crowds(data.truth), len(data)
    lesions = np.bincount(truth.images, minlength=count)
    hits = np.bincount(truth.images[seen.found], minlength=count)
    kept = np.bincount(found.images[seen.kept], minlength=count)
    patients = len(cohort.patients)
    of_patient = np.bincount(cohort.patient_of, lesions, patients)
    found_of_patient = np.bincount(cohort.patient_of, hits, patients)
    having = of_patient > 0
    return Breakdown(
        score=score,
        sensitivity=_share(seen.found),
        fps_per_slice=float(seen.false.sum() / count),
        errors=None if matched.rule in BY_DISTANCE else _errors(data, found, seen, iou),
        sizes=by_size(data, [seen], edges),
        slice_sensitivity=_share(hits[lesions > 0] > 0),
        slice_specificity=_share(kept[lesions == 0] == 0),
        slice_auc=slice_auc(lesions > 0, found),
        patient_sensitivity=_share(found_of_patient[having] / of_patient[having]),
        patients_wholly_found=int((found_of_patient[having] == of_patient[having]).sum()),
        patients_without_a_find=int((found_of_patient[having] == 0).sum()),
        patients_with_lesions=int(having.sum()),
        fps_per_patient=float(seen.false.sum() / patients),
        on_lesion_slices=_on_lesion_slices(matched, iou, threshold, lesions > 0),
    )


def _share(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def error_kinds(data: Annotated, found: FoundBoxes, seen: Sightings, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each detection (n,), an index into KINDS or -1 where it is right, and which box it is near.

    The box (n,) is one of those that are not a crowd, or -1.
    """
    from medaug_cli.metrics.kernels import counting_sort
    from medaug_cli.metrics.rule_kernels import best_overlaps

    truth = without_crowds(data.truth)
    order, begins = counting_sort(np.arange(len(truth.images), dtype=np.int64), truth.images, len(data))
    values, which = best_overlaps(
        found.images, found.labels, found.boxes, found.volumes, order, begins, truth.labels, truth.boxes, truth.volumes
    )
    (own, other), tests = values.T, []
    for least in (min(iou, 1 - 1e-10), NEAR):
        tests += [own >= least, other >= least]
    kinds = np.select([~seen.false, *tests], [-1, 0, 1, 2, 3], 4)
    near = np.where(np.isin(kinds, (1, 3)), which[:, 1], which[:, 0])
    return kinds, np.where((kinds >= 0) & (kinds < 4), near, -1)


def _errors(data: Annotated, found: FoundBoxes, seen: Sightings, iou: float) -> Errors:
    kinds, near = error_kinds(data, found, seen, iou)
    counts = {kind.replace(" ", "_"): int((kinds == i).sum()) for i, kind in enumerate(KINDS)}
    covered = np.zeros(len(seen.found), bool)
    covered[near[np.isin(kinds, (0, 1, 2))]] = True
    missed = ~seen.found
    return Errors(
        correct=int(seen.hit.sum()), missed=int(missed.sum()), missed_near=int((missed & covered).sum()), **counts
    )


def lesion_sizes(data: Annotated) -> tuple[np.ndarray, str]:
    """Return the side of a square or cube as large as each lesion, crowds left out (m,), and its unit."""
    truth = without_crowds(data.truth)
    if data.spacing is None:
        return truth.areas ** (1 / data.dims), "pixels"
    return (truth.areas * np.prod(data.spacing[truth.images], axis=1)) ** (1 / data.dims), "mm"


def by_size(data: Annotated, seeds: Sequence[Sightings], edges: tuple[float, ...] | None = None) -> list[SizeGroup]:
    """Return how many lesions of each size are found, mean over seeds; the edges are the sides of squares."""
    sizes, unit = lesion_sizes(data)
    edges = EDGES[unit] if edges is None else edges
    group = np.searchsorted(edges, sizes, "right")
    return [
        SizeGroup(
            at_least=low, below=high, unit=unit, boxes=int((group == i).sum()),
            sensitivity=_mean([_share(seen.found[group == i]) for seen in seeds]),
        )
        for i, (low, high) in enumerate(zip((0.0, *edges), (*edges, None), strict=True))
    ]  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def slice_auc(lesion: np.ndarray, found: FoundBoxes) -> float | None:
    """Return the area under the ROC curve of the best score on each slice; None where slices are all of one kind."""
    best = np.full(len(lesion), -np.inf)
    np.maximum.at(best, found.images, found.scores)
    positives = int(lesion.sum())
    negatives = len(lesion) - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(best, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # mean rank of equal scores
    return float((ranks[lesion].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _on_lesion_slices(matched: Matched, iou: float, threshold: float, lesion: np.ndarray) -> OnLesionSlices:
    cohort, patients = matched.cohort, len(matched.cohort.patients)
    part = replace(cohort, slices=np.bincount(cohort.patient_of[lesion], minlength=patients))
    scored = matched.on(lesion)
    numbers = {name: _defined(value[0]) for name, value in curve_numbers(
        scored, part, iou, threshold, np.ones((1, patients))).items()}  # fmt: skip
    return OnLesionSlices(
        slices=int(lesion.sum()), fps_per_slice=numbers["fps_per_slice"], cpm=numbers["cpm"],
        at_fps={f"{fps:g}": numbers[f"sensitivity_at_{fps:g}"] for fps in MATCHED_FPS},
    )  # fmt: skip


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
