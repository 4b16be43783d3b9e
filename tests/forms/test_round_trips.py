"""What medaug writes it reads: boxes and detections of every form come back to the images that they are of."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import Phase, given
from hypothesis import strategies as st
from marked import BOX, SIZE, files, pictures, plain, read
from thoroughness import examples

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox
from medaug_cli.errors import BadInput
from medaug_cli.forms.catalogue import BOXES, DETECTIONS, FORMS, target_of
from medaug_cli.forms.converting import convert, write_form
from medaug_cli.forms.form import Finds
from medaug_cli.forms.reading import read_annotations
from medaug_cli.metrics.annotations import found_boxes
from medaug_cli.scans.survey import find_scans

NAMES = ("p1/slice 1.png", "p2/slice 1.png", "b.1.png", "é.png")
LABELS = ("glioma", "cyst, left; large", "gliome à cellules")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return find_scans(pictures(tmp_path_factory.mktemp("pictures"), NAMES))


@st.composite
def drawn(draw):
    """Draw a box in a picture, as float32 as detectors give them, and its label."""
    ends = [sorted(draw(st.tuples(*[st.floats(0, side, width=32)] * 2))) for side in SIZE]
    box = [ends[0][0], ends[1][0], ends[0][1], ends[1][1]]
    if min(box[2] - box[0], box[3] - box[1]) < 0.5:
        box = [10.0, 10.0, 20.5, 30.25]
    return box, draw(st.integers(0, len(LABELS) - 1))


many = st.lists(st.lists(drawn(), max_size=3), min_size=len(NAMES), max_size=len(NAMES))


@examples(15, phases=[Phase.explicit, Phase.generate])
@given(many)
def test_detections(scans, tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("found")
    answers = [
        (np.array([box for box, _ in own]).reshape(-1, 4), np.linspace(0.9, 0.1, len(own)), [kind for _, kind in own])
        for own in rows
    ]
    assert set(DETECTIONS) == {"coco", "yolo", "csv"}
    for name, form in DETECTIONS.items():
        finds = Finds([scan.id for scan in scans], found_boxes(answers), LABELS, lambda image: SIZE,
                      {"file": [scan.relative for scan in scans], "slice": [""] * len(scans)})  # fmt: skip
        form.write_detections(finds, target_of(form, folder / name))
        found = read_annotations(target_of(form, folder / name), scans).scans
        for scan, own in zip(scans, rows, strict=True):
            item = found.get(scan.id)
            if item is None:  # a table has no row for an image in which nothing was found
                assert (name, own) == ("csv", [])
                continue
            np.testing.assert_allclose(item.boxes, [box for box, _ in own], atol=1e-4)
            assert item.labels == [LABELS[kind] for _, kind in own]


@examples(15, phases=[Phase.explicit, Phase.generate])
@given(many)
def test_boxes(scans, tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("boxes")
    images = [
        ImageBoxes(id=scan.id, width=SIZE[0], height=SIZE[1], file=scan.relative, patient=f"p{i}", boxes=[
            LabelledBox(box=box, label=LABELS[kind]) for box, kind in own])
        for i, (scan, own) in enumerate(zip(scans, rows, strict=True))
    ]  # fmt: skip
    for name, form in BOXES.items():
        target = target_of(form, folder / name)
        write_form(name, BoxesFile(version=1, images=images), target)
        found = read_annotations(target, scans)
        assert set(found.scans) == {scan.id for scan in scans}
        for scan, own in zip(scans, rows, strict=True):
            item = found.scans[scan.id]
            np.testing.assert_allclose(item.boxes, [box for box, _ in own], atol=1e-6)
            assert item.labels == [LABELS[kind] for _, kind in own], name
            if name in ("boxes", "coco", "csv", "monai"):
                assert item.patient == f"p{scans.index(scan)}"


@pytest.mark.parametrize("name", ["coco", "csv"])
def test_detections_in_slices_are_boxes_in_3d(tmp_path, name):
    (tmp_path / "scans").mkdir()
    for case in "ab":
        sitk.WriteImage(sitk.Image(48, 40, 8, sitk.sitkUInt8), tmp_path / f"scans/{case}.nii.gz")
    scans = find_scans(tmp_path / "scans")
    nothing = (np.empty((0, 4)), [], [])
    answers = [(np.array([[1, 2, 5.5, 8]]), [0.5], [0]), nothing, (np.array([[3, 4, 9, 9]]), [0.4], [1])]
    columns = {"file": ["a.nii.gz", "a.nii.gz", "b.nii.gz"], "slice": [3, 4, 0]}
    finds = Finds(["a-003", "a-004", "b-000"], found_boxes(answers), LABELS, lambda image: (48, 40), columns)
    target = target_of(DETECTIONS[name], tmp_path / "found")
    DETECTIONS[name].write_detections(finds, target)
    assert plain(read_annotations(target, scans)) == {
        "a": [((1, 2, 3, 5.5, 8, 4), LABELS[0])], "b": [((3, 4, 0, 9, 9, 1), LABELS[1])]
    }  # fmt: skip


def test_two_images_of_one_name_are_not_written_into_one_file(tmp_path):
    nothing = (np.empty((0, 4)), [], [])
    finds = Finds(["p1/1.png", "p1-1.png"], found_boxes([nothing] * 2), LABELS, lambda image: SIZE)
    with pytest.raises(BadInput, match=r"two images would be written as p1-1\.txt"):
        DETECTIONS["yolo"].write_detections(finds, tmp_path / "yolo")


def test_a_format_has_a_name_of_its_own():
    assert len({form.name for form in FORMS}) == len(FORMS) == len({form.title for form in FORMS})


@pytest.mark.parametrize(("name", "suffix"), [("yolo", ".txt"), ("voc", ".xml")])
@pytest.mark.parametrize("picture", ["benign (1).png", "caf\u00e9.PNG", "p 1/a.left.png", "a" * 130 + ".png"])
def test_files_are_called_by_their_pictures_as_other_tools_look_for_them(tmp_path, name, suffix, picture):
    pictures(tmp_path, [picture, "p 1/a.png"])
    files(tmp_path, {"m.csv": f"image,x_min,y_min,x_max,y_max\n{picture},50,10,66,24\n"})
    convert(tmp_path / "m.csv", tmp_path / "scans", name, tmp_path / "out")
    assert (tmp_path / "out" / picture).with_suffix(suffix).is_file()
    (found,) = plain(read(tmp_path, "out")).values()
    assert [box for box, _ in found] == [BOX]
