"""Folds: every patient is tested on once, classes are alike in all folds, and the file is what others go by."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records, make_store

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import open_store
from medaug_cli.store.folds import Folds, deal_folds, fold_store, kept_folds, splits_of

LABELS = ("cyst", "tumour")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return 60 images of 20 patients, half of them with cysts alone."""
    (record,) = make_records(n=1)
    records = [
        replace(record, id=f"{i:03d}", patient=f"p{i // 3:02d}", split="train", labels=[LABELS[i // 3 % 2]])
        for i in range(60)
    ]
    for each in records:
        each.boxes = each.boxes[:1] if len(each.boxes) else np.array([[1, 1, 5, 5]], np.float32)
    return make_store(tmp_path_factory.mktemp("folds") / "real.h5", records, labels=LABELS)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("seed", [0, 7])
def test_every_patient_is_tested_on_once(store, count, seed):
    folds = deal_folds(store, count, seed)
    assert folds.patients.keys() == set(store.patients)
    tested = [{p for p, s in splits_of(store, folds, fold).items() if s == "test"} for fold in range(1, count + 1)]
    assert sum(map(len, tested)) == len(set().union(*tested)) == 20
    assert max(map(len, tested)) - min(map(len, tested)) <= 2


def test_folds_are_alike_in_their_labels(store):
    folds = deal_folds(store, 5)
    for fold in range(1, 6):
        own = [int(p[1:]) % 2 for p, number in folds.patients.items() if number == fold]
        assert sorted(own) == [0, 0, 1, 1]


def test_validation_comes_out_of_the_other_folds(store):
    folds = deal_folds(store, 5)
    for fold in range(1, 6):
        counts = [list(splits_of(store, folds, fold).values()).count(split) for split in ("train", "val", "test")]
        assert counts == [14, 2, 4]


def test_other_seeds_deal_otherwise(store):
    assert deal_folds(store, 5, 0) == deal_folds(store, 5, 0)
    assert deal_folds(store, 5, 0).patients != deal_folds(store, 5, 1).patients


def test_a_file_of_folds_is_gone_by(store, tmp_path):
    path = tmp_path / "folds.json"
    folds = kept_folds(path, store, 5, seed=3)
    assert kept_folds(path, store, 5, seed=99) == folds
    with pytest.raises(UsageError, match="holds 5 folds, not 4"):
        kept_folds(path, store, 4)
    fewer = {patient: fold for patient, fold in folds.patients.items() if patient != "p07"}
    path.write_text(folds.model_copy(update={"patients": fewer}).model_dump_json(), encoding="utf-8")
    with pytest.raises(BadInput, match="no fold for patient p07"):
        kept_folds(path, store, 5)


def test_the_store_of_a_fold_is_the_same_but_for_its_splits(store, tmp_path):
    folds = deal_folds(store, 5)
    fold_store(store, folds, 2, tmp_path / "fold.h5")
    part = open_store(tmp_path / "fold.h5")
    expected = splits_of(store, folds, 2)
    assert part.ids == store.ids
    assert (part.images == store.images).all()
    assert part.splits.tolist() == [expected[patient] for patient in store.patients]
    assert fold_store(store, folds, 2, tmp_path / "fold.h5").hash == part.hash
    with pytest.raises(UsageError):
        fold_store(store, folds, 3, tmp_path / "fold.h5")


def test_what_cannot_be_dealt_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match="a patient for each, got 21 folds"):
        deal_folds(store, 21)
    with pytest.raises(UsageError, match="from 1 to 5, got 0"):
        splits_of(store, deal_folds(store, 5), 0)
    drawn = [replace(store.record(0), source="boxgan", seed=1), store.record(3)]
    with pytest.raises(BadInput, match="holds synthetic images"):
        deal_folds(make_store(tmp_path / "drawn.h5", drawn, labels=LABELS), 2)


def test_folds_without_a_fold_are_refused():
    with pytest.raises(ValueError, match="fold 9"):
        Folds(folds=5, seed=0, store="00ff", patients={"a": 1, "b": 9})
