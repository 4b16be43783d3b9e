"""Folds by patient: every patient is held out for the test once, and the file of folds is kept for others to reuse.

Legend: n images, k folds.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from medaug_cli import __version__
from medaug_cli.boxes import Strict
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import read_json, write_json
from medaug_cli.store.model import StoreInfo
from medaug_cli.store.reading import Store, is_real
from medaug_cli.store.writing import StoreWriter, already_made

VALIDATION_PARTS = 8  # one of so many parts of the patients that are not tested on chooses the weights
UNIT = 64  # images


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


def deal_folds(store: Store, count: int, seed: int = 0) -> Folds:
    """Deal the patients of a store into folds that are alike in images and in their classes (in their boxes without).

    Raises BadInput where a store holds synthetic images, and UsageError where it has too few patients.
    """
    if not is_real(store).all():
        raise BadInput(f"{store.path} holds synthetic images: folds are dealt of real patients")
    if count < 2 or len(set(store.patients)) < count:
        raise UsageError(f"expected 2 folds or more and a patient for each, got {count} folds of {store.path}")
    dealt = _dealt(store, np.arange(len(store)), count, seed)
    return Folds(folds=count, seed=seed, store=store.hash, patients=dict(sorted(dealt.items())))


def kept_folds(path: Path, store: Store, count: int, seed: int = 0) -> Folds:
    """Return the folds in a file, or deal them and write it; raise BadInput where the file does not fit the store."""
    if not path.exists():
        write_json(path, deal_folds(store, count, seed).model_dump(mode="json"))
    folds = read_json(path, Folds)
    missing = sorted(set(store.patients) - folds.patients.keys())
    if missing:
        raise BadInput(f"{path} has no fold for patient {missing[0]} of {store.path}")
    if folds.folds != count:
        raise UsageError(f"{path} holds {folds.folds} folds, not {count}; choose another file")
    return folds


def splits_of(store: Store, folds: Folds, fold: int) -> dict[str, str]:
    """Return the split of each patient in a fold, from 1: test, or val and train in equal measure of classes."""
    if not 1 <= fold <= folds.folds:
        raise UsageError(f"expected a fold from 1 to {folds.folds}, got {fold}")
    test = np.array([folds.patients[patient] == fold for patient in store.patients])
    rest = np.flatnonzero(~test)
    parts = min(VALIDATION_PARTS, len({store.patients[i] for i in rest}))
    if parts < 2:
        raise UsageError(f"fold {fold} of {store.path} leaves too few patients to train and validate on")
    dealt = _dealt(store, rest, parts, folds.seed + fold)
    validation = {patient: "val" if part == 1 else "train" for patient, part in dealt.items()}
    return {patient: validation.get(patient, "test") for patient in store.patients}


def fold_store(store: Store, folds: Folds, fold: int, out: Path) -> Store:
    """Publish a store of the same images whose splits are those of a fold; keep what is there."""
    splits = splits_of(store, folds, fold)
    settings = {"fold": fold, "folds": folds.folds, "seed": folds.seed}
    info = store.info.model_copy(
        update={"tool_version": __version__, "command": "folds", "settings": settings, "inputs": {"of": store.hash}}
    )
    made = already_made(out, info, resume=out.exists(), overwrite=False)
    return made or _written(store, splits, info, out)


def _written(store: Store, splits: dict[str, str], info: StoreInfo, out: Path) -> Store:
    writer = StoreWriter(out, info, {**info.settings, "of": store.hash, "splits": splits}, resume=True)
    for unit, at in enumerate(range(0, len(store), UNIT)):
        if not writer.has(unit):
            records = map(store.record, range(at, min(at + UNIT, len(store))))
            writer.add(unit, [replace(each, split=splits[each.patient]) for each in records])
    return writer.publish()


def _dealt(store: Store, indices: np.ndarray, parts: int, seed: int) -> dict[str, int]:
    """Return the part, from 1, of the patient of some images."""
    from sklearn.model_selection import StratifiedGroupKFold

    patients = [store.patients[i] for i in indices]
    dealer = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer images than parts: dealt as far as it goes
        found = list(dealer.split(np.zeros(len(indices)), _strata(store, indices), patients))
    return {patients[i]: part for part, (_, chosen) in enumerate(found, 1) for i in chosen}


def _strata(store: Store, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return what is to be alike in all folds: the class, or without classes the label of the first box."""
    if store.class_names:
        return store.classes[indices]
    return np.array([store.labels[i][0] if len(store.labels[i]) else -1 for i in indices])
