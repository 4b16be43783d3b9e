"""What has no box: normals on request, scans that nobody annotated, and no image whose lesions were dropped."""

from dataclasses import replace

import numpy as np
import pytest
from support.tiny_scans import BOX, PLAIN, grey_volume, made, mask, options, picture, reported, rows, summed, volume

from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.lesions import Lesions, slices_of
from medaug_cli.forms.reading import read_annotations
from medaug_cli.preprocess.plan import plan_of
from medaug_cli.scans.survey import find_scans
from medaug_cli.store import detector_examples, generator_examples, open_store, unannotated_words

ALL = "1,0,0"
TINY = (20, 20, 22, 22)  # 4 pixels, fewer than --min-area


def draw(folder, **boxes):
    """Draw pictures with boxes, a CSV of those in which somebody looked, and masks of all."""
    for name, own in boxes.items():
        picture(folder / f"scans/{name}.png", *own)
        mask(folder / f"masks/{name}.png", *own)
    lines = [f"{name}.png,{','.join(map(str, box))}" for name, own in boxes.items() for box in own]
    return rows(folder, lines)


def states(store):
    return {each["id"]: each["state"] for each in reported(store)["slices"]}


def test_scans_without_annotation_are_left_out_unless_they_are_asked_for(tmp_path):
    boxes = draw(tmp_path, a=[BOX], b=[], c=[])
    said = []
    store = made(tmp_path, boxes=boxes, split=ALL, said=said)
    assert store.ids == ["a"]
    assert states(store) == {"a": "kept", "b": "no annotation", "c": "no annotation"}
    assert summed(store).left_out == {"scans without annotation": 2}
    assert said[0].startswith("1 of 3 scans are annotated, ")


def test_normals_are_kept_and_counted(tmp_path):
    boxes, said = draw(tmp_path, a=[BOX], b=[], c=[]), []
    store = made(tmp_path, boxes=boxes, normals=True, split=ALL, said=said)
    assert store.ids == ["a", "b", "c"]
    assert store.annotated.all()
    assert [len(own) for own in store.boxes] == [1, 0, 0]
    assert (summed(store).normals, summed(store).lesions) == (2, 1)
    assert said[0].startswith("1 of 3 scans are annotated, 2 taken as normal")
    assert [image.annotated for image in read_boxes(tmp_path / "out/boxes.json").images] == [None] * 3
    assert store.info.settings["normals"] is True


def test_a_row_without_corners_is_a_normal_whatever_is_asked_for(tmp_path):
    draw(tmp_path, a=[BOX], b=[], c=[])
    boxes = rows(tmp_path, ["a.png,8,6,18,16", "b.png,,,,"])
    store = made(tmp_path, boxes=boxes, unannotated=True, split=ALL)
    assert store.annotated.tolist() == [True, True, False]
    assert (summed(store).normals, summed(store).unannotated) == (1, 1)


def test_an_empty_mask_is_a_normal_and_none_is_not(tmp_path):
    draw(tmp_path, a=[BOX], b=[], c=[])
    (tmp_path / "masks/c.png").unlink()
    store = made(tmp_path, masks=tmp_path / "masks", split=ALL)
    assert states(store) == {"a": "kept", "b": "kept", "c": "no annotation"}
    store = made(tmp_path, masks=tmp_path / "masks", normals=True, split=ALL, overwrite=True)
    assert summed(store).normals == 2


def test_normals_of_a_volume(tmp_path):
    values = grey_volume()
    for name in "ab":
        volume(tmp_path / f"scans/{name}.nii.gz", values)
    lesion = np.zeros(values.shape, np.uint8)
    lesion[2:4, 6:16, 8:18] = 1
    volume(tmp_path / "masks/a.nii.gz", lesion)
    store = made(tmp_path, masks=tmp_path / "masks", normals=True, split=ALL)
    assert summed(store).normals == 4 + 6
    assert summed(store).lesions == 2


def test_a_split_of_the_annotation_shares_out_the_normals_that_it_does_not_name(tmp_path):
    names = {f"n{i}": [] for i in range(20)}
    draw(tmp_path, a=[BOX], b=[BOX], **names)
    boxes = rows(
        tmp_path, ["a.png,8,6,18,16,train,", "b.png,8,6,18,16,test,"], "image,x_min,y_min,x_max,y_max,split,patient"
    )
    plan = plan_of(options(tmp_path, boxes=boxes, normals=True))
    assert (plan.splits["a"], plan.splits["b"]) == ("train", "test")
    assert sorted(plan.splits.values()) == ["test"] * 5 + ["train"] * 15 + ["val"] * 2
    plan = plan_of(options(tmp_path, boxes=boxes, unannotated=True))
    assert all(plan.splits[name] == "train" for name in names)


DROPPED = {  # how a lesion is lost -> boxes of a and of b by mask or box, the words
    "too small": ([BOX, TINY], [TINY], "smaller than --min-area 10"),
    "one pixel": ([BOX, (1, 1, 2, 2)], [(1, 1, 2, 2)], "smaller than --min-area 10"),
    "a line": ([BOX, (1, 1, 9, 2)], [(1, 1, 9, 2)], "smaller than --min-area 10"),
    "several": ([BOX, TINY, (1, 1, 2, 2)], [TINY, (1, 1, 2, 2)], "smaller than --min-area 10"),
}


