"""boxes.json: what is wrong with a file is said with its place and reason."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug_cli.boxes import (
    BoxesFile,
    ImageBoxes,
    LabelledBox,
    digest_patient,
    patients_seen,
    read_boxes,
    safe_id,
    scaled,
    with_patients,
    write_boxes,
)
from medaug_cli.errors import BadInput
from medaug_cli.forms.policy import cut_off

GOOD = {
    "version": 1,
    "images": [
        {"id": "0001", "width": 256, "height": 200, "patient": "100360", "split": "train",
         "boxes": [{"box": [120.5, 80.0, 164.0, 118.0], "label": "meningioma"}]},
        {"id": "0002", "width": 256, "height": 200},
    ],
}  # fmt: skip


def changed(**values):
    """Return GOOD with values put at "images.0.boxes.0.box"-like places."""
    whole = json.loads(json.dumps(GOOD))
    for place, value in values.items():
        *path, last = place.split("__")
        node = whole
        for step in path:
            node = node[int(step) if step.isdigit() else step]
        node[int(last) if last.isdigit() else last] = value
    return whole


def test_a_good_file_is_read_and_written_back(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps(GOOD), encoding="utf-8")
    boxes = read_boxes(tmp_path / "b.json")
    write_boxes(tmp_path / "c.json", boxes)
    assert read_boxes(tmp_path / "c.json") == boxes
    corners, labels = boxes.images[0].arrays()
    assert corners.tolist() == [[120.5, 80.0, 164.0, 118.0]]
    assert labels == ["meningioma"]
    assert boxes.images[1].arrays()[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (changed(version=2), "version"),
        (changed(images__0__boxes__0__box=[0, 0, 300, 10]), "outside image '0001' of 256x200"),
        (changed(images__0__boxes__0__box=[0, 0, 250, 210]), "outside image '0001'"),
        (changed(images__0__boxes__0__box=[-1, 0, 25, 21]), "outside image '0001'"),
        (changed(images__0__boxes__0__box=[10, 10, 10, 20]), "empty"),
        (changed(images__0__boxes__0__box=[16.0, 16, 16.0000001, 20]), "empty"),
        (changed(images__0__spacing=[1e-300, 1]), "images.0.spacing.0"),
        (changed(images__0__spacing=[1, 1e300]), "images.0.spacing.1"),
        (changed(images__0__boxes__0__box=[10, 10, 20]), "images.0.boxes.0.box"),
        (changed(images__0__boxes__0__box=[1, 1, 1, 2, 2, 2]), "must have 4 numbers"),
        (changed(images__0__boxes__0__box="all"), "images.0.boxes.0.box"),
        (changed(images__0__width=0), "images.0.width"),
        (changed(images__0__id="../../etc/passwd"), "images.0.id"),
        (changed(images__1__id="0001"), "appears twice"),
        (changed(images__0__split="dev"), "images.0.split"),
        (changed(images__0__colour="grey"), "images.0.colour"),
        ({"images": []}, "version"),
        ([], "whole file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, whole, words):
    (tmp_path / "b.json").write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(BadInput, match=r"b\.json") as error:
        read_boxes(tmp_path / "b.json")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", '{"version": NaN}', '{"version": Infinity}', "", "\ud800", "[" * 100000])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "b.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput, match=r"b\.json"):
        read_boxes(tmp_path / "b.json")


numbers = st.floats(0, 100, width=32)


@given(x=numbers, y=numbers, w=st.floats(0.5, 100), h=st.floats(0.5, 100))
def test_any_box_survives_the_file_and_scaling(tmp_path_factory, x, y, w, h):
    path = tmp_path_factory.getbasetemp() / "any.json"
    item = LabelledBox(box=[x, y, x + w, y + h])
    image = ImageBoxes(id="a", width=256, height=256, boxes=[item])
    write_boxes(path, BoxesFile(version=1, images=[image]))
    corners, labels = read_boxes(path).images[0].arrays()
    assert labels == ["lesion"]
    assert corners[0] == pytest.approx(item.box)
    there = scaled(corners, (256, 256), (64, 128))
    assert scaled(there, (64, 128), (256, 256)) == pytest.approx(corners, abs=1e-4)
    assert np.allclose(there[0, [0, 2]] * 2, corners[0, [0, 2]])


def test_a_box_that_is_empty_as_a_store_has_it_is_not_kept():
    found = np.array([[16, 16, 16.0000001, 20], [16, 16, 17, 20]])
    assert cut_off(found, (32, 32), ["a", "b"], "scan.png")[1].tolist() == [False, True]


@given(st.text(min_size=1))
def test_any_text_becomes_an_id(text):
    assert ImageBoxes(id=safe_id(text), width=1, height=1).id


@pytest.mark.parametrize("spelt", ["LIDC-0007", "lidc-0007 ", "\uff2cIDC-0007"])
def test_a_patient_is_seen_however_the_name_is_spelt(spelt):
    assert patients_seen([spelt, "LIDC-0008"], {digest_patient("LIDC-0007")}) == {spelt}


def test_a_patient_is_seen_in_files_of_versions_that_digested_names_as_they_are_spelt():
    assert patients_seen(["LIDC-IDRI-0001", "lidc-idri-0002"], {"ac20d99e11f1b8ff"}) == {"LIDC-IDRI-0001"}


def test_nobody_is_counted_twice_whatever_version_digested_the_name():
    assert with_patients({"ac20d99e11f1b8ff"}, ["LIDC-IDRI-0001"]) == ["ac20d99e11f1b8ff"]
    both = with_patients({"ac20d99e11f1b8ff"}, ["LIDC-IDRI-0002", "lidc-idri-0002"])
    assert both == sorted(["ac20d99e11f1b8ff", digest_patient("LIDC-IDRI-0002")])
