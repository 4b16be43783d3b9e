"""Folds: every patient is tested on once, classes are alike in all folds, and the file is what others go by."""

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_records, make_store
from hypothesis import given
from hypothesis import strategies as st

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import open_store
from medaug_cli.store.folds import Fold, Folds, deal_folds, fold_named, folds_beside, kept_folds, splits_of

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


def test_a_store_in_a_fold_is_the_same_but_for_its_splits(store):
    folds = deal_folds(store, 5)
    part, other = (Fold(folds, number).of(store) for number in (2, 3))
    expected = splits_of(store, folds, 2)
    assert part.ids == store.ids
    assert part.images is store.images
    assert part.splits.tolist() == [expected[patient] for patient in store.patients]
    assert [part.record(i).split for i in (0, 59)] == [part.splits[0], part.splits[59]]
    assert len({part.hash, other.hash, store.hash}) == 3
    assert part.hash == Fold(folds, 2).of(open_store(store.path)).hash
    assert set(store.splits) == {"train"}


def test_a_fold_is_named_as_one_of_so_many(tmp_path):
    real = make_store(tmp_path / "real.h5")
    first = fold_named("1/3", real, None)
    assert folds_beside(real.path, 3) == tmp_path / "real.folds-3.json"
    assert first == fold_named("1/3", real, tmp_path / "real.folds-3.json")
    assert first.name == "1/3"
    assert fold_named("2/3", real, None).folds == first.folds
    for wrong in ("0/3", "4/3", "1", "1/1", "a/3", "1/", "1/3/5", "-1/3"):
        with pytest.raises(UsageError, match=r"expected I/K, as in 1/5"):
            fold_named(wrong, real, None)
    with pytest.raises(UsageError, match="holds 3 folds, not 2"):
        fold_named("1/2", real, tmp_path / "real.folds-3.json")
    with pytest.raises(BadInput, match=r"gone\.json does not exist"):
        fold_named("1/2", real, tmp_path / "gone.json")


def test_a_file_that_leaks_a_patient_is_refused(store, tmp_path):
    path = tmp_path / "folds.json"
    text = deal_folds(store, 5).model_dump_json()
    path.write_text(text.replace('"p03":', '"p02": 1, "p03":'), encoding="utf-8")
    with pytest.raises(BadInput, match="names p02 twice: a network would be tested"):
        kept_folds(path, store, 5)
    one = {patient: 1 + (fold == 1) for patient, fold in deal_folds(store, 5).patients.items()}
    path.write_text(Folds(folds=5, seed=0, store=store.hash, patients=one).model_dump_json(), encoding="utf-8")
    with pytest.raises(BadInput, match="in fold 3 of 5"):
        kept_folds(path, store, 5)


@dataclass
class Table:
    """What folds are dealt of: a patient, a class and the labels of its boxes for each image."""

    patients: list[str]
    classes: np.ndarray
    labels: list[np.ndarray]
    path: Path = Path("real.h5")
    hash: str = "00ff"
    info: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(settings={}))

    def __len__(self):
        return len(self.patients)

    boxes = property(lambda self: self.labels)
    sources = property(lambda self: np.full(len(self), "real"))
    annotated = property(lambda self: np.ones(len(self), bool))


@st.composite
def tables(draw):
    """Draw two to sixty patients of one to four images."""
    images = draw(st.lists(st.integers(1, 4), min_size=2, max_size=60))
    patients = [f"p{i}" for i, count in enumerate(images) for _ in range(count)]
    classes = draw(st.lists(st.integers(-1, 2), min_size=len(patients), max_size=len(patients)))
    boxes = st.lists(st.integers(0, 1), max_size=5)
    labels = draw(st.lists(boxes, min_size=len(patients), max_size=len(patients)))
    return Table(patients, np.array(classes), [np.array(own, np.int64) for own in labels])


@given(tables(), st.integers(2, 10), st.integers(0, 2**31))
def test_dealing_holds_its_bounds(table, count, seed):
    if len(set(table.patients)) < count:
        with pytest.raises(UsageError, match="a patient for each"):
            deal_folds(table, count, seed)
        return
    folds = deal_folds(table, count, seed)
    assert folds.patients.keys() == set(table.patients)
    assert deal_folds(table, count, seed) == folds
    _alike(list(folds.patients), folds, most=1)
    strata: dict = {}
    for patient in folds.patients:
        own = [i for i, name in enumerate(table.patients) if name == patient]
        labels = {label for i in own for label in table.labels[i].tolist()}
        key = frozenset({int(table.classes[i]) for i in own} - {-1}), frozenset(labels)
        strata.setdefault(key, {})[patient] = sum(len(table.labels[i]) for i in own)
    for lesions in strata.values():
        _alike(list(lesions), folds, most=2)
        sums = [sum(n for p, n in lesions.items() if folds.patients[p] == f) for f in range(1, count + 1)]
        assert max(sums) - min(sums) <= 2 * max(lesions.values())


def _alike(patients, folds, most):
    counts = Counter(folds.patients[patient] for patient in patients)
    sizes = [counts[fold] for fold in range(1, folds.folds + 1)]
    assert all(abs(a - b) <= most for a, b in combinations(sizes, 2))


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