@pytest.mark.parametrize("how", DROPPED)
def test_a_mask_whose_lesions_are_dropped_leaves_no_normal(tmp_path, how):
    first, second, words = DROPPED[how]
    draw(tmp_path, a=first, b=second, c=[])
    store = made(tmp_path, masks=tmp_path / "masks", normals=True, split=ALL)
    assert store.ids == ["a", "c"]
    assert [len(own) for own in store.boxes] == [1, 0]
    lost = len(first) - 1 + len(second)
    assert summed(store).dropped == {words: lost}
    assert summed(store).normals == 1
    report = next(each for each in reported(store)["slices"] if each["id"] == "b")
    assert (report["state"], report["reason"]) == ("skipped", "its lesions were dropped")
    assert "4 pixels" in report["dropped_boxes"][0] or how != "too small"


@pytest.mark.parametrize("least", [1, 4, 5, 100, 101])
def test_the_least_area_is_the_first_that_counts(tmp_path, least):
    draw(tmp_path, a=[BOX], b=[TINY])
    recipe = replace(PLAIN, least_area=least)
    if least > 100:
        with pytest.raises(BadInput, match=r"no image of .* is left to store"):
            made(tmp_path, recipe, masks=tmp_path / "masks", split=ALL)
        assert not list((tmp_path / "out").rglob("*"))
    else:
        store = made(tmp_path, recipe, masks=tmp_path / "masks", split=ALL)
        assert store.ids == (["a", "b"] if least <= 4 else ["a"])


def test_a_lesion_outside_the_crop_leaves_no_normal(tmp_path):
    boxes = draw(tmp_path, a=[BOX], b=[(28, 28, 31, 31)], c=[BOX, (28, 28, 31, 31)])
    for name in "abc":
        mask(tmp_path / f"brains/{name}.png", (4, 4, 20, 20))
    recipe = replace(PLAIN, strip=f"{tmp_path}/brains")
    store = made(tmp_path, recipe, boxes=boxes, split=ALL)
    dropped = summed(store).dropped
    assert sum(dropped.values()) >= 0
    assert all(len(own) for own in store.boxes), "no picture of a lesion passes for a normal one"
    assert set(store.ids) <= {"a", "b", "c"}


def test_the_ends_of_a_lesion_in_a_volume_are_no_normals(tmp_path):
    values = grey_volume(8)
    volume(tmp_path / "scans/a.nii.gz", values)
    lesion = np.zeros(values.shape, np.uint8)
    lesion[3:5, 6:16, 8:18] = 1
    lesion[2, 8:10, 10:12] = lesion[5, 8:10, 10:12] = 1  # its ends: 4 pixels
    volume(tmp_path / "masks/a.nii.gz", lesion)
    store = made(tmp_path, masks=tmp_path / "masks", split=ALL)
    assert [detail["slice"] for detail in store.details] == [0, 1, 3, 4, 6, 7]
    assert summed(store).dropped == {"smaller than --min-area 10": 2}
    assert summed(store).normals == 4


FLAT = "image,x_min,y_min,z_min,x_max,y_max,z_max"


@pytest.mark.parametrize(
    ("ends", "with_box", "normal"),
    [
        ((2, 4), [2, 3], [0, 1, 4, 5]),
        ((2.6, 4), [3], [0, 1, 4, 5]),  # the rest of slice 2 is neither
        ((2.4, 4), [2, 3], [0, 1, 4, 5]),
        ((2.6, 3.4), [3], [0, 1, 4, 5]),
        ((2.7, 3.4), [3], [0, 1, 4, 5]),
        ((2.05, 2.2), [2], [0, 1, 3, 4, 5]),
        ((2.0, 4.05), [2, 3], [0, 1, 4, 5]),  # a twentieth of a slice is rounding
        ((0, 6), [0, 1, 2, 3, 4, 5], []),
    ],
)
def test_a_box_in_3d_has_a_slice_and_no_slice_that_it_reaches_into_is_normal(tmp_path, ends, with_box, normal):
    volume(tmp_path / "scans/a.nii.gz", grey_volume())
    boxes = rows(tmp_path, [f"a.nii.gz,8,6,{ends[0]},18,16,{ends[1]}"], FLAT)
    store = made(tmp_path, boxes=boxes, split=ALL)
    own = {detail["slice"]: len(some) for detail, some in zip(store.details, store.boxes, strict=True)}
    assert [z for z, count in own.items() if count] == with_box
    found = [z for z, count in own.items() if not count]
    assert set(found) <= set(normal)
    assert all(min(ends[1], z + 1) - max(ends[0], z) <= 0.1 for z in found)


def test_every_box_in_3d_has_at_least_one_slice():
    rng = np.random.default_rng(0)
    for low, side in zip(rng.uniform(0, 9, 500), rng.uniform(1e-3, 3, 500), strict=True):
        box = np.array([0, 0, low, 1, 1, low + side])
        assert len(slices_of(box))
        assert all(low - 1 < z < low + side for z in slices_of(box))
        lesions = Lesions(box[None].astype(np.float32), ["lesion"])
        assert all(len(lesions.in_slice(z, 1)[0]) == 1 for z in slices_of(box))


