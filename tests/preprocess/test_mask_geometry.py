"""Masks on other grids than their scans, from the command line to the store, the console and the page."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from dicoms import SPACING, as_image, head, write_series
from nifti_bytes import PLAIN, write_nifti
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput
from medaug_cli.scans.way_back import scanner_boxes
from medaug_cli.store import open_store

LESION = (12, 19, 2, 17, 26, 5)  # of head(), x, y and z


def run(*arguments):
    """Run a command; return what it says, or why it refuses."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exception is None or isinstance(done.exception, BadInput), (done.output, done.exception)
    return done.stderr if done.exception is None else str(done.exception)


def preprocess(folder, *more):
    return run("preprocess", folder / "scans", "--masks", folder / "masks", "--denoise", "none", "--size", 64,
               "--split", "1,0,0", "--out", folder / "out/real.h5", *(more or ("--strip", "none")))  # fmt: skip


def stored_box(folder):
    store = open_store(folder / "out/real.h5")
    boxes = [scanner_boxes(store.details[i], store.boxes[i]) for i in range(len(store)) if len(store.boxes[i])]
    return np.concatenate([np.concatenate(boxes)[:, :3].min(0), np.concatenate(boxes)[:, 3:].max(0)])


@pytest.fixture
def case(tmp_path):
    """Return a folder with a scan, its mask and its brain mask, and a function that writes one of them anew."""

    def write(kind, image, name="c1.nii.gz"):
        (tmp_path / kind).mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / kind / name))

    values, lesion = head()
    write("scans", as_image(values))
    write("masks", as_image(lesion))
    write("brains", as_image((values > 0).astype(np.uint8)))
    return tmp_path, write


def fine(values):
    """Return an image on a grid of half the spacing within the slices, turned round."""
    image = as_image(values)
    half = (SPACING[0] / 2, SPACING[1] / 2, SPACING[2])
    size = [2 * image.GetWidth(), 2 * image.GetHeight(), image.GetDepth()]
    origin = [place - step / 4 for place, step in zip(image.GetOrigin(), SPACING, strict=True)]
    origin[2] = image.GetOrigin()[2]
    finer = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkNearestNeighbor, origin, half, image.GetDirection(), 0.0
    )
    return sitk.DICOMOrient(finer, "RAI")


def test_masks_on_other_grids_are_used_and_noted(case):
    folder, write = case
    values, lesion = head()
    write("masks", as_image(lesion)[10:20, 15:30, 1:6])
    write("brains", fine((values > 0).astype(np.uint8)))
    said = preprocess(folder, "--strip", f"{folder}/brains")
    assert np.abs(stored_box(folder) - LESION).max() <= 0.5
    cropped = "c1.nii.gz: its mask has another grid and (10x15x5 voxels) is placed by its position"
    finer = "c1.nii.gz: its brain mask has another grid and is resampled onto it by nearest neighbour: spacing 0.75"
    page = (folder / "out/preprocess.html").read_text(encoding="utf-8")
    for note in (cropped, finer):
        assert note in said
        assert note.partition(": ")[2] in page
    report = json.loads((folder / "out/preprocess.json").read_text(encoding="utf-8"))
    assert [len(one["notes"]) for one in report["slices"]] == [2, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["masks", "brains"])
def test_a_mask_whose_header_is_wrong_is_refused_by_name_and_leaves_nothing(case, kind):
    folder, write = case
    write(kind, sitk.GetImageFromArray(head()[1]))
    said = preprocess(folder, "--strip", f"{folder}/brains")
    name = "the brain mask" if kind == "brains" else "the mask"
    assert f"{name} {folder}/{kind}/c1.nii.gz has the shape of its scan c1.nii.gz, but its header" in said
    assert not [path for path in (folder / "out").rglob("*") if path.is_file()]


def test_with_keep_going_the_page_names_no_path_of_a_mask(case):
    folder, write = case
    values, lesion = head(seed=3)
    write("scans", as_image(values), "c2.nii.gz")
    write("brains", as_image(lesion), "c2.nii.gz")
    write("masks", sitk.GetImageFromArray(lesion), "c2.nii.gz")
    preprocess(folder, "--strip", "none", "--keep-going")
    report = json.loads((folder / "out/preprocess.json").read_text(encoding="utf-8"))
    (reason,) = [one["reason"] for one in report["slices"] if one["state"] == "skipped" and "header" in one["reason"]]
    assert reason.startswith("its mask has the shape of its scan c2.nii.gz, but its header puts it elsewhere")


