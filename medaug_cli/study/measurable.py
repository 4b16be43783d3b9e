"""What a study can measure on the images that it has: refused or said before anything is trained."""

from collections.abc import Collection, Sequence

import numpy as np

from medaug_cli.embedding import LEAST
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.from_store import split_indices
from medaug_cli.lesion_filter.evidence import LEAST_BOXES
from medaug_cli.lesion_filter.realism import LEAST as LEAST_IMAGES
from medaug_cli.metrics.resampling import SIGNIFICANT
from medaug_cli.store import Store
from medaug_cli.study.rounds import Round, of_deals
from medaug_cli.study.subsets import chosen_patients, training_images
from medaug_cli.study.teaching import left_out
from medaug_cli.study.trials import StudyOptions
from medaug_cli.tasks.task import Task


def check_measurable(options: StudyOptions, rounds: Sequence[Round]) -> list[str]:
    """Return a sentence for each measure that cannot be had on this store.

    Raises UsageError or BadInput where the study could not end: nothing to judge on, or too little to learn or to
    filter by.
    """
    task, store = options.task, rounds[0].store
    judged = np.concatenate([judged_images(each.store, task, options.split) for each in of_deals(rounds)[0]])
    if lacking := task.measurable(store, judged):
        where = "" if rounds[0].fold else f" in the {options.split} split"
        raise UsageError(f"{options.store} has {lacking}{where}, so there is nothing to judge")
    for each in rounds:
        for fraction in options.fractions:
            _check_teachable(options, each, fraction)
        if any(arm.filtered == "lesion" for arm in options.arms):
            _check_filter(options, each)
        if any(arm.filtered == "realism" for arm in options.arms):
            _check_realism(options, each)
    patients, compared = len(telling_patients(store, task, judged)), len(options.arms) - 1
    said = [one_patient(store, task, options.split, judged), out_of_reach(patients, options.resamples, compared)]
    said += [left_out(task, of_deals(rounds)[0]), _unvalidated(options, rounds), _one_training(options)]
    if any(arm.generator for arm in options.arms):
        held_out = sum(len(store.indices(split, "real", unannotated=True)) for split in ("val", "test"))
        if held_out < LEAST:
            said.append(
                f"memorisation and the similarity of real to real images are not available: {held_out} held-out real "
                f"images, {LEAST} are needed"
            )
    return [sentence for sentence in said if sentence]


def lacks_validation(options: StudyOptions, each: Round) -> str | None:
    """Say what a round lacks whose validation split cannot be measured; None where it can."""
    val = np.flatnonzero(options.task.usable(each.store) & (each.store.splits == "val"))
    return options.task.measurable(each.store, val)


def _unvalidated(options: StudyOptions, rounds: Sequence[Round]) -> str:
    if options.split == "val":
        return (
            "weights are chosen on the images that are judged, so numbers are higher than on other patients, and no "
            "arm of a generator is preferred to another"
        )
    lacking = {each.name: why for each in rounds if (why := lacks_validation(options, each))}
    if not lacking:
        return ""
    where = f" of {'; '.join(lacking)}" if rounds[0].fold else ""
    return (
        f"{options.store} has {next(iter(lacking.values()))} in its validation split{where}: weights are those of the "
        "last step, and no arm of a generator is preferred to another"
    )


def _one_training(options: StudyOptions) -> str:
    if options.seeds * options.repeat > 1:
        return ""
    return (
        "intervals and verdicts cover the spread over patients alone: with one seed, a difference may be that of two "
        "training runs"
    )


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
    if len(telling_patients(store, task, judged)) > 1:
        return ""
    return f"intervals and verdicts are not available: only one patient of the {split} split can be judged"


def telling_patients(store: Store, task: Task, judged: np.ndarray) -> set[str]:
    """Return the patients of some judged images who count for the task's headline."""
    own: dict[str, list[int]] = {}
    for i in judged:
        own.setdefault(store.patients[i], []).append(int(i))
    return {patient for patient, images in own.items() if task.telling(store, np.array(images))}


def out_of_reach(patients: int, resamples: int, arms: int) -> str:
    """Say where no p of so many patients and resamples is small enough for a verdict on one of so many arms."""
    least = max(1 / (1 + resamples), 2.0 ** (1 - patients))  # all patients exchanged, or none, are as far apart
    if patients < 2 or arms * least < SIGNIFICANT:
        return ""
    holm = f", and Holm multiplies it by {arms}" if arms > 1 else ""
    return (
        f"no verdict can be expected: with {patients} patients and {resamples:,} resamples the smallest p is about "
        f"{least:.2g}{holm}"
    )


def _check_teachable(options: StudyOptions, each: Round, fraction: float) -> None:
    store = each.taught
    patients = chosen_patients(store, options.task, fraction, options.seed)
    if lacking := options.task.teachable(store, training_images(store, options.task, patients)):
        of = store.path if fraction == 1 else f"--fraction {fraction:g} of {store.path}"
        where = f" of {each.name}" if each.fold else ""
        raise UsageError(f"{of}: nothing can be learnt from the training split{where} ({lacking})")


def _check_filter(options: StudyOptions, each: Round) -> None:
    store, where = each.taught, f", {each.name}" if each.fold else ""
    for fraction in options.fractions:
        kept = chosen_patients(store, options.task, fraction, options.seed)
        train = _own_images(store, kept)
        boxes = sum(len(store.boxes[i]) for i in train)
        if boxes < LEAST_BOXES or len({store.patients[i] for i in train if len(store.boxes[i])}) < 2:
            raise UsageError(
                f"+filter needs {LEAST_BOXES} training boxes of 2 patients to learn from; --fraction {fraction:g} of "
                f"{options.store}{where} has {boxes}"
            )


def _own_images(store: Store, patients: Collection[str], unannotated: bool = False) -> list[int]:
    """Return the training images of some patients that a filter learns from: no external ones, and annotated or all."""
    return [i for i in store.indices("train", "real", unannotated) if store.patients[i] in patients]


def _check_realism(options: StudyOptions, each: Round) -> None:
    for fraction in options.fractions:
        kept = chosen_patients(each.taught, options.task, fraction, options.seed)
        train = _own_images(each.taught, kept, unannotated=True)
        ratios = [arm.ratio or options.ratio for arm in options.arms if arm.filtered == "realism"]
        drawn = options.n or round(min(ratios) * len(training_images(each.taught, options.task, kept)))
        if len({each.taught.patients[i] for i in train}) < 2 or min(len(train), drawn) < LEAST_IMAGES:
            where = f", {each.name}" if each.fold else ""
            raise UsageError(
                f"+realism needs {LEAST_IMAGES} training images of 2 patients, and as many synthetic ones; --fraction "
                f"{fraction:g} of {options.store}{where} has {len(train)} of {len(kept)}, and {drawn} are drawn"
            )
