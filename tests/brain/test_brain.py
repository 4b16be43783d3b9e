"""Brain extraction on constructed heads and on the slices that ship, and its honesty about doubtful masks."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medaug_cli.brain import extraction as brain
from medaug_cli.brain.dents import without_dents
from medaug_cli.brain.extraction import check_stripper_choice, extract_brain
from medaug_cli.brain.head import dilate, erode, filled, head_mask
from medaug_cli.brain.judgement import judge
from medaug_cli.brain.slice import Slice
from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.plugin import Capabilities
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe

DATA = Path(__file__).parents[2] / "examples/data"


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def ball(shape, centre, radii):
    grids = np.indices(shape)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grids, centre, radii, strict=True)) < 1


def head(shape, seed=0):
    """Return a constructed T1 head in any dimension, 1 mm: scalp, dark skull, fluid, brain; and the brain's mask."""
    centre = np.array(shape) / 2
    whole = centre * 0.86
    image = np.zeros(shape)
    for shrink, grey in ((0, 160), (6, 15), (11, 45), (13, 110)):
        image[ball(shape, centre, whole - shrink)] = grey
    brain_mask = ball(shape, centre, whole - 13)
    rng = np.random.default_rng(seed)
    image[brain_mask] += 12 * np.sin(np.indices(shape).sum(0) / 5)[brain_mask]
    return (image + rng.normal(0, 3, shape)).clip(0).astype(np.float32), brain_mask


@pytest.mark.parametrize("shape", [(192, 160), (256, 224), (160, 160)])
def test_a_constructed_slice(shape):
    image, truth = head(shape)
    found = extract_brain(image, "brain2d", (1.0, 1.0))
    assert not found.doubtful
    assert dice(found.mask, truth) > 0.93


def test_a_constructed_volume():
    image, truth = head((96, 112, 96))
    found = extract_brain(image, "auto", (1.5, 1.5, 1.5))
    assert found.name == "brain3d"
    assert dice(found.mask, truth) > 0.88


def test_thick_slices_of_a_head_are_stripped_in_3d_and_a_slab_slice_by_slice():
    image, truth = head((28, 112, 96))
    assert extract_brain(image[:, ::2, ::2], "brain3d", (6.0, 3.0, 3.0)).name == "brain3d"
    found = extract_brain(image[10:14], "auto", (6.0, 1.5, 1.5))
    assert found.name == "brain2d"
    assert found.measures["slices"] == 4
    assert found.mask.shape == truth[10:14].shape


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.9, 1.3), (2.0, 2.0, 2.0), (6.5, 0.9, 1.1)])
@pytest.mark.parametrize("radius", [0.5, 1.0, 2.5, 4.0, 9.0])
def test_morphology_is_that_of_distances(spacing, radius):
    shape = (40, 37, 30)[: len(spacing)]
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 2) > 0.1
    outside, inside = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (~mask, mask))
    assert (dilate(mask, radius, spacing) == (outside <= radius + 1e-9)).all()
    assert (erode(mask, radius, spacing) == (inside > radius + 1e-9)).all()


def test_holes_are_filled_plane_by_plane():
    mask = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(24, 30, 28)), 1.5) > -0.05
    wanted = mask
    for axis in range(3):
        planes = [ndimage.binary_fill_holes(plane) for plane in np.moveaxis(wanted, axis, 0)]
        wanted = np.moveaxis(np.stack(planes), 0, axis)
    assert (filled(mask) == wanted).all()
    assert (filled(mask[0]) == ndimage.binary_fill_holes(mask[0])).all()
    assert not dilate(np.zeros((5, 5), bool), 2, (1, 1)).any()


def test_brightness_and_repetition_change_nothing():
    image, _ = head((192, 160))
    once = extract_brain(image, "brain2d", (1.0, 1.0)).mask
    assert (extract_brain(image, "brain2d", (1.0, 1.0)).mask == once).all()
    assert dice(extract_brain(image * 7, "brain2d", (1.0, 1.0)).mask, once) > 0.99