@pytest.mark.parametrize("at", [(0, 0, 0), (9, 8, 7)], ids=["sform", "qform"])
def test_a_mask_may_lie_by_the_sform_or_the_qform_of_its_scan(tmp_path, at):
    values, lesion = head()
    affine = PLAIN.copy()
    affine[:3, 3] = at
    for folder in ("scans", "masks"):
        (tmp_path / folder).mkdir()
    write_nifti(tmp_path / "scans/c1.nii", values, codes=(1, 2), qform=(9, 8, 7))
    write_nifti(tmp_path / "masks/c1.nii", lesion, codes=(0, 2), affine=affine)
    said = preprocess(tmp_path)
    assert "c1.nii: its qform and sform are both valid and differ by 10.0 voxels; its sform is used" in said
    assert ("its mask is matched by the qform of the scan" in said) == any(at)
    assert np.abs(stored_box(tmp_path) - LESION).max() <= 0.5


@pytest.mark.parametrize("code", ["LPS", "LAS", "RPI", "SAL"])
def test_boxes_of_a_series_are_in_its_own_voxels_whatever_its_mask_has(tmp_path, code):
    values, lesion = head()
    write_series(tmp_path / "scans/series", as_image(values))
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(sitk.DICOMOrient(as_image(lesion), code), str(tmp_path / "masks/series.nii.gz"))
    run("boxes", tmp_path / "masks", "--scans", tmp_path / "scans", "--to", "boxes", "--out", tmp_path / "boxes.json")
    (image,) = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))["images"]
    assert [one["box"] for one in image["boxes"]] == [list(LESION)]
    sitk.WriteImage(sitk.GetImageFromArray(lesion), str(tmp_path / "masks/series.nii.gz"))
    said = run("boxes", tmp_path / "masks", "--scans", tmp_path / "scans", "--to", "csv", "--out", tmp_path / "b.csv")
    assert "series.nii.gz has the shape of its scan series, but its header puts it elsewhere" in said
    assert not (tmp_path / "b.csv").exists()


def test_a_lesion_between_the_slices_of_its_scan_is_a_lost_lesion(case):
    folder, write = case
    millimetres = np.repeat(head()[1], 4, 0)
    millimetres[1:3, 3:8, 3:8] = 1  # between the middles of the first two slices of the scan
    mask = sitk.GetImageFromArray(millimetres)
    mask.SetSpacing((*SPACING[:2], 1.0))
    mask.SetOrigin((-30.0, -30.0, 12.0))
    write("masks", mask)
    said = preprocess(folder)
    assert "1 of its 2 regions leave no voxel there and are lost" in said
    report = json.loads((folder / "out/preprocess.json").read_text(encoding="utf-8"))
    lost = [text for one in report["slices"] for text in one["dropped_boxes"]]
    assert [text.partition(" (")[0] for text in lost] == ["a region of a mask that leaves no voxel on its scan"]
    said = preprocess(folder, "--strip", "none", "--strict", "--overwrite")
    assert said.startswith("--strict: 1 ")


@pytest.mark.parametrize("form", [("--size", 64), ("--volumes", 48, "--volume-mm", 1)], ids=["slices", "volumes"])
@pytest.mark.parametrize(("code", "expected"), [("LPS", (8, 6, 9)), ("RAS", (8, 6, 9)), ("PSL", (9, 8, 6))])
@pytest.mark.parametrize("said", [(1.0, 2.0, 3.0), (1.0, 1.0, 1.0)])
def test_a_given_spacing_is_that_of_the_axes_of_the_file(tmp_path, said, code, expected, form):
    """Pixels are square by it, whatever the header says; masks with that header still fit, and boxes go back."""
    values, lesion = np.full((14, 40, 36), 100, np.int16), np.zeros((14, 40, 36), np.uint8)
    lesion[5:8, 20:26, 10:18] = 1  # 8 x 6 x 9 mm, x first
    values[lesion > 0] = 900
    for kind, array in (("scans", values), ("masks", lesion)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(said)
        image.SetOrigin((-31.0, 17.5, 240.25))
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code))
        (tmp_path / kind).mkdir()
        sitk.WriteImage(image, str(tmp_path / kind / "a.nii.gz"))
    run("preprocess", tmp_path / "scans", "--masks", tmp_path / "masks", "--strip", "none", "--denoise", "none",
        "--split", "1,0,0", "--out", tmp_path / "out/real.h5", "--spacing", "1,1,3", *form)  # fmt: skip
    store = open_store(tmp_path / "out/real.h5")
    marked = [i for i in range(len(store)) if len(store.boxes[i])]
    corners = np.concatenate([store.boxes[i] for i in marked])
    dims = store.spec.dims
    assert np.ptp(store.spacing[marked]) < 1e-4
    sides = ((corners[:, dims:] - corners[:, :dims]) * store.spacing[marked, ::-1]).max(0)
    np.testing.assert_allclose(sides, expected[:dims], atol=1)
    np.testing.assert_allclose(stored_box(tmp_path), (10, 20, 5, 18, 26, 8), atol=0.5)
