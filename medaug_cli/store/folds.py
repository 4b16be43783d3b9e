"""Folds by patient: every patient is held out for the test once, and the file of folds is kept for others to reuse.

Legend: n images, k folds.
"""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from medaug_cli.boxes import Strict
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import canonical, parse_json, read_text, validated, write_json
from medaug_cli.store.reading import Store, is_external, is_real

OF_TRAINING = "train:"  # before the columns of a CSV that boxes of the training split alone are taken from
VALIDATION_PARTS = 8  # one of so many parts of the patients that are not tested on chooses the weights


class Folds(Strict):
    """folds.json: in which fold each patient is tested on."""

    version: Literal[1] = 1
    folds: int = Field(ge=2)
    seed: int
    store: str  # hash of the store whose patients were dealt
    patients: dict[str, int] = Field(min_length=2)  # patient -> fold, from 1

    @model_validator(mode="after")
    def _among_them(self) -> Self:
        for patient, fold in self.patients.items():
            if not 1 <= fold <= self.folds:
                raise ValueError(f"patient {patient} is in fold {fold}; folds are counted from 1 to {self.folds}")
        return self


@dataclass(frozen=True)
class Fold:
    """One fold of a deal: its patients are the test, some others the validation, the rest is trained on."""

    folds: Folds
    number: int  # from 1

    @property
    def name(self) -> str:
        """Return it as the command line takes it, `2/5`."""
        return f"{self.number}/{self.folds.folds}"

    def of(self, store: Store) -> Store:
        """Return a store whose splits are those of the fold, and not its own; its pixels are the same."""
        splits = splits_of(store, self.folds, self.number)
        return split_as(store, [splits[patient] for patient in store.patients])


def split_as(store: Store, splits: Sequence[str]) -> Store:
    """Return a store with other splits (n), and a hash of its own; its pixels are the same."""
    dealt = copy.copy(store)
    dealt.columns = replace(store.columns, split=list(splits))
    dealt.splits = np.array(dealt.columns.split)
    dealt.hash = hashlib.sha256(canonical([store.hash, dealt.columns.split]).encode()).hexdigest()
    return dealt


def deal_folds(store: Store, count: int, seed: int = 0) -> Folds:
    """Deal the patients of a store into folds that are alike in classes, labels and numbers of lesions.

    Folds differ by one patient at most, and by two of any stratum (patients of the same classes and labels).
    Raises BadInput where a store holds synthetic images, and UsageError where it has too few patients.
    """
    _refuse_unfit(store)
    chosen = _judgeable(store)
    if count < 2 or len({store.patients[i] for i in chosen}) < count:
        raise UsageError(f"expected 2 folds or more and a patient for each, got {count} folds of {store.path}")
    dealt = _dealt(store, chosen, count, seed)
    return Folds(folds=count, seed=seed, store=store.hash, patients=dict(sorted(dealt.items())))


def kept_folds(path: Path, store: Store, count: int | None, seed: int = 0) -> Folds:
    """Return the folds in a file, or deal them and write it; raise BadInput where the file does not fit the store."""
    if not path.exists() and count is not None:
        write_json(path, deal_folds(store, count, seed).model_dump(mode="json"))
    folds = read_folds(path, store)
    if count is not None and folds.folds != count:
        raise UsageError(f"{path} holds {folds.folds} folds, not {count}; choose another file")
    return folds


def read_folds(path: Path, store: Store) -> Folds:
    """Read folds.json; raise BadInput where a patient is in two folds, or one of the store in none."""
    folds = validated(path, Folds, parse_json(path))
    if twice := _named_twice(path):
        raise BadInput(f"{path} names {twice} twice: a network would be tested on a patient that it has seen")
    _refuse_unfit(store)
    patients = {store.patients[i] for i in _judgeable(store)}
    missing = sorted(patients - folds.patients.keys())
    if missing:
        raise BadInput(f"{path} has no fold for patient {missing[0]} of {store.path}")
    for fold in range(1, folds.folds + 1):
        if not any(folds.patients[patient] == fold for patient in patients):
            raise BadInput(f"{path} has no patient of {store.path} in fold {fold} of {folds.folds}")
    return folds


def folds_beside(store: Path, count: int) -> Path:
    """Return where the folds of a store are kept that several commands go by: real.h5 -> real.folds-5.json."""
    return store.with_name(f"{store.stem}.folds-{count}.json")


def fold_named(text: str, store: Store, path: Path | None) -> Fold:
    """Return the fold `I/K` of a file, by default of the one beside the store, which is dealt where it is not there.

    Raises UsageError for another form than I/K, and where the file holds another number of folds.
    """
    number, slash, count = text.partition("/")
    if not slash or not number.isdecimal() or not count.isdecimal() or not 1 <= int(number) <= int(count) >= 2:
        raise UsageError(f"--fold {text}: expected I/K, as in 1/5, with I from 1 to K and K of 2 or more")
    if path is not None and not path.exists():
        raise BadInput(f"{path} does not exist; leave --folds out to have folds dealt beside the store")
    return Fold(kept_folds(path or folds_beside(store.path, int(count)), store, int(count)), int(number))