def shipped(count):
    images = [
        image for image in json.loads((DATA / "boxes.json").read_text(encoding="utf-8"))["images"] if image["boxes"]
    ]
    for image in images[:: len(images) // count][:count]:
        with Image.open(DATA / image["file"]) as picture:
            yield np.asarray(picture.convert("L"), np.float32), [box["box"] for box in image["boxes"]]


def test_tumours_of_the_shipped_slices_are_not_cut_away():
    covered, doubtful = [], 0
    for image, boxes in shipped(16):
        found = extract_brain(image, "auto")
        if found.doubtful:
            doubtful += 1
            continue
        for x_min, y_min, x_max, y_max in np.rint(boxes).astype(int):
            covered.append(found.mask[y_min:y_max, x_min:x_max].mean())
    assert np.mean(np.array(covered) > 0.6) > 0.8
    assert doubtful < 10


def with_lesion(grey, at):
    """Return the constructed slice with a lesion of a grey value under its skull; brain's mask and the lesion's."""
    image, truth = head((192, 160))
    lesion = ball(image.shape, at, (16, 13)) & truth
    image[lesion] = grey + np.random.default_rng(1).normal(0, 3, lesion.sum())
    return image, truth, lesion


@pytest.mark.parametrize("at", [(30, 80), (96, 25), (50, 38)])
@pytest.mark.parametrize("grey", [45, 55, 165])  # of fluid 45, of brain 110
def test_a_lesion_under_the_skull_stays_in(grey, at):
    image, truth, lesion = with_lesion(grey, at)
    found = extract_brain(image, "brain2d", (1.0, 1.0), "axial")
    assert not found.doubtful
    assert found.mask[lesion].mean() > 0.9
    assert dice(found.mask, truth) > 0.95


def test_a_dark_lesion_of_a_shipped_slice_stays_in():
    entries = json.loads((DATA / "boxes.json").read_text(encoding="utf-8"))["images"]
    for name in ("2047", "2108"):  # seven and nine tenths of it were kept before dents were filled
        entry = next(entry for entry in entries if entry["id"] == name)
        x_min, y_min, x_max, y_max = np.rint(entry["boxes"][0]["box"]).astype(int)
        image = np.asarray(Image.open(DATA / entry["file"]).convert("L"), np.float32)
        found = extract_brain(image, "auto", plane="axial")
        assert not found.doubtful
        assert found.mask[y_min:y_max, x_min:x_max].mean() > 0.93


@pytest.mark.parametrize(("grey", "filled_in"), [(8, 0.0), (50, 1.0), (100, 1.0), (220, 0.0)])
def test_dents_of_bone_and_fat_stay_dents(grey, filled_in):
    image, truth, lesion = with_lesion(grey, (30, 80))
    slice_ = Slice.of(image / 160, head_mask(image / 160), "axial")
    dented = truth & ~lesion
    found = without_dents(slice_, dented, "axial")
    assert (found >= dented).all()
    assert found[lesion].mean() == pytest.approx(filled_in, abs=0.1)
    assert not (found & ~dilate(truth, 3, (1, 1))).any()


@pytest.mark.parametrize("turn", [0, 17, -24])
@pytest.mark.parametrize(("bone", "filled_in"), [(False, 1.0), (True, 0.0)])
def test_a_wide_dent_is_known_by_the_other_side_and_ends_at_bone(turn, bone, filled_in):
    image, truth = head((192, 160))
    y, x = np.indices(truth.shape) - np.array(truth.shape)[:, None, None] / 2
    lesion = truth & ~erode(truth, 16, (1, 1)) & (x > np.abs(y) * 0.8)  # the right side's rim
    image[lesion] = 50
    if bone:  # with muscle behind it
        image[lesion] = np.where(dilate(truth & ~lesion, 5, (1, 1)), 10, 100)[lesion]
    image = ndimage.rotate(image, turn, reshape=False, order=1)
    mask, lesion = (ndimage.rotate(part, turn, reshape=False, order=0) for part in (truth & ~lesion, lesion))
    slice_ = Slice.of(image / 160, head_mask(image / 160), "axial")
    assert without_dents(slice_, mask, "axial")[lesion].mean() == pytest.approx(filled_in, abs=0.12)
    assert not without_dents(slice_, mask, "sagittal")[lesion].any()  # which has no other side


def test_without_a_known_plane_dents_below_stay():
    image, truth, lesion = with_lesion(50, (162, 80))
    slice_ = Slice.of(image / 160, head_mask(image / 160), "axial")
    kept = [without_dents(slice_, truth & ~lesion, plane)[lesion].mean() for plane in ("axial", None)]
    assert kept[0] > 0.9
    assert kept[1] == 0


@pytest.mark.parametrize("mask", [np.zeros((192, 160), bool), np.eye(192, 160, dtype=bool)])
def test_a_mask_that_does_not_surround_its_middle_has_no_dents(mask):
    image, _ = head((192, 160))
    slice_ = Slice.of(image / 160, head_mask(image / 160))
    assert (without_dents(slice_, mask, "axial") == mask).all()


def test_doubtful_masks_are_replaced_by_the_head():
    image, _ = head((192, 160))
    found = extract_brain(image, "brain2d", (1.0, 1.0))
    tiny = ball((192, 160), (96, 80), (9, 9))
    reason, _ = judge(tiny, image > 30, {"agreement": 1.0}, (1.0, 1.0))
    assert reason
    blank = extract_brain(np.zeros((64, 64), np.float32), "auto")
    assert blank.doubtful or blank.mask is None or not blank.mask.any()
    assert found.mask.any()


def test_a_stripped_brain_is_left_alone():
    image, truth = head((192, 160))
    found = extract_brain(np.where(truth, image, 0).astype(np.float32), "auto")
    assert found.name == "stripped already"
    assert dice(found.mask, truth) > 0.97
    assert extract_brain(image, "none").mask is None


def test_a_picture_in_a_black_frame_is_not_taken_for_a_brain():
    image, truth = head((192, 160))
    framed, known = np.zeros((256, 240), np.float32), np.zeros((256, 240), bool)
    framed[32:224, 40:200], known[32:224, 40:200] = np.where(image > 0, image, 1), truth
    no_skull = np.where(known, framed, np.minimum(framed, 4))  # noise in the frame, but nothing bright around the brain
    found = extract_brain(no_skull, "auto", (1.0, 1.0))
    assert found.name == "brain2d"
    assert found.mask.mean() < 0.5


def test_brain_masks_come_from_a_folder(tmp_path):
    scans, masks = tmp_path / "scans", tmp_path / "masks"
    scans.mkdir(), masks.mkdir()
    image, truth = head((192, 160))
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(scans / "a.png")
    Image.fromarray(truth.astype(np.uint8) * 255).save(masks / "a.png")
    (tmp_path / "boxes.csv").write_text("image,x_min,y_min,x_max,y_max\na,60,80,90,110\n", encoding="utf-8")
    kept = tmp_path / "kept"
    options = PreprocessOptions(
        scans, tmp_path / "real.h5", tmp_path / "boxes.csv", split="1,0,0",
        recipe=Recipe(size=64, strip=str(masks), keep_masks=kept),
    )  # fmt: skip
    preprocess(options)
    assert ((np.asarray(Image.open(kept / "a.png")) > 0) == truth).all()
    (masks / "a.png").rename(masks / "b.png")
    with pytest.raises(BadInput, match=r"no mask with the name of a scan, such as a\.png"):
        preprocess(replace(options, overwrite=True))


def test_spacing_and_plane_are_handed_to_the_stripper(monkeypatch):
    seen = []

    @dataclass
    class Spy:
        capabilities: ClassVar[Capabilities] = Capabilities(dims=(2,))

        def extract(self, image, spacing, plane):
            seen.append((spacing, plane))
            return image > 30

    monkeypatch.setattr(brain, "_built", lambda name, settings: Spy())
    extract_brain(head((96, 80))[0], "spy", (2.0, 2.0), "axial")
    extract_brain(head((24, 30, 20))[0], "spy", (6.0, 2.0, 2.0))
    assert seen[0] == ((2.0, 2.0), "axial")
    assert set(seen[1:]) == {((2.0, 2.0), None)}
    assert len(seen) > 12


def test_a_neck_is_looked_for_unless_the_slice_is_axial():
    image, _ = head((192, 160))
    image[96:] = image[96]  # the head goes on below, as in a coronal slice
    unknown, axial = (extract_brain(image, "brain2d", (1.0, 1.0), plane).measures for plane in (None, "axial"))
    assert unknown != axial


def test_what_cannot_be_stripped_is_named():
    with pytest.raises(MissingPlugin, match="no stripper 'fsl' is installed; the choices are auto, none, brain2d"):
        extract_brain(head((96, 80))[0], "fsl")
    with pytest.raises(UsageError, match="brain3d needs a volume; the choices for a slice are auto, none, brain2d"):
        extract_brain(head((96, 80))[0], "brain3d")
    with pytest.raises(UsageError, match="shape"):
        extract_brain(np.zeros(5, np.float32), "auto")
    with pytest.raises(UsageError, match="spacing"):
        extract_brain(np.zeros((8, 8), np.float32), "auto", (1.0,))
    with pytest.raises(UsageError, match="--strip auto has no settings"):
        check_stripper_choice("auto", (("weights", "here"),))
    with pytest.raises(UsageError, match="has no setting 'wieghts'"):
        check_stripper_choice("brain3d", (("wieghts", "here"),))
