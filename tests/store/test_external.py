"""Images from elsewhere: a source of their own, for training alone, whatever is made of the store."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records, make_store
from support.tiny_scans import BOX, made, picture, rows

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import open_store
from medaug_cli.store.folds import deal_folds, splits_of
from medaug_cli.store.joining import join_stores
from medaug_cli.store.reading import is_external, is_real
from medaug_cli.store_summary import sentences, summary

SOURCE = "external:web"


def external(n=4, **changes):
    return [replace(r, id=f"w{r.id}", patient=f"w{r.patient}", split="train", source=SOURCE, **changes)
            for r in make_records(n=n)]  # fmt: skip


def scans(folder):
    for name in "ab":
        picture(folder / f"scans/{name}.png", BOX)
    return rows(folder, ["a.png,8,6,18,16,val", "b.png,8,6,18,16,test"], "image,x_min,y_min,x_max,y_max,split")


def test_preprocess_puts_all_of_it_into_training_and_names_where_it_is_from(tmp_path):
    said = []
    store = made(tmp_path, boxes=scans(tmp_path), external="web-atlas", said=said)
    assert set(store.splits) == {"train"}
    assert set(store.sources) == {"external:web-atlas"}
    assert store.annotated.all()
    assert store.info.settings["external"] == "web-atlas"
    assert "all of it is external (web-atlas): for training only" in said
    found = summary(store)
    assert found["external"] == {"web-atlas": 2}
    assert "external: 2 images of web-atlas; for training only" in sentences(found)


def test_without_annotation_nothing_of_it_is_normal(tmp_path):
    scans(tmp_path)
    store = made(tmp_path, unannotated=True, external="web")
    assert not store.annotated.any()
    found = summary(store)
    assert (found["unannotated"], found["images_without_boxes"], found["external"]) == (2, 0, {"web": 2})


@pytest.mark.parametrize("given", [{"split": "0.7,0.1,0.2"}, {"external": "the web"}, {"external": "a/b"}])
def test_what_cannot_be_is_refused(tmp_path, given):
    with pytest.raises(UsageError, match="--external"):
        made(tmp_path, boxes=scans(tmp_path), **{"external": "web", **given})


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_external_image_stands_in_a_split_that_is_judged(tmp_path, split):
    with pytest.raises(BadInput, match=f"external image .* {split} split; it may only be used for training"):
        make_store(tmp_path / "a.h5", [replace(r, split=split) for r in external()])


def test_an_external_image_of_a_patient_who_is_held_out_is_refused(tmp_path):
    (test,) = [replace(r, patient="p", split="test") for r in make_records(n=1)]
    with pytest.raises(BadInput, match="patient p is in both the"):
        make_store(tmp_path / "a.h5", [test, replace(external(1)[0], patient="p")])


def test_it_is_carried_into_other_stores_and_counts_as_a_scan(tmp_path):
    real = make_store(tmp_path / "real.h5", make_records(n=6))
    web = make_store(tmp_path / "web.h5", external())
    joined = join_stores([real.path, web.path], tmp_path / "all/all.h5")
    assert joined.sources.tolist() == ["real"] * 6 + [SOURCE] * 4
    assert is_real(joined).all()
    assert is_external(joined).tolist() == [False] * 6 + [True] * 4
    assert open_store(joined.path).record(8).source == SOURCE


def test_folds_are_dealt_of_patients_who_can_be_judged(tmp_path):
    own = [replace(r, patient=f"p{i}", split="train") for i, r in enumerate(make_records(n=8))]
    unknown = [replace(r, id=f"u{r.id}", patient="u", split="train", annotated=False, boxes=r.boxes[:0], labels=[])
               for r in make_records(n=2)]  # fmt: skip
    store = make_store(tmp_path / "all.h5", [*own, *unknown, *external()])
    folds = deal_folds(store, 4)
    assert folds.patients.keys() == {f"p{i}" for i in range(8)}
    for fold in range(1, 5):
        splits = splits_of(store, folds, fold)
        assert {splits[patient] for patient in store.patients if patient[0] in "uw"} == {"train"}
        assert np.sum([split == "test" for split in splits.values()]) == 2
