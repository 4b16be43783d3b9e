"""Segmentation: a label a pixel (Han et al., 2.7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.metrics.measures import Measure, Numbers, in_blocks
from medaug_cli.metrics.segmentation import Overlap, dice, measures, overlap
from medaug_cli.store import Store
from medaug_cli.tasks.cases import Cases, Each
from medaug_cli.tasks.task import Figure, Task

ALL = "lesion"  # what a mask without names of its values marks


@dataclass(frozen=True)
class MaskAnswers:
    """How label maps overlap with the truth, label by label, and which patient each image is of."""

    rows: dict[str, list[Overlap]]  # label -> (n,)
    patients: np.ndarray  # (n,) int64, from 0
    unit: str = "pixels"  # of distances

    @property
    def unit_words(self) -> str:
        """Say in which unit distances are."""
        return f"distances are in {self.unit}{'' if self.unit == 'mm' else ', since not every image names its spacing'}"

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every number (r,); of several labels also each label's, and the means under the plain names.

        A mean is over the labels of which the number is known; weights without one of them have none, as the mean of
        fewer labels would be another number.
        """
        return in_blocks(self._measured, weights, len(self.patients))

    def _measured(self, weights: np.ndarray) -> Numbers:
        found = self._of_labels(weights)
        means = {
            name: _mean([found[label][name] for label in known], len(weights)) for name, known in self._known.items()
        }
        if len(found) == 1:
            return means
        return means | {f"{name}[{label}]": value for label, each in found.items() for name, value in each.items()}

    def _of_labels(self, weights: np.ndarray) -> dict[str, Numbers]:
        return {label: measures(rows, self.patients, weights) for label, rows in self.rows.items()}

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        """Return the labels of which each number is known."""
        found = self._of_labels(np.ones((1, int(self.patients.max(initial=-1)) + 1)))
        names = next(iter(found.values()))
        return {name: [label for label, each in found.items() if np.isfinite(each[name][0])] for name in names}

    def shared_with(self, others: Sequence[Self]) -> Self:
        """Return the answers without the distances of images of which others have none."""
        gaps = {
            label: np.isnan([[row.hausdorff95 for row in each.rows[label]] for each in (self, *others)])
            for label in self.rows
        }  # (1 + others, n)
        if all((each[0] == each.any(0)).all() for each in gaps.values()):
            return self
        rows = {
            label: [
                row.without_distances() if lost.any() else row for row, lost in zip(own, gaps[label].T, strict=True)
            ]
            for label, own in self.rows.items()
        }
        return replace(self, rows=rows)

    def joined(self, other: Self, patients: int) -> "MaskAnswers":
        """Return the answers of both; the other's patients are counted on from `patients`."""
        rows = {label: rows + other.rows[label] for label, rows in self.rows.items()}
        return replace(self, rows=rows, patients=np.concatenate([self.patients, other.patients + patients]))


