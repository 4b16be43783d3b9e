"""Classification: a class a whole image (Han et al., 2.5)."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.metrics.classification import SPECIFICITY, Classified, by_patient, measures
from medaug_cli.metrics.measures import Measure, Numbers, in_blocks
from medaug_cli.store import Store
from medaug_cli.tasks.cases import Cases
from medaug_cli.tasks.task import Figure, Task

BY_PATIENT = " by patient"
AT_SPECIFICITY = f"sensitivity at {SPECIFICITY:.0%} specificity"
MEASURES = (
    Measure("balanced_accuracy", "balanced accuracy", compared=True),
    Measure("accuracy", "accuracy", compared=True),
    Measure("auc", "AUC", compared=True),
    Measure("brier", "Brier score (lower is better)", larger_is_better=False, bounds=(0.0, 2.0), compared=True),
    Measure("calibration_error", "expected calibration error (lower is better)", larger_is_better=False, compared=True),
    Measure("sensitivity", "sensitivity", operating=True),
    Measure("specificity", "specificity", operating=True),
    Measure(AT_SPECIFICITY, AT_SPECIFICITY),
)


@dataclass(frozen=True)
class ClassAnswers:
    """Probabilities of the classes of images, and which patient each image is of."""

    images: Classified
    patients: np.ndarray  # (n,) int64, from 0

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every number (r,) by image, and those of patients' mean probabilities."""
        whole, names = by_patient(self.images, [f"{patient:09d}" for patient in self.patients])
        units = [int(name) for name in names]

        def some(weights: np.ndarray) -> Numbers:
            numbers = measures(whole, weights[:, units])
            by = {f"{name}{BY_PATIENT}": value for name, value in numbers.items()}
            return measures(self.images, weights[:, self.patients]) | by

        return in_blocks(some, weights, len(self.patients))

    def joined(self, other: Self, patients: int) -> "ClassAnswers":
        """Return the answers of both; the other's patients are counted on from `patients`."""
        one, two = self.images, other.images
        both = Classified(
            np.concatenate([one.truth, two.truth]),
            np.concatenate([one.probabilities, two.probabilities]),
            one.class_names,
        )
        return ClassAnswers(both, np.concatenate([self.patients, other.patients + patients]))


