"""Folders of scans and masks through `preprocess` and `boxes`: right boxes, labels and words, nothing lost."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medaug_cli.errors import BadInput
from medaug_cli.forms.converting import convert
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe

SIDE = 32
FIRST, SECOND, TOUCHING, TINY = (4, 6, 12, 14), (20, 18, 28, 24), (12, 6, 16, 14), (2, 26, 4, 28)  # boxes


def marked(boxes, outside=0):
    """Return a picture (h, w) uint8 with boxes filled with their values: {box: value}."""
    picture = np.full((SIDE, SIDE), outside, np.uint8)
    for (x0, y0, x1, y1), value in boxes.items():
        picture[y0:y1, x0:x1] = value
    return picture


def save(path, picture, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(picture, "P" if palette else "L")
    if palette:
        made.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    made.save(path)


def save_scan(path, *boxes):
    noise = np.random.default_rng(0).integers(30, 60, (SIDE, SIDE), np.uint8)
    save(path, np.maximum(noise, marked(dict.fromkeys(boxes, 220))))


def stored(folder, scans=".", masks=".", strict=False, **options):
    """Return {id: its boxes and labels} of the store made of a folder, and what was said."""
    said = []
    recipe = Recipe(size=SIDE, strip="none", denoising="none", **options)
    store = preprocess(
        PreprocessOptions(
            folder / scans, folder / "out/real.h5", masks=folder / masks, split="1,0,0", recipe=recipe,
            announce=said.append, workers=1, strict=strict,
        )
    )  # fmt: skip
    found = {}
    for name, boxes, labels in zip(store.ids, store.boxes, store.labels, strict=True):
        names = [store.spec.label_names[label] for label in labels]
        found[name] = sorted(zip(map(tuple, boxes.tolist()), names, strict=True))
    return found, said, store


def test_parts_of_a_picture_are_a_lesion_each(tmp_path):
    save_scan(tmp_path / "data/a (1).png", FIRST, SECOND, TOUCHING)
    save_scan(tmp_path / "data/a (11).png", SECOND)
    masks = {"a (1)_mask": FIRST, "a (1)_mask_1": TOUCHING, "a (1)_mask_2": SECOND, "a (11)_mask": SECOND}
    for name, box in masks.items():
        save(tmp_path / f"data/{name}.png", marked({box: 255}))
    found, said, store = stored(tmp_path, "data", "data")
    assert [list(map(tuple, zip(*own, strict=True))) for own in found.values()] == [
        [tuple(sorted([FIRST, SECOND, TOUCHING])), ("lesion",) * 3], [(SECOND,), ("lesion",)],
    ]  # fmt: skip
    assert int(store.masks[0].sum()) == 8 * 8 + 4 * 8 + 8 * 6
    assert "4 files are masks by folder or name" in "".join(said)
    convert(tmp_path / "data", tmp_path / "data", "csv", tmp_path / "boxes.csv")
    assert (tmp_path / "boxes.csv").read_text(encoding="utf-8").count("lesion") == 4


@pytest.mark.parametrize("palette", [False, True])
def test_names_and_regions_come_from_dataset_json(tmp_path, palette):
    save_scan(tmp_path / "imagesTr/c_0000.png", FIRST, SECOND, TOUCHING)
    save(tmp_path / "labelsTr/c.png", marked({FIRST: 1, TOUCHING: 2, SECOND: 3}), palette)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "cyst": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    found, _, store = stored(tmp_path, "imagesTr", "labelsTr")
    both = (FIRST[0], FIRST[1], TOUCHING[2], TOUCHING[3])
    assert found == {"c_0000": sorted([(both, "whole"), (TOUCHING, "core"), (SECOND, "cyst")])}
    assert store.spec.label_names == ("core", "cyst", "whole")
    assert store.info.mask_names == ["core", "cyst", "whole"]
    assert np.array_equal(store.masks[0], marked({FIRST: 3, TOUCHING: 1, SECOND: 2}))  # of both names the narrower


@pytest.mark.parametrize("named", [False, True])
def test_values_without_names_are_one_kind_of_lesion_and_that_is_said(tmp_path, named):
    for name in "ab":
        save_scan(tmp_path / f"scans/{name}.png", FIRST, SECOND)
        save(tmp_path / f"masks/{name}.png", marked({FIRST: 1, SECOND: 2 if name == "a" else 1}))
    if named:
        text = json.dumps({"background": 0, "oedema": 1, "core": 2})
        (tmp_path / "masks/labels.json").write_text(text, encoding="utf-8")
    found, said, _ = stored(tmp_path, "scans", "masks")
    first, second = ("oedema", "core") if named else ("lesion", "lesion")
    assert found["a"] == sorted([(FIRST, first), (SECOND, second)])
    assert [line.split(":")[0] for line in said if "without names" in line] == ([] if named else ["a.png"])
    told: list[str] = []
    convert(tmp_path / "masks", tmp_path / "scans", "csv", tmp_path / "boxes.csv", say=told.append)
    assert [line.split(":")[-1] for line in told if "without names" in line] == ([] if named else [" a.png"])


@pytest.mark.parametrize("size", [SIDE, 16])
def test_masks_of_several_labels_keep_their_values_when_they_are_resized(tmp_path, size):
    save_scan(tmp_path / "imagesTr/c_0000.png", FIRST, SECOND)
    save_scan(tmp_path / "imagesTr/d_0000.png")
    save(tmp_path / "labelsTr/c.png", marked({FIRST: 1, (8, 6, 12, 14): 4, SECOND: 7}))
    save(tmp_path / "labelsTr/d.png", marked({}))
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "oedema": 1, "core": 4, "cyst": 7}}), encoding="utf-8"
    )
    recipe = Recipe(size=size, strip="none", denoising="none", least_area=1)
    options = PreprocessOptions(
        tmp_path / "imagesTr", tmp_path / "out/real.h5", masks=tmp_path / "labelsTr", split="1,0,0", recipe=recipe,
        workers=1,
    )  # fmt: skip
    store = preprocess(options)
    assert store.info.mask_names == ["core", "cyst", "oedema"]
    values, counts = np.unique(store.masks[0], return_counts=True)
    scale = (SIDE // size) ** 2
    assert values.tolist() == [0, 1, 2, 3]
    assert counts[1:].tolist() == [32 // scale, 48 // scale, 32 // scale]
    assert not store.masks[1].any()
    plain = preprocess(replace(options, out=tmp_path / "one/real.h5", recipe=replace(recipe, label="lesion")))
    assert plain.info.mask_names == []
    assert np.array_equal(plain.masks[0], store.masks[0] > 0)


@pytest.mark.parametrize("named", [False, True])
def test_a_lesion_below_the_least_area_is_reported_and_its_slice_is_no_normal_one(tmp_path, named):
    for name, boxes in {"a": (FIRST, TINY), "b": (TINY,), "c": ()}.items():
        save_scan(tmp_path / f"imagesTr/{name}.png", *boxes)
        save(tmp_path / f"labelsTr/{name}.png", marked(dict.fromkeys(boxes, 1)))
    if named:
        text = json.dumps({"labels": {"background": 0, "glioma": 1}})
        (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    found, _, _ = stored(tmp_path, "imagesTr", "labelsTr", least_area=10)
    assert found == {"a": [(FIRST, "glioma" if named else "lesion")], "c": []}
    report = json.loads((tmp_path / "out/preprocess.json").read_text(encoding="utf-8"))
    dropped = {one["id"]: one["dropped_boxes"] for one in report["slices"]}
    assert all("smaller than --min-area 10" in dropped[name][0] for name in "ab")


def test_a_label_volume_that_was_scaled_keeps_every_lesion(tmp_path):
    scan = np.random.default_rng(0).integers(30, 60, (6, SIDE, SIDE)).astype(np.int16)
    labels = np.zeros(scan.shape, np.float32)
    for z, (x0, y0, x1, y1), value in ((2, FIRST, 0.988), (3, SECOND, 1.992)):
        scan[z, y0:y1, x0:x1], labels[z, y0:y1, x0:x1] = 220, value
    for name, array in (("scans/c1", scan), ("masks/c1_seg", labels)):
        (tmp_path / name).parent.mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    found, _, _ = stored(tmp_path, "scans", "masks", slices="lesions")
    assert [[box for box, _ in own] for own in found.values()] == [[FIRST], [SECOND]]


def test_only_annotated_scans_get_a_mask_and_a_preview_none(tmp_path):
    for name in ("p1/s_1", "p1/s_2", "p1/s_3", "p2/s_1", "p2/s_3"):
        save_scan(tmp_path / f"data/{name}.png", FIRST)
    save(tmp_path / "data/p1/s_3_mask.png", marked({FIRST: 255}))
    save(tmp_path / "data/p2/s_4_mask.png", marked({FIRST: 255}))
    found, said, _ = stored(tmp_path, "data", "data")
    assert found == {"p1-s_3": [(FIRST, "lesion")]}
    assert "a mask without a scan of its name, left out: p2/s_4_mask.png" in said
    report = json.loads((tmp_path / "out/preprocess.json").read_text(encoding="utf-8"))
    assert "p2/s_4_mask.png" in [one["file"] for one in report["left_out"]]
    with pytest.raises(BadInput, match=r"--strict: a mask without a scan of its name, .*s_4_mask\.png"):
        stored(tmp_path, "data", "data", strict=True)
    assert "4 of 5 scans have no mask: p1/s_1.png, p1/s_2.png, p2/s_1.png and 1 more" in said


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (marked({FIRST: 0}, outside=255), r"masks/b\.png marks .* white outside"),
        (np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8), r"masks/b\.png has .* grey values"),
    ],
)
def test_a_mask_that_is_none_is_refused_before_anything_is_written(tmp_path, mask, why):
    for name in "ab":
        save_scan(tmp_path / f"scans/{name}.png", FIRST)
    save(tmp_path / "masks/a.png", marked({FIRST: 255}))
    save(tmp_path / "masks/b.png", mask)
    with pytest.raises(BadInput, match=why):
        stored(tmp_path, "scans", "masks")
    assert not list(tmp_path.glob("out/*"))


INNER = [  # the small lesion's box, of which each pixel becomes a fourth of one, and its side
    *((x, y, 1) for x in (9, 12, 14) for y in (7, 10, 13)), *((x, y, 2) for x in (9, 12) for y in (7, 11)),
]  # fmt: skip


@pytest.mark.parametrize("inner", INNER)
def test_a_small_lesion_within_one_of_another_label_keeps_its_mark(tmp_path, inner):
    x, y, side = inner
    save_scan(tmp_path / "imagesTr/c_0000.png", FIRST)
    save(tmp_path / "labelsTr/c.png", marked({(6, 4, 18, 16): 2, (x, y, x + side, y + side): 1}))
    labels = {"background": 0, "core": 1, "oedema": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    recipe = Recipe(size=SIDE // 2, strip="none", denoising="none", least_area=1)
    store = preprocess(
        PreprocessOptions(
            tmp_path / "imagesTr",
            tmp_path / "out/real.h5",
            masks=tmp_path / "labelsTr",
            split="1,0,0",
            recipe=recipe,
            workers=1,
        )
    )
    assert sorted(store.spec.label_names[label] for label in store.labels[0]) == ["core", "oedema"]
    core = store.masks[0] == store.info.mask_names.index("core") + 1
    scale = SIDE // recipe.size
    assert core[y // scale, x // scale]
    assert core.sum() <= 4
    assert (store.masks[0] == store.info.mask_names.index("oedema") + 1).sum() > 20
