"""Classes, spacing and unannotated images: in where they are known, and nothing changes where they are not."""

from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_records, make_store
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from thoroughness import examples

from medaug_cli.errors import BadInput
from medaug_cli.plugin import ImageSpec
from medaug_cli.runs import networks
from medaug_cli.store import GeneratorOrigin, StoreInfo, StoreWriter, open_store, training_examples
from medaug_cli.store.joining import join_stores
from medaug_cli.store_summary import sentences, summary

NAMES = ["benign", "malignant", "normal"]
INFO = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=NAMES)


def published(path, records, info=INFO):
    writer = StoreWriter(path, info, {})
    for unit, record in enumerate(records):
        writer.add(unit, [record])
        writer.flush()  # a shard each: some know a class, others do not
    return writer.publish()


@examples(20, deadline=None)
@given(
    known=st.lists(
        st.tuples(
            st.sampled_from([None, *NAMES]),
            st.sampled_from([None, (1.0, 2.5), (0.5, 0.5)]),
            st.booleans(),
        ),
        min_size=3,
        max_size=3,
    )
)
def test_what_is_known_of_an_image_comes_back(tmp_path_factory, known):
    folder = tmp_path_factory.mktemp("store")
    records = [
        replace(record, image_class=name, spacing=spacing, annotated=annotated)
        for record, (name, spacing, annotated) in zip(make_records(3), known, strict=True)
    ]
    store = published(folder / "a.h5", records)
    store.verify()
    again = [store.record(i) for i in range(3)]
    assert [(r.image_class, r.spacing, r.annotated) for r in again] == known
    copy = published(folder / "b.h5", again)
    assert copy.hash == store.hash
    assert (store.columns.classes is None) == all(name is None for name, _, _ in known)
    assert (store.columns.annotated is None) == all(annotated for _, _, annotated in known)


def test_a_store_without_them_keeps_its_hash(tmp_path):
    plain = make_store(tmp_path / "a.h5", n=6)
    names = published(tmp_path / "b.h5", list(make_records(6)))
    assert names.hash == plain.hash  # class names that no image uses change nothing
    some = published(tmp_path / "c.h5", [replace(r, image_class="normal") for r in make_records(6)])
    assert some.hash != plain.hash
    other = published(
        tmp_path / "d.h5",
        [replace(r, image_class="normal") for r in make_records(6)],
        INFO.model_copy(update={"class_names": ["x", "y", "normal"]}),
    )
    assert other.hash != some.hash


def test_a_class_without_a_name_is_refused(tmp_path):
    with pytest.raises(BadInput, match="'cyst' is not among benign, malignant, normal"):
        published(tmp_path / "a.h5", [replace(r, image_class="cyst") for r in make_records(2)])


def test_join_keeps_them_and_refuses_other_names(tmp_path):
    def half(name, first, info=INFO):
        records = [replace(r, id=f"{name}{i}", image_class="benign") for i, r in enumerate(make_records(6))]
        return published(tmp_path / f"{name}.h5", records[first:], info).path

    joined = join_stores([half("a", 0), half("b", 0)], tmp_path / "joined" / "all.h5")
    assert joined.classes.tolist() == [0] * 12
    other = half("d", 0, INFO.model_copy(update={"class_names": ["benign"]}))
    with pytest.raises(BadInput, match=r"differ in the names of classes, .*: benign, malignant, normal and benign"):
        join_stores([half("c", 0), other], tmp_path / "joined" / "b.h5")


def test_joined_stores_say_what_they_were_made_with_alike_and_what_not(tmp_path):
    paths = []
    for name, settings in (("a", {"size": 16, "window": [0, 9], "mirrored": False}), ("b", {"size": 16, "bias": "n4"})):
        records = [replace(r, id=f"{name}{i}", patient=name, split="train") for i, r in enumerate(make_records(2))]
        info = INFO.model_copy(update={"settings": settings})
        (tmp_path / name).mkdir()
        paths.append(published(tmp_path / name / "real.h5", records, info).path)
    joined = join_stores(paths, tmp_path / "joined/all.h5")
    different = ["bias", "mirrored", "window"]
    assert joined.info.settings == {"size": 16, "mirrored": False, "differing": different}
    assert joined.info.inputs == {f"{path.parent.name}/real.h5": open_store(path).hash for path in paths}
    more = [replace(r, id=f"c{i}", patient="c", split="train") for i, r in enumerate(make_records(2))]
    third = published(tmp_path / "c.h5", more, INFO.model_copy(update={"settings": {"size": 16}})).path
    again = join_stores([joined.path, third], tmp_path / "joined/more.h5")
    assert again.info.settings == joined.info.settings


def test_the_summary_counts_them(tmp_path):
    records = [
        replace(r, image_class=NAMES[i % 2], spacing=(1.0, 0.5), annotated=i > 1) for i, r in enumerate(make_records(6))
    ]
    found = summary(published(tmp_path / "a.h5", records))
    assert found["images_by_class"] == {"benign": 3, "malignant": 3, "normal": 0}
    assert found["unannotated"] == 2
    assert found["spacing"] == [[1.0, 0.5], [1.0, 0.5]]
    assert "classes: 3 benign, 3 malignant, 0 normal" in sentences(found)


