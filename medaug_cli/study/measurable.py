"""What a study can measure on the images that it has: refused or said before anything is trained."""

from typing import TYPE_CHECKING

import numpy as np

from medaug_cli.embedding import LEAST
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.from_store import split_indices
from medaug_cli.lesion_filter.evidence import LEAST_BOXES
from medaug_cli.store import Store
from medaug_cli.study.subsets import chosen_patients, training_images
from medaug_cli.tasks.task import Task

if TYPE_CHECKING:
    from medaug_cli.study.running import StudyOptions


def check_measurable(options: "StudyOptions", store: Store) -> list[str]:
    """Return a sentence for each measure that cannot be had on this store.

    Raises UsageError or BadInput where the study could not end: nothing to judge on, or too little to learn or to
    filter by.
    """
    task = options.task
    judged = judged_images(store, task, options.split)
    if lacking := task.measurable(store, judged):
        raise UsageError(f"{options.store} has {lacking} in the {options.split} split, so there is nothing to judge")
    for fraction in options.fractions:
        _check_teachable(options, store, fraction)
    if any(arm.filtered for arm in options.arms):
        _check_filter(options, store)
    said = [one_patient(store, task, options.split, judged)]
    val = np.flatnonzero(task.usable(store) & (store.splits == "val"))
    if options.split != "val" and (lacking := task.measurable(store, val)):
        said.append(
            f"{options.store} has {lacking} in its validation split: weights are those of the last step, and no arm "
            "of a generator is chosen before another"
        )
    if any(arm.generator for arm in options.arms):
        held_out = sum(len(store.indices(split, "real")) for split in ("val", "test"))
        if held_out < LEAST:
            said.append(
                f"memorisation and the similarity of real to real images are not available: {held_out} held-out real "
                f"images, {LEAST} are needed"
            )
    return [sentence for sentence in said if sentence]


def judged_images(store: Store, task: Task, split: str) -> np.ndarray:
    """Return the images of a split that a task can be judged on; raise BadInput where there is none."""
    whole = np.flatnonzero(store.splits == split)
    if store.annotated[whole].any() or not len(whole):
        split_indices(store, split)
    chosen = whole[task.usable(store)[whole]]
    if not len(chosen):
        raise BadInput(f"nothing can be judged in the {split} split: {task.wanting(store)}")
    return chosen


def one_patient(store: Store, task: Task, split: str, judged: np.ndarray) -> str:
    """Say where one patient alone can be judged, so that nothing can be resampled; else nothing."""
    alone = {store.patients[i] for i in judged if not task.measurable(store, np.array([i]))}
    if len(alone or {store.patients[i] for i in judged}) > 1:
        return ""
    return f"intervals and verdicts are not available: one patient alone of the {split} split can be judged"


def _check_teachable(options: "StudyOptions", store: Store, fraction: float) -> None:
    patients = chosen_patients(store, options.task, fraction, options.seed)
    if lacking := options.task.teachable(store, training_images(store, options.task, patients)):
        of = store.path if fraction == 1 else f"--fraction {fraction:g} of {store.path}"
        raise UsageError(f"{of}: nothing can be learnt from the training split ({lacking})")


def _check_filter(options: "StudyOptions", store: Store) -> None:
    for fraction in options.fractions:
        kept = chosen_patients(store, options.task, fraction, options.seed)
        train = training_images(store, options.task, kept)
        boxes = sum(len(store.boxes[i]) for i in train)
        if boxes < LEAST_BOXES or len({store.patients[i] for i in train if len(store.boxes[i])}) < 2:
            raise UsageError(
                f"+filter needs {LEAST_BOXES} training boxes of 2 patients to learn from; --fraction {fraction:g} of "
                f"{options.store} has {boxes}"
            )