@pytest.mark.parametrize("options_given", [
    {"normals": True, "unannotated": True},
    {"unannotated": True, "recipe": replace(PLAIN, region_mm=32.0)}, {},
])  # fmt: skip
def test_what_does_not_go_together_is_refused(tmp_path, options_given):
    draw(tmp_path, a=[BOX])
    with pytest.raises(UsageError, match=r"--unannotated|--normals"):
        made(tmp_path, **options_given)


def test_scans_without_any_annotation_make_a_store_in_which_nothing_is_normal(tmp_path):
    draw(tmp_path, a=[BOX], b=[], c=[])
    said = []
    store = made(tmp_path, unannotated=True, said=said)
    assert store.ids == ["a", "b", "c"]
    assert set(store.splits) == {"train"}
    assert not store.annotated.any()
    assert not any(map(len, store.boxes))
    assert (summed(store).unannotated, summed(store).normals) == (3, 0)
    assert len(store.indices("train")) == 0
    assert len(store.indices("train", unannotated=True)) == 3
    (only,) = said  # nothing to split, so no warning about splits
    assert only.startswith("3 scans taken as unannotated")
    images = read_boxes(tmp_path / "out/boxes.json").images
    assert [(image.id, image.annotated, image.boxes) for image in images] == [(name, False, []) for name in "abc"]


def test_volumes_without_annotation_are_stored_slice_by_slice(tmp_path):
    for name in "ab":
        volume(tmp_path / f"scans/{name}.nii.gz", grey_volume())
    store = made(tmp_path, unannotated=True)
    assert len(store) == 12
    assert not store.annotated.any()
    lesions_alone = replace(PLAIN, slices="lesions")
    assert len(made(tmp_path, lesions_alone, unannotated=True, overwrite=True)) == 12


def test_stripping_alone(tmp_path):
    draw(tmp_path, a=[BOX], b=[])
    for name in "ab":
        mask(tmp_path / f"brains/{name}.png", (4, 4, 28, 28))
    recipe = replace(PLAIN, strip=f"{tmp_path}/brains", keep_masks=tmp_path / "kept")
    assert len(made(tmp_path, recipe, unannotated=True)) == 2
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a.png", "b.png"]


def test_annotated_and_unannotated_scans_in_one_store(tmp_path):
    boxes = draw(tmp_path, **{f"a{i}": [BOX] for i in range(10)}, b=[], c=[])
    store = made(tmp_path, boxes=boxes, unannotated=True, seed=1)
    assert dict(zip(store.ids, store.annotated, strict=True))["b"] is np.False_
    assert {str(store.splits[store.ids.index(name)]) for name in "bc"} == {"train"}
    assert set(store.splits) == {"train", "val", "test"}
    train = store.indices("train")
    assert all(len(store.boxes[i]) for i in train)
    assert len(detector_examples(store, [])) == len(generator_examples(store)) == len(train) == 7
    assert unannotated_words(store, "train")[0].endswith(
        "2 images in the train split are not annotated and are left out; no box does not mean no lesion"
    )
    assert unannotated_words(store, "test") == []


def test_an_unannotated_scan_stays_with_its_patient(tmp_path):
    for i in range(10):
        picture(tmp_path / f"scans/p{i}/a.png", BOX)
        picture(tmp_path / f"scans/p{i}/b.png")
    boxes = rows(tmp_path, [f"p{i}/a.png,8,6,18,16" for i in range(10)])
    store = made(tmp_path, boxes=boxes, unannotated=True)
    home = {}
    for patient, split in zip(store.patients, store.splits, strict=True):
        assert home.setdefault(patient, split) == split
    assert set(home.values()) == {"train", "val", "test"}
    assert len(store.indices("test")) == 2
    assert len(store.indices("test", unannotated=True)) == 4


def test_nothing_can_be_fitted_on_unannotated_scans_alone(tmp_path):
    draw(tmp_path, a=[BOX])
    store = made(tmp_path, unannotated=True)
    for fit in (generator_examples, lambda store: detector_examples(store, [])):
        with pytest.raises(BadInput, match=r"no annotated (real )?image in the training split"):
            fit(store)


def test_an_old_store_has_no_unannotated_images_and_keeps_its_hash(tmp_path):
    boxes = draw(tmp_path, a=[BOX], b=[BOX])
    store = made(tmp_path, boxes=boxes, split=ALL)
    assert store.columns.annotated is None
    assert open_store(store.path).hash == store.hash


def test_unannotated_images_of_a_boxes_json_are_no_normals_when_it_is_read(tmp_path):
    draw(tmp_path, a=[BOX], b=[])
    boxes = rows(tmp_path, ["a.png,8,6,18,16"])
    made(tmp_path, boxes=boxes, unannotated=True, split=ALL)
    found = read_annotations(tmp_path / "out/boxes.json", find_scans(tmp_path / "scans")).scans
    assert set(found) == {"a"}
