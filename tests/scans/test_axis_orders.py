"""All 48 orders of the axes, voxels of three widths: boxes, masks and detections end where the lesion is stored."""

import csv
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicoms import write_series
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples
from tiny import TinyDetector
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.detecting import detect
from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.lesions import lesions_of
from medaug_cli.forms.reading import read_annotations
from medaug_cli.plugin import Grid
from medaug_cli.runs import RunOptions, train_detector
from medaug_cli.scans.grids import upright
from medaug_cli.scans.placement import place
from medaug_cli.scans.reading import Pixels, Scan
from medaug_cli.scans.survey import find_scans
from medaug_cli.scans.way_back import scanner_boxes, stored_slice
from medaug_cli.store import open_store

CODES = [
    "".join(ends) for axes in itertools.permutations(("LR", "AP", "SI")) for ends in itertools.product(*axes)
]  # which way each axis of the file runs
SHAPE, SPACING, ORIGIN = (11, 14, 12), (1.0, 1.3, 2.5), (-31.0, 17.5, 240.25)  # the shape is z first
LESION = (3, 5, 4, 8, 9, 7)  # x, y and z, as stored


def volume(code, values):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code))
    return image


def lesion_and_body():
    x0, y0, z0, x1, y1, z1 = LESION
    body, lesion = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint8)
    body[1:-1, 1:-1, 1:-1] = 300
    lesion[z0:z1, y0:y1, x0:x1] = 1
    return body + 700 * lesion.astype(np.int16), lesion


@pytest.fixture
def finder(tiny_plugins, monkeypatch):
    """Let the tiny detector find what is brighter than half between body and lesion."""

    def load(self, state, spec, device="cpu"):
        self.spec, self.level = spec, 0.45

    monkeypatch.setattr(TinyDetector, "load_state_dict", load)


def run(*arguments):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)


def whole(boxes):
    """Return the box (6,) around those of all slices."""
    return np.concatenate([boxes[:, :3].min(0), boxes[:, 3:].max(0)])


def store_and_detections(folder):
    """Preprocess the scans, let a detector find what is bright; return the store, and its finds of each file (m, 6)."""
    run("preprocess", folder / "scans", "--masks", folder / "masks", "--strip", "none", "--denoise", "none", "--size",
        64, "--min-area", 1, "--slices", "lesions", "--split", "1,0,0", "--out", folder / "real.h5")  # fmt: skip
    train_detector(folder / "real.h5", "tiny", RunOptions(folder / "detector"), steps=2)
    run("detect", folder / "real.h5", folder / "detector", "--format", "csv", "--out", folder / "found")
    found = {}
    with (folder / "found/detections.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            corners = [float(row[f"{axis}_{end}"]) for end in ("min", "max") for axis in "xyz"]
            found.setdefault(row["file"], []).append(corners)
    return open_store(folder / "real.h5"), {name: np.array(rows) for name, rows in found.items()}


def check(store, found, truth):
    """Check the boxes of the store and those of the detector against where each file's lesion is stored."""
    assert len(truth) == len(found) == 48
    for name, box in truth.items():
        own = [i for i in range(len(store)) if store.details[i]["file"] == name and len(store.boxes[i])]
        each = [scanner_boxes(store.details[i], store.boxes[i]) for i in own]
        slices = [boxes[0, 2] if name[2] in "SI" else None for boxes in each]  # where the file's own are axial
        assert slices == [stored_slice(store.details[i]) for i in own]
        stored = np.concatenate(each)
        for boxes in (stored, found[name]):
            thin = (boxes[:, 3:] - boxes[:, :3] == 1).all(0)
            assert thin.any(), name
            assert np.abs(whole(boxes) - box).max() <= 0.5, (name, whole(boxes))


@pytest.mark.parametrize("code", CODES)
@examples(6, deadline=None)
@given(st.data())
def test_boxes_of_all_orders_come_back_within_half_a_voxel(code, data):
    spacing = tuple(data.draw(st.lists(st.sampled_from([0.4, 0.9, 1.0, 1.7, 3.0]), min_size=3, max_size=3)))
    shape = data.draw(st.lists(st.integers(4, 14), min_size=3, max_size=3))
    low = np.array([data.draw(st.integers(0, side - 2)) for side in shape[::-1]])
    high = np.array([data.draw(st.integers(a + 1, side)) for a, side in zip(low, shape[::-1], strict=True)])
    direction = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code)
    stored = Grid(spacing, (-31.0, 17.5, 240.25), tuple(direction))
    image, grid = upright(np.zeros(shape, np.float32), stored, labels=False)
    scan = Scan("c1", Path("c1.nii"), "c1.nii", True)
    pixels = Pixels(image[None], grid, stored, tuple(shape))
    lesions = lesions_of(scan, Annotation([(*map(float, low), *map(float, high))], ["lesion"], ["row 1"]), pixels)
    placement = place(image.shape[1:], None, 32, data.draw(st.sampled_from(["pad", "stretch"])))
    details = {"placement": placement.details(), "grid": asdict(grid), "stored": asdict(stored), "stored_shape": shape}
    found = []
    for z in range(len(image)):
        boxes, _ = lesions.in_slice(z, 1)
        found.append(scanner_boxes(details | {"slice": z}, placement.boxes(boxes)))
    assert np.abs(whole(np.concatenate(found)) - [*low, *high]).max() <= 0.5


