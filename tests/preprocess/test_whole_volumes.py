"""Whole volumes of one size, regions with and without a lesion of volumes and pictures, and a fixed window."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from support.tiny_scans import BOX, PLAIN, made, mask, picture, reported, rows, summed, volume
from typer.testing import CliRunner

from medaug_cli.boxes import read_boxes
from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.annotations import Annotation
from medaug_cli.preprocess.treatment import treat
from medaug_cli.scans.survey import find_scans
from medaug_cli.scans.way_back import scanner_boxes

ALL = "1,0,0"
REGIONS = replace(PLAIN, region_mm=16.0)
WHOLE = replace(PLAIN, volume=(16, 32, 24))
LESION = (4, 12, 10), (9, 18, 15)  # low and high corner, z first


def scene(folder, name="a", *lesions, shape=(24, 40, 36)):
    """Write a grey volume in air with light lesions, and their mask; z first."""
    values, labels = np.full(shape, -1000, np.int16), np.zeros(shape, np.uint8)
    values[2:-2, 3:-3, 3:-3] = 100
    for low, high in lesions:
        place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        values[place], labels[place] = 700, 1
    volume(folder / f"scans/{name}.nii.gz", values)
    volume(folder / f"masks/{name}.nii.gz", labels)
    return values, labels


def made_of_masks(folder, recipe, **how):
    return made(folder, recipe, masks=folder / "masks", split=ALL, **how)


def test_a_volume_whose_size_stays_keeps_its_voxels(tmp_path):
    values, labels = scene(tmp_path, "a", LESION, shape=(16, 32, 24))
    recipe = replace(WHOLE, fit="stretch", window=(-1000.0, 700.0))
    store = made_of_masks(tmp_path, recipe)
    assert store.images.shape == (1, 1, 16, 32, 24)
    assert (store.images[0, 0] == np.rint((values + 1000) / 1700 * 255)).all()
    assert (store.masks[0] == labels).all()
    assert store.boxes[0].tolist() == [[10, 12, 4, 15, 18, 9]]
    assert store.spacing_of(0) == [1, 1, 1]
    assert store.info.settings["window"] == [-1000, 700]
    assert read_boxes(tmp_path / "out/boxes.json").images[0].spatial == (16, 32, 24)


@pytest.mark.parametrize(("mm", "spacing"), [(None, 24 / 16), (2.0, 2.0), (1.25, 1.25)])
def test_voxels_are_cubes_and_boxes_come_back(tmp_path, mm, spacing):
    scene(tmp_path, "a", LESION)
    store = made_of_masks(tmp_path, replace(WHOLE, volume_mm=mm))
    assert store.spacing_of(0) == pytest.approx([spacing] * 3)
    assert scanner_boxes(store.details[0], store.boxes[0])[0] == pytest.approx([10, 12, 4, 15, 18, 9], abs=1e-4)
    box = np.rint(store.boxes[0][0]).astype(int)
    inner = tuple(slice(a, b) for a, b in zip(box[2::-1], box[:2:-1], strict=True))
    assert store.images[0, 0][inner].mean() > 200
    assert store.masks[0].sum() * spacing**3 == pytest.approx(150, rel=0.6)


def test_a_lesion_smaller_than_half_a_voxel_stays_in_the_mask(tmp_path):
    small = ((12, 20, 18), (14, 21, 19))
    scene(tmp_path, "a", LESION, small)
    store = made_of_masks(tmp_path, replace(PLAIN, volume=(8, 12, 12), volume_mm=3.4, least_area=1))
    assert len(store.boxes[0]) == 2
    for box in store.boxes[0]:
        inner = tuple(slice(int(a), int(np.ceil(b))) for a, b in zip(box[2::-1], box[:2:-1], strict=True))
        assert store.masks[0][inner].any()


def test_a_lesion_beyond_the_frame_is_listed(tmp_path):
    scene(tmp_path, "a", LESION, ((18, 30, 25), (22, 36, 31)))
    store = made_of_masks(tmp_path, replace(PLAIN, volume=(12, 16, 16), volume_mm=1.0))
    assert summed(store).dropped == {"cut off by the crop, less than 30% left": 1}


def test_a_volume_without_a_lesion_is_an_ordinary_image(tmp_path):
    scene(tmp_path, "a", LESION)
    scene(tmp_path, "b")
    for recipe in (WHOLE, PLAIN, replace(REGIONS, normal_regions=1.0)):
        store = made_of_masks(tmp_path, recipe, overwrite=True)
        of_b = [i for i, name in enumerate(store.ids) if name.startswith("b")]
        assert of_b
        assert not any(len(store.boxes[i]) for i in of_b)
        assert store.annotated[of_b].all()
        assert not store.masks[of_b].any()


def test_a_volume_that_is_annotated_with_no_box_is_an_ordinary_image(tmp_path):
    scene(tmp_path, "a", LESION)
    scene(tmp_path, "b")
    header = "image,x_min,y_min,z_min,x_max,y_max,z_max"
    boxes = rows(tmp_path, ["a.nii.gz,10,12,4,15,18,9", "b.nii.gz,,,,,,"], header)
    for recipe in (WHOLE, PLAIN, REGIONS, replace(REGIONS, normal_regions=2.0)):
        store = made(tmp_path, recipe, boxes=boxes, split=ALL, overwrite=True)
        states = {each["state"] for each in reported(store)["slices"] if each["id"].startswith("b")}
        assert ("skipped" if recipe is REGIONS else "kept") in states


def test_regions_without_a_lesion_lie_in_the_body_and_beside_every_lesion(tmp_path):
    for name in "abc":
        scene(tmp_path, name, LESION, shape=(24, 60, 56))
    store = made_of_masks(tmp_path, replace(REGIONS, normal_regions=2.0))
    lesion = np.array([len(boxes) > 0 for boxes in store.boxes])
    assert (lesion.sum(), (~lesion).sum()) == (3, 6)
    assert sorted({store.patients[i] for i in np.flatnonzero(~lesion)}) == ["a", "b", "c"]
    for i in np.flatnonzero(~lesion):
        assert not store.masks[i].any()
        assert store.images[i].max() < 200  # of a lesion
        assert (store.images[i] > 100).mean() > 0.4  # of body
    assert (summed(store).normals, summed(store).lesions) == (6, 3)
    again = made_of_masks(tmp_path, replace(REGIONS, normal_regions=2.0), overwrite=True)
    assert again.hash == store.hash
    other = made_of_masks(tmp_path, replace(REGIONS, normal_regions=2.0, seed=1), overwrite=True)
    assert other.hash != store.hash


@pytest.mark.parametrize("shape", [(24, 60, 56), (16, 40, 44), (30, 34, 36)])
def test_regions_without_a_lesion_show_nothing_beyond_a_scan_that_is_large_enough(tmp_path, shape):
    """Black where the scan ends would tell them from regions of lesions."""
    for name in "abc":
        scene(tmp_path, name, LESION, shape=shape)
    store = made_of_masks(tmp_path, replace(REGIONS, normal_regions=2.0, window=(-1100.0, 300.0)))  # air is not black
    free = [i for i in range(len(store)) if not len(store.boxes[i])]
    assert free
    assert all((store.images[i] > 0).all() for i in free)


def class_of_each(store):
    return {name: store.class_names[k] if k >= 0 else None for name, k in zip(store.ids, store.classes, strict=True)}


def test_regions_without_a_lesion_are_a_class_of_their_own(tmp_path):
    for name in "ab":
        scene(tmp_path, name, LESION, shape=(24, 60, 56))
    recipe = replace(REGIONS, normal_regions=1.0)
    plain = made_of_masks(tmp_path, recipe)
    assert list(class_of_each(plain).values()) == ["lesion", "normal"] * 2
    told = rows(tmp_path, ["a.nii.gz,malignant", "b.nii.gz,benign"], "image,class")
    classed = made_of_masks(tmp_path, recipe, classes=str(told), overwrite=True)
    assert classed.class_names == ["benign", "malignant", "normal"]
    assert list(class_of_each(classed).values()) == ["malignant", "normal", "benign", "normal"]
    states = [(each["image_class"], each["state"]) for each in reported(classed)["slices"]]
    assert states == [(name, "kept") for name in class_of_each(classed).values()]
    assert class_of_each(made_of_masks(tmp_path, REGIONS, overwrite=True)) == dict.fromkeys(plain.ids[::2])


def test_a_region_is_of_the_class_of_its_own_lesion(tmp_path):
    scene(tmp_path, "a", LESION, ((5, 20, 12), (8, 24, 16)), shape=(24, 60, 56))
    header = "image,x_min,y_min,z_min,x_max,y_max,z_max,label"
    boxes = rows(tmp_path, ["a.nii.gz,10,12,4,15,18,9,solid", "a.nii.gz,12,20,5,16,24,8,part-solid"], header)
    store = made(tmp_path, replace(REGIONS, normal_regions=0.5), boxes=boxes, split=ALL)
    assert [len(own) for own in store.boxes] == [2, 2, 0]  # each sees the other
    assert list(class_of_each(store).values()) == ["solid", "part-solid", "normal"]


def test_scans_taken_as_normal_give_regions_too(tmp_path):
    scene(tmp_path, "a", LESION)
    scene(tmp_path, "b")
    (tmp_path / "masks/b.nii.gz").unlink()
    store = made_of_masks(tmp_path, replace(REGIONS, normal_regions=1.0), normals=True)
    assert [name[0] for name in store.ids] == ["a", "a", "b"]
    assert [len(boxes) for boxes in store.boxes] == [1, 0, 0]


def test_no_room_for_a_region_without_a_lesion_is_said(tmp_path):
    scene(tmp_path, "a", ((2, 3, 3), (21, 36, 33)))
    said = []
    store = made_of_masks(tmp_path, replace(REGIONS, region_mm=40.0, normal_regions=3.0), said=said)
    assert len(store) == 1
    assert any("3 of 3 regions without a lesion are not taken: there is no more room" in line for line in said)
    assert any("at 36x40x24 mm it is smaller than a region of 40 mm: what lies outside is 0" in line for line in said)


@pytest.mark.parametrize("annotated", ["masks", "boxes"])
def test_pictures_have_regions(tmp_path, annotated):
    for name, own in {"a": [BOX], "b": [(20, 2, 26, 8), (4, 22, 10, 28)], "c": []}.items():
        picture(tmp_path / f"scans/{name}.png", *own)
        mask(tmp_path / f"masks/{name}.png", *own)
    lines = ["a.png,8,6,18,16", "b.png,20,2,26,8", "b.png,4,22,10,28", "c.png,,,,"]
    how = {"masks": tmp_path / "masks"} if annotated == "masks" else {"boxes": rows(tmp_path, lines)}
    said = []
    store = made(tmp_path, replace(REGIONS, normal_regions=1.0), split=ALL, said=said, **how)
    assert store.images.shape[1:] == (1, 16, 16)
    whole = [store.boxes[i] for i in range(len(store)) if len(store.boxes[i])]
    assert len(whole) == 3
    for boxes in whole:
        assert (boxes[0, :2] + boxes[0, 2:]) / 2 == pytest.approx(8)
    assert scanner_boxes(store.details[0], store.boxes[0])[0] == pytest.approx(BOX)
    assert summed(store).normals >= 2
    assert "16x16 pixels, 16 mm, or pixels where a picture does not say, wide" in said[0]
    known = made(tmp_path, replace(REGIONS, spacing=(0.5, 0.5)), split=ALL, overwrite=True, **how)
    assert known.spacing_of(0) == [1, 1]
    assert known.boxes[0][0].tolist() == [5.5, 5.5, 10.5, 10.5]


@pytest.mark.parametrize(("spacing", "said"), [((0.25, 0.5), [0.25, 0.5]), ((1.0, 1.0), None)])
def test_regions_of_pictures_have_the_millimetres_of_their_files(tmp_path, spacing, said):
    pixels = np.full((64, 64), 60, np.float32)
    pixels[26:34, 14:26] = 200
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing(spacing)
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(image, str(tmp_path / "scans/a.nii.gz"))
    lines = rows(tmp_path, ["a.nii.gz,14,26,26,34"])
    whole = made(tmp_path, replace(REGIONS, size=64, region_mm=0), split=ALL, boxes=lines)
    assert whole.spacing_of(0) == said
    store = made(tmp_path, REGIONS, split=ALL, boxes=lines, overwrite=True)
    sides = store.boxes[0][0, 2:] - store.boxes[0][0, :2]
    assert sides == pytest.approx([12 * spacing[0], 8 * spacing[1]], abs=0.1)
    assert store.spacing_of(0) == ([1, 1] if said else None)


def test_a_lesion_larger_than_its_region_is_said_in_pixels_too(tmp_path):
    picture(tmp_path / "scans/a.png", (2, 2, 30, 30))
    mask(tmp_path / "masks/a.png", (2, 2, 30, 30))
    picture(tmp_path / "scans/b.png", BOX)
    mask(tmp_path / "masks/b.png", BOX)
    store = made_of_masks(tmp_path, REGIONS)
    first = reported(store)["slices"][0]
    assert "28x28 pixels, does not fit its region of 16 pixels; --region-mm 32 would hold it" in first["reason"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--volumes", "64,96"], "--volumes 64,96: expected DEPTH,HEIGHT,WIDTH"),
        (["--volumes", "4,16,16"], "8 or more each"),
        (["--volumes", "big"], "--volumes big: expected"),
        (["--volumes", "16", "--regions", "16"], "exclude each other"),
        (["--volumes", "16", "--slices", "lesions"], "--slices chooses slices"),
        (["--volumes", "16", "--volume-mm", "2", "--fit", "stretch"], "--volume-mm needs cubic voxels"),
        (["--volume-mm", "2"], "needs --volumes"),
        (["--normal-share", "1", "--regions", "16"], "needs --regions and --normals"),
        (["--normal-share", "1", "--normals"], "needs --regions and --normals"),
        (["--window", "400,-1000"], "expected a lower and a higher grey value"),
        (["--window", "400"], "expected two grey values"),
        (["--window", "nan,1"], "expected a lower and a higher"),
        (["--unannotated", "--regions", "16"], "--unannotated keeps scans without lesions"),
        (["--volumes", "16"], "--volumes takes volumes; p.png is a picture"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, words):
    picture(tmp_path / "scans/p.png", BOX)
    mask(tmp_path / "masks/p.png", BOX)
    given = ["preprocess", tmp_path / "scans", "--masks", tmp_path / "masks", "--out", tmp_path / "o.h5"]
    done = CliRunner().invoke(app, [*map(str, given), "--strip", "none", *arguments])
    assert isinstance(done.exception, UsageError | BadInput)
    assert words in str(done.exception)
    assert not (tmp_path / "o.h5").exists()


def shifted(folder, name, *, origin=(0.0, 0.0, 0.0), shape=(24, 40, 36)):
    """Write a mask that marks a corner, where its header says."""
    labels = np.zeros(shape, np.uint8)
    labels[3:8, 3:8, 3:8] = 1
    image = sitk.GetImageFromArray(labels)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(folder / f"masks/{name}.nii.gz"))


@pytest.mark.parametrize("recipe", [WHOLE, REGIONS])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"origin": (500.0, 0.0, 0.0), "shape": (12, 20, 18)}, "does not overlap its scan a.nii.gz"),
        ({"origin": (4.0, 0.0, 0.0)}, "a.nii.gz"),
    ],
)
def test_a_mask_of_another_grid_is_refused_by_name_and_leaves_nothing(tmp_path, recipe, how, words):
    scene(tmp_path, "a", LESION)
    shifted(tmp_path, "a", **how)
    with pytest.raises(BadInput, match=words) as caught:
        made_of_masks(tmp_path, recipe)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*.h5*"))


@pytest.mark.parametrize("recipe", [WHOLE, REGIONS])
def test_flat_boxes_of_a_volume_are_refused(tmp_path, recipe):
    scene(tmp_path, "a", LESION)
    boxes = rows(tmp_path, ["a.nii.gz,10,12,15,18"])
    with pytest.raises(BadInput, match=r"a\.nii\.gz is a volume, but its annotation has flat boxes"):
        made(tmp_path, recipe, boxes=boxes, split=ALL)


EDGES = [(z, y, x) for z in (0, 3, 5) for y in (0, 6, 13) for x in (0, 19) if (z, y, x) != (3, 6, 19)]


@pytest.mark.parametrize("names", [(), ("core", "rim")])
@pytest.mark.parametrize("at", EDGES)
def test_a_lesion_of_one_voxel_at_the_border_of_a_scan_stays_in_its_mask(tmp_path, at, names):
    """Where the frame is coarse, the middle of its voxel there lies beyond the scan."""
    values = np.zeros((6, 14, 20), np.uint8)
    values[at] = 2 if names else 1
    for folder, each in (("scans", 60 + np.indices(values.shape).sum(0)), ("set/labelsTr", values)):
        image = sitk.GetImageFromArray(each.astype(np.int16))
        image.SetSpacing((0.7, 0.7, 4.2))
        (tmp_path / folder).mkdir(parents=True)
        sitk.WriteImage(image, str(tmp_path / folder / "a.nii.gz"))
    (scan,) = find_scans(tmp_path / "scans")
    labels = {frozenset([k]): name for k, name in enumerate(names, 1)} or None
    marked = Annotation(mask=tmp_path / "set/labelsTr/a.nii.gz", mask_labels=labels)
    recipe = replace(PLAIN, volume=(16, 16, 16), least_area=1, with_masks=True, mask_names=names)
    (record,) = treat(scan, marked, recipe).records
    (box,) = record.boxes
    assert np.unique(record.mask).tolist() == [0, 2 if names else 1]
    middles = np.argwhere(record.mask) + 0.5
    reach = (0.5, 0.5, 0.5)
    assert (middles[:, ::-1] + reach > box[:3]).all()
    assert (middles[:, ::-1] - reach < box[3:]).all()