def _mean(values: Sequence[np.ndarray], resamples: int) -> np.ndarray:
    return np.mean(values, 0) if values else np.full(resamples, np.nan)


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
            _lower("false_lesions_per_image", "false lesions per image", operating=True),
            _lower("volume_error", "relative error of the volume, by patient", operating=True),
        )
    }

    def usable(self, store: Store) -> np.ndarray:
        """Return which images (n,) bool a segmenter can learn from or be judged on: all that were annotated by masks.

        One without a lesion has an empty mask: an answer there is a false one. One with a lesion that is boxed and not
        outlined cannot be used.
        """
        return store.annotated & store.outlined

    def wanting(self, store: Store) -> str:
        """Say what a store lacks that has no usable image."""
        if store.masks is None:
            return f"{store.path} holds no masks (preprocess --masks)"
        return f"{store.path} has no mask that marks anything in every box of its image"

    def check(self, real: Store, synthetic: Sequence[Store]) -> None:
        """Raise BadInput where no training mask marks anything, or synthetic images have no masks or other labels."""
        if real.masks is None or self.measurable(real, real.indices("train")):
            raise BadInput(f"{real.path} has no mask in its training split that marks anything")
        for store in synthetic:
            if store.masks is None:
                raise BadInput(
                    f"{store.path} holds no masks: its generator did not say what it drew where; draw images by "
                    "synthesize --like and a generator that knows them (as boxgan with form=mask)"
                )
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
        return mask_answers(mask_cases(store, indices), _as_labels(store, found))

    def score(self, store: Store, indices: np.ndarray, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Return the mean Dice over validation patients, whose pixels are pooled."""
        cases = mask_cases(store, indices)
        counts = np.zeros((3, len(cases.names), cases.patient_count))  # true, found, both
        for unit, truth, answer in zip(cases.units, cases.truth, _as_labels(store, found), strict=True):
            for k in range(len(cases.names)):
                true, said = truth == k + 1, answer == k + 1
                counts[:, k, unit] += true.sum(), said.sum(), (true & said).sum()
        score = float(dice(*counts).mean())
        return {"score": score, "dice": score}

    def counts(self, store: Store, indices: np.ndarray) -> dict[str, int]:
        """Return how many images have each label."""
        return mask_counts(mask_cases(store, indices))

    def remarks(self, answers: Mapping[str, MaskAnswers]) -> list[str]:
        """Say in which unit distances are, and how many images a rule for empty masks decided."""
        return mask_remarks(answers)

    def figures(
        self,
        store: Store,
        indices: np.ndarray,
        answers: Mapping[str, MaskAnswers],
        found: Mapping[str, Sequence[np.ndarray]],
        most: int,
    ) -> list[Figure]:
        """Return the pictures of some images of a store; see `pictures`."""
        labels = {name: _as_labels(store, each) for name, each in found.items()}
        return self.pictures(mask_cases(store, indices), answers, labels, most)

    def pictures(
        self, cases: Cases, answers: Mapping[str, MaskAnswers], found: Mapping[str, Sequence[np.ndarray]], most: int
    ) -> list[Figure]:
        """Return Dice against the size of lesions, and outlines from the worst image to the best."""
        from medaug_cli.tasks.mask_figures import mask_figures

        return mask_figures(cases, answers, found, most)


def mask_cases(store: Store, indices: np.ndarray) -> Cases:
    """Return some images of a store with their masks; without names of its values all but 0 is one label."""
    masks = store.masks
    assert masks is not None
    spacing = store.spacing[indices]
    return Cases(
        ids=[store.ids[i] for i in indices],
        patients=[store.patients[i] for i in indices],
        names=tuple(store.info.mask_names or [ALL]),
        truth=_as_labels(store, Each(len(indices), lambda k: np.asarray(masks[int(indices[k])]))),
        picture=lambda k: np.asarray(store.images[int(indices[k])]),
        spacing=[None if np.isnan(each).any() else each.tolist() for each in spacing],
    )


def _as_labels(store: Store, maps: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return label maps as a store tells labels apart: all but 0 is one where it names none."""
    return maps if store.info.mask_names else Each(len(maps), lambda k: (np.asarray(maps[k]) > 0).astype(np.uint8))


def mask_answers(cases: Cases, found: Sequence[np.ndarray]) -> MaskAnswers:
    """Return how label maps (*s) overlap with the truth; distances are in mm where the spacing of all is known."""
    in_mm = bool(cases.spacing) and None not in cases.spacing
    rows: dict[str, list[Overlap]] = {label: [] for label in cases.names}
    for k, (truth, answer) in enumerate(zip(cases.truth, found, strict=True)):
        step = cases.spacing[k] if in_mm else None
        for value, each in enumerate(rows.values(), 1):
            each.append(overlap(truth == value, answer == value, step))
    return MaskAnswers(rows, cases.units, "mm" if in_mm else "pixels")


def mask_counts(cases: Cases) -> dict[str, int]:
    """Return how many images have each label."""
    counts = dict.fromkeys(cases.names, 0)
    for truth in cases.truth:
        for value in np.unique(truth)[np.unique(truth) > 0].tolist():
            counts[cases.names[value - 1]] += 1
    return counts


def mask_remarks(answers: Mapping[str, MaskAnswers]) -> list[str]:
    """Say in which unit distances are, and how many images a rule for empty masks decided."""
    first, *others = answers.values()
    said = [f"{first.unit_words.capitalize()}."]
    if any(one.shared_with([two]) is not one for each in others for one, two in ((first, each), (each, first))):
        said.append("Differences of distances are of the images for which both have one.")
    for name, each in answers.items():
        for label, rows in each.rows.items():
            if parts := _decided(rows):
                said.append(f"{name}{f', {label}' if len(each.rows) > 1 else ''}: {'; '.join(parts)}.")
    return said


def _decided(rows: Sequence[Overlap]) -> list[str]:
    """Say how many images each rule for empty masks decided."""
    counts = {
        "empty as the truth is (Dice 1)": sum(not row.true and not row.found for row in rows),
        "missed altogether (Dice 0, no distance)": sum(row.true > 0 and not row.found for row in rows),
        "marked where nothing is (Dice 0, no distance)": sum(row.found > 0 and not row.true for row in rows),
    }
    return [f"{count} image{'' if count == 1 else 's'} {words}" for words, count in counts.items() if count]