def test_volumes_and_masks_of_all_orders(tmp_path, finder):
    values, lesion = lesion_and_body()
    for folder in ("scans", "masks"):
        (tmp_path / folder).mkdir()
    for number, code in enumerate(CODES):
        sitk.WriteImage(volume(code, values), str(tmp_path / f"scans/{code}.nii.gz"))
        mask = sitk.DICOMOrient(volume(code, lesion), CODES[7 * number % 48])  # in an order of its own
        sitk.WriteImage(mask, str(tmp_path / f"masks/{code}.nii.gz"))
    store, found = store_and_detections(tmp_path)
    check(store, found, {f"{code}.nii.gz": LESION for code in CODES})
    notes = [one["notes"] for one in json.loads((tmp_path / "preprocess.json").read_text(encoding="utf-8"))["slices"]]
    assert not any(notes)  # the same grid, whatever its order
    detect(tmp_path / "real.h5", tmp_path / "detector", tmp_path / "coco", "coco")
    for name in ("found/detections.csv", "coco/detections.json"):  # and both are read as boxes of the scans
        read = read_annotations(tmp_path / name, find_scans(tmp_path / "scans")).scans
        boxes = {scan: np.sort(one.arrays(), 0) for scan, one in read.items()}
        assert sorted(boxes) == sorted(CODES)
        for code in CODES:
            np.testing.assert_allclose(boxes[code], np.sort(found[f"{code}.nii.gz"], 0), atol=1e-3)
    with pytest.raises(BadInput, match="two dimensions"):
        detect(tmp_path / "real.h5", tmp_path / "detector", tmp_path / "yolo", "yolo")


def test_series_of_all_orders(tmp_path, finder):
    values, lesion = lesion_and_body()
    (tmp_path / "masks").mkdir()
    truth = {}
    for number, code in enumerate(CODES):
        image = volume(code, values)
        write_series(
            tmp_path / "scans" / code, image, f"1.2.{number}", f"P{number}", **{"0028|0030": "1.3\\1.0"}
        )  # fmt: skip
        sitk.WriteImage(volume(code, lesion), str(tmp_path / f"masks/{code}.nii.gz"))
        x0, y0, z0, x1, y1, z1 = LESION
        if np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) < 0:  # DICOM's slices lie along their normal
            z0, z1 = SHAPE[0] - z1, SHAPE[0] - z0
        truth[code] = (x0, y0, z0, x1, y1, z1)
    check(*store_and_detections(tmp_path), truth)
    pytest.importorskip("highdicom")
    with pytest.raises(BadInput, match="was not taken in axial slices"):
        detect(tmp_path / "real.h5", tmp_path / "detector", tmp_path / "sr", "dicom-sr", scans=tmp_path / "scans")