def test_a_table_of_another_length_is_refused(tmp_path):
    import h5py

    store = published(tmp_path / "a.h5", [replace(r, image_class="benign") for r in make_records(3)])
    with h5py.File(store.path, "r+") as file:
        file["classes"][0] = 7
    with pytest.raises(BadInput):
        open_store(store.path)
    assert np.isnan(store.spacing).all()


ORDERS = [list(order) for length in (1, 2, 3) for order in permutations(NAMES, length)]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_classes_of_synthetic_images_are_numbered_as_those_of_the_scans(tmp_path, order):
    """A network answers by the numbers that it was trained on: those of the data set, whatever a store calls first."""

    def written(name, records, info):
        writer = StoreWriter(tmp_path / name, info, {})
        writer.add(0, list(records))
        return writer.publish()

    records = list(make_records(6))
    real = written("real.h5", (replace(record, image_class=NAMES[i % 3]) for i, record in enumerate(records)), INFO)
    drawn = [
        replace(record, source="g", split="train", patient="", image_class=order[i % len(order)])
        for i, record in enumerate(records)
    ]
    origin = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
    told = INFO.model_copy(update={"class_names": order, "generators": [origin]})
    synthetic = written("synthetic.h5", drawn, told)
    for alone in (False, True):
        data = training_examples(real, [synthetic], real.classes >= 0, synthetic_only=alone)
        assert data.spec.class_names == tuple(NAMES)
        said = [NAMES[k] for k in data.classes[data.synthetic]]
        assert said == [record.image_class for record in drawn]
    if len(order) < len(NAMES):
        missing = min(set(NAMES) - set(order), key=NAMES.index)
        with pytest.raises(BadInput, match=f"has no image of the class '{missing}', and --synthetic-only leaves"):
            networks._check_classes(real, [synthetic])
    else:
        networks._check_classes(real, [synthetic])


@pytest.mark.parametrize("order", [order for order in ORDERS if len(order) == 3], ids="-".join)
def test_a_network_is_not_trained_further_on_the_same_classes_in_another_order(tmp_path, order):
    store = SimpleNamespace(spec=ImageSpec(1, (8, 8), ("lesion",), tuple(NAMES)), path=tmp_path / "real.h5")
    form = SimpleNamespace(spec=lambda: replace(store.spec, class_names=tuple(order)))
    plugin = SimpleNamespace(capabilities=SimpleNamespace(continues=True), load_state_dict=lambda *state: None)
    told = SimpleNamespace(name="tiny", form=form)
    save_file({}, tmp_path / "classifier.safetensors")
    asked = {"kind": "classifier", "start": tmp_path, "store": store, "device": "cpu"}
    if order == NAMES:
        networks._continue(plugin, "tiny", told, **asked)
    else:
        with pytest.raises(BadInput, match="names them in another order"):
            networks._continue(plugin, "tiny", told, **asked)


@pytest.mark.parametrize(
    ("patient", "advice"), [("patient0001", "--pseudonymise and one key"), ("P1", "split by patient")]
)
def test_a_patient_in_two_splits_of_joined_stores_is_refused_with_what_to_do(tmp_path, patient, advice):
    paths = []
    for name, split in (("a", "train"), ("b", "test")):
        records = [replace(r, id=f"{name}{i}", patient=patient, split=split) for i, r in enumerate(make_records(2))]
        paths.append(published(tmp_path / f"{name}.h5", records).path)
    with pytest.raises(BadInput, match=f"patient {patient} is in the train split of .*; .*{advice}"):
        join_stores(paths, tmp_path / "joined/all.h5")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_patient_of_two_spellings_in_joined_stores_is_refused(tmp_path, split):
    paths = []
    for name, patient in (("a", "p05"), ("b", "P05 ")):
        records = [replace(r, id=f"{name}{i}", patient=patient, split=split) for i, r in enumerate(make_records(2))]
        paths.append(published(tmp_path / f"{name}.h5", records).path)
    with pytest.raises(BadInput, match=r"patient 'p05' of .*a\.h5 and patient 'P05 ' of .* would count as two"):
        join_stores(paths, tmp_path / "joined/all.h5")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 32}, "size of their images: 16x16 and 32x32"), ({"channels": 3}, "channels of their images: 1 and 3"),
        ({"masks": True}, "whether they have masks: no masks and masks"),
        ({"labels": ("cyst",)}, "names of labels, which each has to have all of: lesion and cyst"),
    ],
)  # fmt: skip
def test_joined_stores_of_other_forms_are_told_apart_in_words(tmp_path, change, said):
    paths = [make_store(tmp_path / "a/real.h5").path, make_store(tmp_path / "b/real.h5", **change).path]
    with pytest.raises(BadInput, match=f"differ in the {said}|differ in {said}"):
        join_stores(paths, tmp_path / "joined/all.h5")
