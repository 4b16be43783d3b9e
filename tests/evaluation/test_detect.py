"""`medaug detect`: boxes in the pixels of the scans, as COCO, YOLO, CSV, and as DICOM structured reports."""

import csv
import json

import numpy as np
import pytest
from conftest import make_store
from dicoms import as_image, head, write_series
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.detecting import detect
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.catalogue import DETECTIONS, target_of
from medaug_cli.forms.form import Finds
from medaug_cli.metrics.annotations import found_boxes
from medaug_cli.runs import RunOptions, train_detector
from medaug_cli.scans.placement import Placement
from medaug_cli.scans.reading import read_stored
from medaug_cli.scans.survey import find_scans
from medaug_cli.store import open_store


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def scans(tmp_path, tiny_plugins):
    """Return a folder of two DICOM series, with a store and a detector beside it."""
    import SimpleITK as sitk

    for i, direction in enumerate([(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)]):
        values, lesion = head(seed=i)
        write_series(tmp_path / "scans" / f"p{i}", as_image(values, direction), f"1.2.3.{i}", f"Patient^{i}")
        (tmp_path / "masks").mkdir(exist_ok=True)
        sitk.WriteImage(as_image(lesion, direction), str(tmp_path / "masks" / f"p{i}.nii.gz"))
    run("preprocess", tmp_path / "scans", "--masks", tmp_path / "masks", "--size", 64, "--strip", "none", "--denoise",
        "none", "--label", "lesion", "--split", "0.5,0,0.5", "--out", tmp_path / "real.h5")  # fmt: skip
    train_detector(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "detector"), steps=2)
    return tmp_path / "scans"


def test_boxes_lie_in_the_pixels_of_the_scans(scans, tmp_path):
    outs = {form: tmp_path / form for form in ("csv", "coco", "yolo")}
    said = [json.loads(run("detect", tmp_path / "real.h5", tmp_path / "detector", "--format", form, "--out", out,
                           "--json")) for form, out in outs.items()]  # fmt: skip
    rows = table(outs["csv"] / "detections.csv")
    assert {one["detections"] for one in said} == {len(rows)}
    volumes = {scan.relative: read_stored(scan.all_files, scan.reader).image[0] for scan in find_scans(scans)}
    hits = 0
    for row in rows:
        x, y, right, bottom = (round(float(row[name])) for name in ("x_min", "y_min", "x_max", "y_max"))
        bright = volumes[row["file"]][int(row["slice"])] > 850
        hits += bool(bright[y:bottom, x:right].sum() == bright.sum() > 0)
    assert hits == 6  # every slice of a lesion, as it is stored, holds it inside the box
    coco = json.loads((outs["coco"] / "detections.json").read_text(encoding="utf-8"))
    lefts = [float(row["x_min"]) for row in rows]
    assert [one["bbox"][0] for one in coco["annotations"]] == pytest.approx(lefts, abs=1e-3)
    assert coco["images"][0]["width"] == 40
    lines = [line.split() for path in sorted(outs["yolo"].glob("labels/*.txt"))
             for line in path.read_text(encoding="utf-8").splitlines()]  # fmt: skip
    assert len(lines) == len(rows)
    assert all(0 <= float(value) <= 1 for line in lines for value in line[1:])


def test_ids_with_dots_are_not_cut_short(tmp_path):
    ids = ("1.2.840-004", "1.2.840-005")
    nothing = (np.empty((0, 4)), np.empty(0), np.empty(0, int))
    found = found_boxes([(np.array([[2, 4, 6, 8]]), np.array([0.5]), np.array([0])), nothing])
    finds = Finds(ids, found, ("lesion",), lambda image: (16, 16), {"patient": ("p", "p")})
    for name in ("csv", "yolo"):
        form = DETECTIONS[name]
        form.write_detections(finds, target_of(form, tmp_path / "a.b"))
    assert sorted(path.name for path in (tmp_path / "a.b/labels").iterdir()) == [f"{name}.txt" for name in ids]
    assert (tmp_path / f"a.b/labels/{ids[0]}.txt").read_text(encoding="utf-8") == "0 0.25 0.375 0.25 0.25 0.5\n"
    assert [row["image"] for row in table(tmp_path / "a.b.csv")] == [ids[0]]


def test_structured_reports_name_the_image_and_the_place(scans, tmp_path):
    pydicom, sr = pytest.importorskip("pydicom"), pytest.importorskip("highdicom.sr")
    detect(tmp_path / "real.h5", tmp_path / "detector", tmp_path / "csv", "csv")
    rows = table(tmp_path / "csv" / "detections.csv")
    run("detect", tmp_path / "real.h5", tmp_path / "detector", "--format", "dicom-sr", "--scans", scans, "--out",
        tmp_path / "sr")  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "sr").glob("*.dcm")) == ["p0.dcm", "p1.dcm"]
    images = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, scans.rglob("*.dcm"))}
    seen = 0
    for i in range(2):
        report = sr.srread(tmp_path / "sr" / f"p{i}.dcm")
        assert report.PatientID == f"ID Patient^{i}"
        groups = report.content.get_planar_roi_measurement_groups()
        own = [row for row in rows if row["file"] == f"p{i}"]
        assert len(groups) == len(own)
        for group, row in zip(groups, own, strict=True):
            (item,) = [each for each in group[0].ContentSequence if each.ValueType == "SCOORD"]
            corners = np.array(item.GraphicData, np.float64).reshape(-1, 2)
            image = images[item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
            assert image.PatientID == report.PatientID
            (x, y), (right, bottom) = corners.min(0).round().astype(int), corners.max(0).round().astype(int)
            bright = image.pixel_array > 850
            seen += bool(bright[y:bottom, x:right].sum() == bright.sum() > 0)
            assert right - x == round(float(row["x_max"])) - round(float(row["x_min"]))
            (certainty,) = group.get_measurements()
            assert certainty.value == pytest.approx(100 * float(row["score"]), abs=0.01)
    assert seen >= 4


def test_what_cannot_be_is_said(scans, tmp_path):
    real, detector = tmp_path / "real.h5", tmp_path / "detector"
    with pytest.raises(UsageError, match="xml: the choices are coco, yolo, csv, dicom-sr"):
        detect(real, detector, tmp_path / "out", "xml")
    with pytest.raises(UsageError, match="needs --scans"):
        detect(real, detector, tmp_path / "out", "dicom-sr")
    with pytest.raises(BadInput, match="no image in the split val"):
        detect(real, detector, tmp_path / "out", "csv", split="val")
    pytest.importorskip("highdicom")
    with pytest.raises(BadInput, match="holds no scan p"):
        detect(real, detector, tmp_path / "out", "dicom-sr", scans=tmp_path / "masks")
    (tmp_path / "other").mkdir()
    store = make_store(tmp_path / "other" / "real.h5", size=64)
    with pytest.raises(BadInput, match="does not say which scan"):
        detect(store.path, detector, tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists()
    first = open_store(real).details[0]["placement"]
    assert Placement.from_details(first).source == (40, 40)
