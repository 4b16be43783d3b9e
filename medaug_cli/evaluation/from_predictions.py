"""Evaluate anyone's class probabilities or masks against the truth in files: no store, no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.arguments import seeds_of
from medaug_cli.evaluation.class_files import read_class_truth, read_probabilities
from medaug_cli.evaluation.folder import EVALUATION
from medaug_cli.evaluation.from_files import sha256_below
from medaug_cli.evaluation.mask_files import NPY, read_cases, read_mask_predictions, read_mask_truth
from medaug_cli.evaluation.named_images import ImageNames
from medaug_cli.evaluation.whole_images import Judged, TaskRequest, publish_judged
from medaug_cli.files import files_below, name_of
from medaug_cli.results import check_folder
from medaug_cli.scans.reading import read_stored, stem_of, suffix_of, suffixes
from medaug_cli.tasks.cases import Cases
from medaug_cli.tasks.classification import Classification, class_answers, class_counts
from medaug_cli.tasks.report import TaskMetrics
from medaug_cli.tasks.segmentation import Segmentation, mask_answers, mask_counts
from medaug_cli.tasks.task import Figure, Task

TABLES = (".csv", ".tsv", ".txt")
Systems = Mapping[str, Sequence[Path]]


def evaluate_predictions(
    truth: Path,
    predictions: Systems,
    request: TaskRequest,
    split: str | None = None,
    images: Path | None = None,
    patients: Path | None = None,
) -> TaskMetrics:
    """Measure CSV files of class probabilities, or folders of masks, and publish the evaluation folder.

    The truth is a CSV of classes, or a folder of masks. `images` is a folder that holds the pictures by the names of
    the images, for mistakes and outlines; `patients` a CSV that names the patient of each image.
    """
    files = _Files(truth, predictions, images=images, patients=patients)
    check_folder(request.out, EVALUATION, request.overwrite, files.reads)
    files.check()
    if truth.is_file() and truth.suffix.lower() in TABLES:
        judged = _judged_classes(files, request.most, split)
    elif split is not None:
        raise UsageError("--split chooses rows of a CSV of classes; a folder of masks has no splits")
    else:
        judged = _judged_masks(files, request.most)
    return publish_judged(judged, request, files.reads)


@dataclass(frozen=True)
class _Files:
    """What is read: the truth, the predictions, and what may stand beside them."""

    truth: Path
    predictions: Systems
    images: Path | None
    patients: Path | None

    @property
    def reads(self) -> list[Path]:
        """Return the truth and the predictions."""
        return [self.truth, *(path for paths in self.predictions.values() for path in paths)]

    def check(self) -> None:
        """Raise BadInput where one does not exist."""
        for path in (*self.reads, *(each for each in (self.images, self.patients) if each is not None)):
            if not path.exists():
                raise BadInput(f"{path} does not exist")
        if self.images is not None and not self.images.is_dir():
            raise BadInput(f"{self.images} is not a folder of images")

    def judged(
        self, task: Task, cases: Cases, *, answers: Mapping[str, Any], counts: Mapping[str, int],
        figures: Callable[[], list[Figure]], split: str | None = None,
    ) -> Judged:  # fmt: skip
        """Return what the predictions answer on some cases, and where all of it came from."""
        return Judged(
            task=task,
            answers=answers,
            systems=self.predictions,
            patients=cases.patient_count,
            images=len(cases),
            data={name_of(self.truth): sha256_below(self.truth)},
            weights={name: sha256_below(path) for name, path in seeds_of(self.predictions).items()},
            counts=counts,
            split=split,
            resampled="patients" if cases.names_patients else "images",
            figures=figures,
        )


def _judged_classes(files: _Files, most: Callable[[int], int], split: str | None) -> Judged:
    truth, found = files.truth, {}
    asked = read_class_truth(truth, split, files.patients)
    for name, path in seeds_of(files.predictions).items():
        if path.is_dir():
            raise BadInput(f"{path} is a folder, but the truth {truth} is a CSV of classes; give CSV files")
        found[name] = read_probabilities(path, asked, truth)
    cases = asked.cases
    if files.images is not None:
        seen = _Pictures(files.images)
        cases = replace(cases, picture=lambda k: seen.of(cases.ids[k]))
    answers = {name: class_answers(cases, list(each)) for name, each in found.items()}
    task = Classification()
    return files.judged(
        task,
        cases,
        answers=answers,
        counts=class_counts(cases),
        figures=lambda: task.pictures(cases, answers, most(len(cases))),
        split=asked.split,
    )


def _judged_masks(files: _Files, most: Callable[[int], int]) -> Judged:
    truth = files.truth
    if truth.is_file() and suffix_of(truth) not in (*suffixes(), NPY):
        raise BadInput(
            f"{truth} is neither a CSV of classes nor a mask ({', '.join((*suffixes(), NPY))}); "
            "COCO annotations go with --detections"
        )
    known = read_mask_truth(truth)
    folders = {name: read_mask_predictions(path, known) for name, path in seeds_of(files.predictions).items()}
    pictures = _Pictures(files.images).sized if files.images is not None else _black
    cases, found = read_cases(known, folders, pictures, files.patients)
    answers = {name: mask_answers(cases, each) for name, each in found.items()}
    task = Segmentation()
    return files.judged(
        task,
        cases,
        answers=answers,
        counts=mask_counts(cases),
        figures=lambda: task.pictures(cases, answers, found, most(len(cases))),
    )


class _Pictures:
    """The pictures or volumes of a folder, by name."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files = [path for path in files_below(folder) if suffix_of(path) in suffixes()]
        self._names = ImageNames([(path.parent / stem_of(path)).relative_to(folder).as_posix() for path in self._files])

    def of(self, name: str) -> np.ndarray | None:
        """Return an image (c, *s) in [0, 1], None where there is none of that name."""
        index = self._names.find(name)
        if index is None:
            return None
        image = read_stored((self._files[index],)).image
        low, high = np.percentile(image, (0.5, 99.5)) if image.ndim == 4 else (0, max(255.0, float(image.max())))
        return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)

    def sized(self, name: str, spatial: tuple[int, ...]) -> np.ndarray:
        """Return the image behind a mask, black where there is none; raise BadInput for one of another size."""
        found = self.of(name)
        if found is None:
            return _black(name, spatial)
        if found.shape[1:] != spatial:
            sizes = ["x".join(map(str, each)) for each in (found.shape[1:], spatial)]
            raise BadInput(f"{self._folder}: the image {name} is {sizes[0]}, but its mask is {sizes[1]}")
        return found


def _black(name: str, spatial: tuple[int, ...]) -> np.ndarray:
    return np.zeros((1, *spatial), np.uint8)