class Classification(Task):
    """Tell the class of an image."""

    name: ClassVar[str] = "classification"
    kind: ClassVar[str] = "classifier"
    needs: ClassVar[str] = "class"
    names: ClassVar[str] = "class_names"
    headline: ClassVar[str] = "balanced_accuracy"
    main: ClassVar[tuple[str, ...]] = (
        "balanced_accuracy", "auc", "accuracy", f"balanced_accuracy{BY_PATIENT}", f"auc{BY_PATIENT}", "brier",
        "calibration_error",
    )  # fmt: skip
    operating: ClassVar[str] = "Each class against the rest, the most probable class being the answer"
    measures: ClassVar[Mapping[str, Measure]] = {
        f"{one.name}{by}": replace(
            one, name=f"{one.name}{by}", words=f"{one.words}{by}", operating=one.operating and not by
        )
        for by in ("", BY_PATIENT)
        for one in MEASURES
    }

    def usable(self, store: Store) -> np.ndarray:
        """Return which images (n,) bool a classifier can learn from or be judged on: those with a class."""
        return store.classes >= 0

    def wanting(self, store: Store) -> str:
        """Say what a store lacks that has no usable image."""
        return f"{store.path} names no class of its images (preprocess --classes)"

    def check(self, real: Store, synthetic: Sequence[Store]) -> None:
        """Raise BadInput where there is nothing to tell apart, or synthetic images are of no class."""
        for store in synthetic:
            if not self.usable(store).all():
                raise BadInput(f"{store.path} holds images without a class: draw them with a class (synthesize --like)")
            unknown = sorted(set(store.class_names) - set(real.class_names))
            if unknown:
                raise BadInput(
                    f"{store.path} has the class {unknown[0]!r}; {real.path} has {', '.join(real.class_names)}"
                )
        if lacking := self.teachable(real, np.flatnonzero(self.usable(real) & (real.splits == "train"))):
            raise BadInput(f"{real.path} has {lacking}")

    def measurable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say what is missing where nothing can be measured on some images; None where it can."""
        return None if len(np.unique(store.classes[indices])) > 1 else "no images of two classes"

    def teachable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say which class some training images lack; None where each is there."""
        if len(store.class_names) < 2:
            return f"{len(store.class_names)} classes; a classifier tells two or more apart"
        seen = np.bincount(store.classes[indices], minlength=len(store.class_names))
        missing = [name for name, count in zip(store.class_names, seen, strict=True) if not count]
        return f"no training image of the class {missing[0]!r}" if missing else None

    def answers(self, store: Store, indices: np.ndarray, found: Sequence[np.ndarray]) -> ClassAnswers:
        """Return what a classifier says of some images as answers that can be measured."""
        return class_answers(class_cases(store, indices), found)

    def score(self, store: Store, indices: np.ndarray, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Return the balanced accuracy on validation images; ties are broken by the area under the ROC curve."""
        images = self.answers(store, indices, found).images
        numbers = {name: float(value[0]) for name, value in measures(images, np.ones((1, len(indices)))).items()}
        area = numbers["auc"] if np.isfinite(numbers["auc"]) else 0.5
        balanced = numbers["balanced_accuracy"]
        return {"score": balanced + 1e-3 * area, "balanced_accuracy": balanced, "auc": area}

    def counts(self, store: Store, indices: np.ndarray) -> dict[str, int]:
        """Return how many images there are of each class."""
        return class_counts(class_cases(store, indices))

    def figures(
        self,
        store: Store,
        indices: np.ndarray,
        answers: Mapping[str, ClassAnswers],
        found: Mapping[str, Sequence[np.ndarray]],
        most: int,
    ) -> list[Figure]:
        """Return the pictures of some images of a store; see `pictures`."""
        return self.pictures(class_cases(store, indices), answers, most)

    def pictures(self, cases: Cases, answers: Mapping[str, ClassAnswers], most: int) -> list[Figure]:
        """Return confusion, ROC curves, calibration and the most confident mistakes."""
        from medaug_cli.tasks.class_figures import class_figures

        return class_figures(cases, answers, most)

    def files(self, store: Store, indices: np.ndarray, found: Mapping[str, Sequence[np.ndarray]]) -> dict[str, bytes]:
        """Return the truth and each classifier's probabilities as CSV, which `evaluate --truth --predictions` reads."""
        cases = class_cases(store, indices)
        return {"truth.csv": truth_csv(cases)} | {
            f"predictions/{name}.csv": probabilities_csv(cases, each) for name, each in found.items()
        }


def class_cases(store: Store, indices: np.ndarray) -> Cases:
    """Return some images of a store with their classes."""
    return Cases(
        ids=[store.ids[i] for i in indices],
        patients=[store.patients[i] for i in indices],
        names=tuple(store.class_names),
        truth=store.classes[indices],
        picture=lambda k: np.asarray(store.images[int(indices[k])]),
    )


def class_answers(cases: Cases, found: Sequence[np.ndarray]) -> ClassAnswers:
    """Return probabilities (k,) of each image as answers that can be measured."""
    return ClassAnswers(
        Classified(np.asarray(cases.truth), np.stack(found).astype(np.float64), cases.names), cases.units
    )


def class_counts(cases: Cases) -> dict[str, int]:
    """Return how many images there are of each class."""
    numbers = np.bincount(np.asarray(cases.truth), minlength=len(cases.names))
    return dict(zip(cases.names, numbers.tolist(), strict=True))


def truth_csv(cases: Cases) -> bytes:
    """Return one row per image: its name, patient and class."""
    rows = zip(cases.ids, cases.patients, (cases.names[int(k)] for k in cases.truth), strict=True)
    return _csv(["image", "patient", "class"], rows)


def probabilities_csv(cases: Cases, found: Sequence[np.ndarray]) -> bytes:
    """Return one row per image: its name, and the probability of each class."""
    return _csv(
        ["image", *cases.names],
        ([name, *(repr(float(p)) for p in each)] for name, each in zip(cases.ids, found, strict=True)),
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")
