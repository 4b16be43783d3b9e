"""The same boxes in every form that people have them, and scans that are damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drawn_slices import BOXES, FORMS, PATIENTS, SIDE, as_boxes_json, as_coco, as_csv, as_voc, as_yolo, draw
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.policy import cut_off
from medaug_cli.forms.reading import read_annotations
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.scans.masks import components
from medaug_cli.scans.survey import find_scans
from medaug_cli.store import open_store


def made(folder, boxes, scans=None, **changed):
    recipe = Recipe(32, "none", label="lesion")
    options = {"boxes": boxes, "split": "0.4,0.3,0.3", "recipe": recipe, **changed}
    return preprocess(PreprocessOptions(scans or folder / "scans", folder / "real.h5", **options))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_boxes(tmp_path, form):
    draw(tmp_path)
    whole = made(tmp_path, as_boxes_json(tmp_path))
    expected = {name: whole.boxes[i] for i, name in enumerate(whole.ids)}
    assert sum(map(len, expected.values())) == 4
    shutil.copytree(tmp_path / "scans", tmp_path / "again/scans")
    again = made(tmp_path / "again", form(tmp_path / "again"))
    assert set(again.ids) == set(expected)
    for i, name in enumerate(again.ids):
        order = np.lexsort(again.boxes[i].T), np.lexsort(expected[name].T)
        np.testing.assert_allclose(again.boxes[i][order[0]], expected[name][order[1]], atol=1e-4)


def test_a_box_lies_on_its_lesion(tmp_path):
    store = made(draw(tmp_path).parent, as_boxes_json(tmp_path))
    for i in range(len(store)):
        for x_min, y_min, x_max, y_max in np.rint(store.boxes[i]).astype(int):
            inner = store.images[i, 0, y_min + 1 : y_max - 1, x_min + 1 : x_max - 1]
            assert inner.size == 0 or inner.mean() > store.images[i, 0].mean() + 30


corner = st.integers(0, SIDE - 4)


@given(st.lists(st.tuples(corner, corner, st.integers(3, SIDE), st.integers(3, SIDE)), min_size=1, max_size=4))
def test_any_box_survives_every_text_form(tmp_path_factory, boxes):
    folder = tmp_path_factory.mktemp("forms")
    asked = list(dict.fromkeys((x, y, min(SIDE, x + w), min(SIDE, y + h)) for x, y, w, h in boxes))  # none twice
    (folder / "scans").mkdir()
    Image.new("L", (SIDE, SIDE)).save(folder / "scans/a.png")
    before = dict(BOXES), dict(PATIENTS)
    try:
        BOXES.clear()
        BOXES["a"] = asked
        for form in (as_boxes_json, as_csv, as_coco, as_yolo, as_voc):
            read = read_annotations(form(folder), find_scans(folder / "scans")).scans["a"]
            np.testing.assert_allclose(read.arrays(), asked, atol=1e-4)
    finally:
        BOXES.clear()
        BOXES.update(before[0])


def test_components_are_boxes_of_touching_pixels():
    mask = np.zeros((16, 16), np.uint8)
    mask[2:5, 3:9] = 1
    mask[5, 9] = 1  # touches by a corner
    mask[12, 12] = 1  # too small
    assert components(mask, least=4).tolist() == [[3, 2, 10, 6]]


def test_a_box_just_over_the_border_is_cut_off_and_one_far_out_refused():
    cut, real, notes = cut_off(np.array([[-0.5, 0, 5, 5], [3, 3, 3, 9]], np.float32), (16, 16), ["1", "2"], "x")
    assert cut.tolist() == [[0, 0, 5, 5], [3, 3, 3, 9]]
    assert real.tolist() == [True, False]
    assert [(note.place, note.lost) for note in notes] == [("1", False), ("2", True)]
    with pytest.raises(BadInput, match=r"line 7: .* outside its image x of 16x16"):
        cut_off(np.array([[0, 0, 20, 5]], np.float32), (16, 16), ["line 7"], "x")


def volume(folder, name="p1", bad=None):
    """Write a volume of 8 slices of anisotropic pixels and a label volume of two lesions."""
    _, y, x = np.indices((8, 48, 40))
    image = (100 * ((y - 24) ** 2 + (x - 20) ** 2 < 300)).astype(np.float32) + (x % 3)
    labels = np.zeros(image.shape, np.uint8)
    labels[2:5, 10:20, 12:18] = 1
    labels[4:6, 28:36, 20:30] = 1
    image[labels > 0] += 80
    image[0] = 0
    if bad is not None:
        image[3, 3, 3] = bad
    for array, file in ((image, f"{name}.nii.gz"), (labels, f"{name}_mask.nii.gz")):
        written = sitk.GetImageFromArray(array)
        written.SetSpacing((1.0, 1.0, 4.0))
        (folder / "volumes" / name).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(written, str(folder / "volumes" / name / file))
    return folder / "volumes"


def test_volumes_become_slices_with_a_box_for_each_component(tmp_path):
    for name in ("p1", "p2", "p3"):
        scans = volume(tmp_path, name)
    recipe = Recipe(32, "none", label="lesion")
    store = preprocess(PreprocessOptions(scans, tmp_path / "real.h5", masks=scans, split="0.4,0.3,0.3", recipe=recipe))
    assert set(store.patients) == {"p1", "p2", "p3"}
    report = json.loads((tmp_path / "preprocess.json").read_text(encoding="utf-8"))
    assert len(report["slices"]) == 24
    left_out = [row for row in report["slices"] if row["state"] != "kept"]
    assert [row["state"] for row in left_out] == ["blank"] * 3  # the empty first slice of each
    for patient in PATIENTS.values():
        counts = sorted(len(store.boxes[i]) for i in range(len(store)) if store.patients[i] == patient)
        assert counts == [0, 0, 0, 1, 1, 1, 2]


def damaged(folder, how):
    scans = draw(folder)
    path = scans / "b.png"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("this is no picture", encoding="utf-8")
    return scans


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_a_damaged_picture_is_named(tmp_path, how):
    damaged(tmp_path, how)
    boxes = as_csv(tmp_path)
    with pytest.raises(BadInput, match=r"b\.png"):
        made(tmp_path, boxes)
    assert not (tmp_path / "real.h5").exists()
    store = made(tmp_path, boxes, keep_going=True, overwrite=True)
    assert set(store.ids) == {"a", "c", "d"}
    rows = json.loads((tmp_path / "preprocess.json").read_text(encoding="utf-8"))["slices"]
    assert [row["state"] for row in rows if row["id"] == "b"] == ["skipped"]


@pytest.mark.parametrize("how", ["truncated", "nan", "infinite"])
def test_a_damaged_volume_is_named(tmp_path, how):
    scans = volume(tmp_path, bad={"nan": np.nan, "infinite": np.inf}.get(how))
    path = scans / "p1/p1.nii.gz"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=r"p1\.nii\.gz"):
        made(tmp_path, None, scans, masks=scans)
    assert not (tmp_path / "real.h5").exists()


def _changed(folder, change):
    value = json.loads(as_boxes_json(folder).read_text(encoding="utf-8"))
    change(value)
    (folder / "marks.json").write_text(json.dumps(value), encoding="utf-8")
    return folder / "marks.json"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda v: v.update(version=2), "version"),
        (lambda v: v["images"][0].update(id="nobody"), "nobody"),
        (lambda v: v["images"][0]["boxes"][0].update(box=[8, 10, 99, 30]), "99"),
        (lambda v: v["images"][0]["boxes"][0].update(box=[20, 10, 8, 30]), "box"),
        (lambda v: v["images"][0].update(width=32, height=32), "32"),
    ],
)
def test_annotations_that_cannot_be_true_are_refused(tmp_path, change, word):
    draw(tmp_path)
    boxes = _changed(tmp_path, change)
    with pytest.raises((BadInput, UsageError), match=word):
        made(tmp_path, boxes)
    assert not (tmp_path / "real.h5").exists()


def test_an_unknown_form_lists_the_choices(tmp_path):
    draw(tmp_path)
    (tmp_path / "boxes.doc").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="COCO JSON"):
        made(tmp_path, tmp_path / "boxes.doc")


def test_resume_after_half_the_scans_equals_one_run(tmp_path, monkeypatch):
    from medaug_cli.preprocess import pipeline

    draw(tmp_path)
    boxes = as_boxes_json(tmp_path)
    whole = made(tmp_path, boxes).path.read_bytes()
    for name in ("real.h5", "boxes.json", "preprocess.json", "preprocess.html"):
        (tmp_path / name).unlink()
    treat, seen = pipeline.treat, []

    def stops(*arguments, **options):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return treat(*arguments, **options)

    monkeypatch.setattr(pipeline, "treat", stops)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, boxes)
    monkeypatch.setattr(pipeline, "treat", treat)
    assert not (tmp_path / "real.h5").exists()
    assert made(tmp_path, boxes, resume=True).path.read_bytes() == whole


def test_workers_change_nothing(tmp_path):
    draw(tmp_path)
    boxes = as_boxes_json(tmp_path)
    one = made(tmp_path, boxes).path.read_bytes()
    assert made(tmp_path, boxes, workers=2, overwrite=True).path.read_bytes() == one


def test_the_store_says_where_each_image_comes_from(tmp_path):
    draw(tmp_path)
    made(tmp_path, as_boxes_json(tmp_path))
    store = open_store(Path(tmp_path / "real.h5"))
    assert set(store.sources) == {"real"}
    assert store.patients[list(store.ids).index("b")] == "p2"
    assert len({store.splits[i] for i, name in enumerate(store.ids) if name in "cd"}) == 1