def split_words(split: str, fold: Fold | None) -> str:
    """Name a split for a report: test, or test of fold 1/5."""
    return split if fold is None else f"{split} of fold {fold.name}"


def splits_of(store: Store, folds: Folds, fold: int) -> dict[str, str]:
    """Return the split of each patient in a fold, from 1: test, or val and train in equal measure of strata.

    Patients of whom all images are external or not annotated are for training, whichever fold is tested.
    """
    if not 1 <= fold <= folds.folds:
        raise UsageError(f"expected a fold from 1 to {folds.folds}, got {fold}")
    judgeable = _judgeable(store)
    test = np.array([folds.patients[store.patients[i]] == fold for i in judgeable], bool)
    rest = judgeable[~test]
    parts = min(VALIDATION_PARTS, len({store.patients[i] for i in rest}))
    if parts < 2:
        raise UsageError(f"fold {fold} of {store.path} leaves too few patients to train and validate on")
    dealt = _dealt(store, rest, parts, folds.seed + fold)
    tested = {store.patients[i]: "test" for i in judgeable[test]}
    validation = {patient: "val" for patient, part in dealt.items() if part == 1}
    return dict.fromkeys(store.patients, "train") | tested | validation


def _judgeable(store: Store) -> np.ndarray:
    """Return the images of patients that a network can be judged on: some are of the data set and looked at."""
    looked_at = (store.annotated | (store.classes >= 0)) & ~is_external(store)
    patients = {store.patients[i] for i in np.flatnonzero(looked_at)}
    return np.array([i for i, patient in enumerate(store.patients) if patient in patients], np.int64)


def of_training_alone(store: Store) -> str:
    """Return the --box-columns that the training split of a store alone has its boxes from; nothing for one of all."""
    columns = str(store.info.settings.get("box_columns") or "")
    return columns if columns.startswith(OF_TRAINING) else ""


def _refuse_unfit(store: Store) -> None:
    if not is_real(store).all():
        raise BadInput(f"{store.path} holds synthetic images: folds are made of real patients only")
    if columns := of_training_alone(store):
        raise BadInput(
            f"{store.path} has other boxes in its training split (--box-columns {columns}), which folds test too: make "
            f"one store with --box-columns {columns.removeprefix(OF_TRAINING)} to learn from, and one to judge by"
        )


def _named_twice(path: Path) -> str | None:
    """Return a patient that a file names twice, of which JSON readers silently take the last."""
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(name for name, times in Counter(name for name, _ in found).items() if times > 1)
        return dict(found)

    json.loads(read_text(path), object_pairs_hook=pairs)
    return next(iter(twice), None)


def _dealt(store: Store, indices: np.ndarray, parts: int, seed: int) -> dict[str, int]:
    """Return the part, from 1, of each patient of some images.

    Patients stand in one row, stratum by stratum, those with most lesions first; of every `parts` that follow each
    other each part gets one. So parts differ by one patient, in a stratum by two, and there by at most twice the
    lesions of its first patient.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5,)))
    strata, sizes = _strata(store, indices), _sizes(store, indices)
    shuffled = rng.permutation(sorted(strata)).tolist()
    row = sorted(shuffled, key=lambda patient: (strata[patient], *(-size for size in sizes[patient])))
    dealt: dict[str, int] = {}
    for at in range(0, len(row), parts):
        dealt |= zip(row[at : at + parts], (rng.permutation(parts) + 1).tolist(), strict=False)
    return dealt


def _strata(store: Store, indices: Sequence[int] | np.ndarray) -> Mapping[str, tuple[tuple[int, ...], ...]]:
    """Return what is to be alike in all folds: the classes and the labels that each patient has."""
    classes: dict[str, set[int]] = {store.patients[i]: set() for i in indices}
    labels: dict[str, set[int]] = {patient: set() for patient in classes}
    for i in indices:
        classes[store.patients[i]] |= {int(store.classes[i])} - {-1}
        labels[store.patients[i]] |= set(store.labels[i].tolist())
    return {patient: (tuple(sorted(own)), tuple(sorted(labels[patient]))) for patient, own in classes.items()}


def _sizes(store: Store, indices: Sequence[int] | np.ndarray) -> Mapping[str, tuple[int, int]]:
    """Return how many lesions and images each patient has."""
    lesions, images = Counter[str](), Counter[str]()
    for i in indices:
        lesions[store.patients[i]] += len(store.boxes[i])
        images[store.patients[i]] += 1
    return {patient: (lesions[patient], images[patient]) for patient in images}
