"""Segmentation: a label a pixel (Han et al., 2.7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.segmentation import Overlap, dice, measures, overlap
from medaug_cli.store import Store
from medaug_cli.tasks.task import Task, patient_numbers

ALL = "lesion"  # what a mask without names of its values marks


@dataclass(frozen=True)
class MaskAnswers:
    """How label maps overlap with the truth, label by label, and which patient each image is of."""

    rows: dict[str, list[Overlap]]  # label -> (n,)
    patients: np.ndarray  # (n,) int64, from 0

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every number (r,); of several labels also each label's, and the means under the plain names."""
        found = {label: measures(rows, self.patients, weights) for label, rows in self.rows.items()}
        names = list(next(iter(found.values())))
        means = {name: _mean([numbers[name] for numbers in found.values()]) for name in names}
        if len(found) == 1:
            return means
        return means | {f"{name}[{label}]": value for label, each in found.items() for name, value in each.items()}

    def joined(self, other: Self, patients: int) -> "MaskAnswers":
        """Return the answers of both; the other's patients are counted on from `patients`."""
        rows = {label: rows + other.rows[label] for label, rows in self.rows.items()}
        return replace(self, rows=rows, patients=np.concatenate([self.patients, other.patients + patients]))


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean (r,) over labels of what is known."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    counts = known.sum(0)
    return np.divide(np.where(known, stacked, 0).sum(0), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _lower(name: str, words: str, operating: bool = False) -> Measure:
    limits = (0.0, np.inf)
    return Measure(name, f"{words} (lower is better)", 2, larger_is_better=False, bounds=limits, operating=operating)


class Segmentation(Task):
    """Outline what a mask marks."""

    name: ClassVar[str] = "segmentation"
    kind: ClassVar[str] = "segmenter"
    needs: ClassVar[str] = "mask"
    names: ClassVar[str] = "mask_names"
    headline: ClassVar[str] = "dice"
    main: ClassVar[tuple[str, ...]] = (
        "dice", "dice_image", "hausdorff95", "lesion_sensitivity", "false_lesions_per_image",
    )  # fmt: skip
    measures: ClassVar[Mapping[str, Measure]] = {
        one.name: one
        for one in (
            Measure("dice", "Dice by patient", compared=True),
            Measure("iou", "IoU by patient"),
            Measure("dice_image", "Dice by image", compared=True),
            Measure("iou_image", "IoU by image"),
            _lower("hausdorff95", "95 % Hausdorff distance", operating=True),
            _lower("surface_distance", "mean surface distance"),
            Measure("lesion_sensitivity", "share of lesions found", compared=True),
            _lower("false_lesions_per_image", "false lesions an image", operating=True),
            _lower("volume_error", "relative error of the volume, by patient", operating=True),
        )
    }

    def usable(self, store: Store) -> np.ndarray:
        """Return which images (n,) bool a segmenter can learn from or be judged on: all that were annotated by masks.

        One without a lesion has an empty mask: an answer there is a false one.
        """
        return store.annotated if store.masks is not None else np.zeros(len(store), bool)

    def wanting(self, store: Store) -> str:
        """Say what a store lacks that has no usable image."""
        return f"{store.path} holds no masks (preprocess --masks)"

    def check(self, real: Store, synthetic: Sequence[Store]) -> None:
        """Raise BadInput where no training mask marks anything, or synthetic images have no masks or other labels."""
        if real.masks is None or self.measurable(real, real.indices("train")):
            raise BadInput(f"{real.path} has no mask in its training split that marks anything")
        for store in synthetic:
            if store.masks is None:
                raise BadInput(f"{store.path} holds no masks: its generator did not say what it drew where")
            if store.info.mask_names != real.info.mask_names:
                raise BadInput(
                    f"the masks of {store.path} stand for {', '.join(store.info.mask_names) or ALL}, those of "
                    f"{real.path} for {', '.join(real.info.mask_names) or ALL}"
                )

    def measurable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say what is missing where nothing can be measured on some images; None where it can."""
        assert store.masks is not None
        return None if any(np.any(store.masks[i]) for i in indices) else "no mask that marks anything"

    def answers(self, store: Store, indices: np.ndarray, found: Sequence[np.ndarray]) -> MaskAnswers:
        """Return how label maps (*s) overlap with the masks of some images."""
        rows: dict[str, list[Overlap]] = {label: [] for label in labels_of(store)}
        for i, answer in zip(indices, found, strict=True):
            spacing = store.spacing[i]
            step = None if np.isnan(spacing).any() else spacing.tolist()
            for value, each in enumerate(rows.values(), 1):
                each.append(overlap(marked(store, i, value), is_label(answer, value, store), step))
        return MaskAnswers(rows, patient_numbers(store, indices))

    def score(self, store: Store, indices: np.ndarray, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Return the mean Dice over validation patients, whose pixels are pooled."""
        patients = [store.patients[i] for i in indices]
        scores = []
        for value in range(1, len(labels_of(store)) + 1):
            counts: dict[str, np.ndarray] = {}
            for i, patient, answer in zip(indices, patients, found, strict=True):
                truth, said = marked(store, i, value), is_label(answer, value, store)
                add = np.array([truth.sum(), said.sum(), (truth & said).sum()])
                counts[patient] = counts.get(patient, np.zeros(3)) + add
            scores.append(np.mean([float(dice(*each)) for each in counts.values()]))
        return {"score": float(np.mean(scores)), "dice": float(np.mean(scores))}

    def counts(self, store: Store, indices: np.ndarray) -> dict[str, int]:
        """Return the images that show each label."""
        return {
            label: sum(bool(marked(store, int(i), value).any()) for i in indices)
            for value, label in enumerate(labels_of(store), 1)
        }


def labels_of(store: Store) -> list[str]:
    """Return what the values 1, 2, ... of masks stand for."""
    return store.info.mask_names or [ALL]


def marked(store: Store, index: int, value: int) -> np.ndarray:
    """Return where (*s) bool the mask of an image says a label; without names all but 0 is one."""
    assert store.masks is not None
    mask = np.asarray(store.masks[index])
    return mask == value if store.info.mask_names else mask > 0


def is_label(answer: np.ndarray, value: int, store: Store) -> np.ndarray:
    """Return where (*s) bool a label map says a label."""
    return answer == value if store.info.mask_names else answer > 0
