"""What a study can measure on the images that it has: refused or said before anything is trained."""

from typing import TYPE_CHECKING

import numpy as np

from medaug_cli.embedding import LEAST
from medaug_cli.errors import UsageError
from medaug_cli.evaluation.from_store import split_indices
from medaug_cli.lesion_filter.evidence import LEAST_BOXES
from medaug_cli.store import Store
from medaug_cli.study.subsets import chosen_patients

if TYPE_CHECKING:
    from medaug_cli.study.running import StudyOptions


def boxes_of(store: Store, indices: np.ndarray) -> int:
    """Return how many boxes some images of a store hold."""
    return sum(len(store.boxes[i]) for i in indices)


def check_measurable(options: "StudyOptions", store: Store) -> list[str]:
    """Return a sentence for each measure that cannot be had on this store.

    Raises UsageError or BadInput where the study could not end: nothing to judge on, or too little to filter by.
    """
    judged = split_indices(store, options.split)
    if not boxes_of(store, judged):
        raise UsageError(f"{options.store} has no box in the {options.split} split, so there is nothing to find")
    if any(arm.filtered for arm in options.arms):
        _check_filter(options, store)
    said = [one_patient(store, options.split)]
    val = store.indices("val")
    if options.split != "val" and not boxes_of(store, val):
        said.append(
            f"{options.store} has no box in its validation split: weights are those of the last step, and no arm of a "
            "generator is chosen before another"
        )
    if any(arm.generator for arm in options.arms):
        held_out = sum(len(store.indices(split, "real")) for split in ("val", "test"))
        if held_out < LEAST:
            said.append(
                f"memorisation and the similarity of real to real images are not available: {held_out} held-out real "
                f"images, {LEAST} are needed"
            )
    return [sentence for sentence in said if sentence]


def one_patient(store: Store, split: str) -> str:
    """Say where one patient alone has boxes to find, so that nothing can be resampled; else nothing."""
    with_boxes = {store.patients[i] for i in store.indices(split) if len(store.boxes[i])}
    if len(with_boxes) > 1:
        return ""
    return f"intervals and verdicts are not available: one patient of the {split} split has boxes"


def _check_filter(options: "StudyOptions", store: Store) -> None:
    for fraction in options.fractions:
        kept = chosen_patients(store, fraction, options.seed)
        train = [i for i in store.indices("train") if store.patients[i] in kept]
        boxes = boxes_of(store, np.array(train, np.int64))
        if boxes < LEAST_BOXES or len({store.patients[i] for i in train if len(store.boxes[i])}) < 2:
            raise UsageError(
                f"+filter needs {LEAST_BOXES} training boxes of 2 patients to learn from; --fraction {fraction:g} of "
                f"{options.store} has {boxes}"
            )
