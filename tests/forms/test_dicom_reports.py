"""DICOM structured reports as boxes: what medaug writes it reads, and what other writers make of TID 1500."""

from dataclasses import replace

import numpy as np
import pytest
from dicoms import as_image, head, lying_at, places, write_series

from medaug_cli.detecting.finding import Found
from medaug_cli.detecting.structured import write_reports
from medaug_cli.errors import BadInput
from medaug_cli.forms.reading import holds_masks, read_annotations
from medaug_cli.preprocess.pseudonyms import renamed_scans
from medaug_cli.scans.reading import read_pixels
from medaug_cli.scans.survey import find_scans, survey

pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")
DEPTH, SIZE = 5, 24
VALUES = head(depth=DEPTH, size=SIZE)[0]
NAMES = ("glioma", "cyst 2", "métastase")
COUNTS = (3, 1, 2)  # findings a scan


def write_scans(folder):
    """Write two series, one with its slices the other way round and named from the last, and a radiograph."""
    write_series(folder / "up", as_image(VALUES), series="1.2.5")
    turned = as_image(VALUES, (1, 0, 0, 0, -1, 0, 0, 0, -1))
    write_series(folder / "down", turned, series="1.2.6", names=lambda z: f"IM{90 - z}.dcm")
    found = pydicom.dcmread(write_series(folder / "raw", as_image(VALUES), series="1.2.7") / "IM0000.dcm")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(found, name)
    found.Modality, found.SOPClassUID = "CR", "1.2.840.10008.5.1.4.1.1.1"
    for file in (folder / "raw").iterdir():
        file.unlink()
    (folder / "raw").rmdir()
    found.save_as(folder / "chest.dcm")


def findings(scan, count, draw):
    """Return `count` boxes in each of two slices, or in the picture, with fractions of a pixel as detectors give."""
    pixels = read_pixels(scan)
    found = []
    for number in (1, DEPTH - 1) if scan.volume else (None,):
        low = draw.uniform(0, SIZE / 2, (count, 2)).astype(np.float32)
        high = low + draw.uniform(1.5, SIZE / 2, (count, 2)).astype(np.float32)
        boxes = np.concatenate([low, high], 1)
        if number is not None:
            ends = np.full((count, 1), number, np.float32)
            boxes = np.concatenate([low, ends, high, ends + 1], 1)
        labels = draw.integers(0, len(NAMES), count)
        found.append(
            Found(f"{scan.id}-{number}", scan.shown, number, (SIZE, SIZE, DEPTH) if scan.volume else (SIZE, SIZE),
                  boxes, scores=draw.uniform(0.1, 1, count), labels=labels, grid=pixels.stored)
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a folder of scans with their reports beside it, and what was found."""
    folder = tmp_path_factory.mktemp("reports")
    write_scans(folder / "scans")
    draw = np.random.default_rng(0)
    scans = renamed_scans(find_scans(folder / "scans"), None)
    found = [one for scan, count in zip(scans, COUNTS, strict=True) for one in findings(scan, count, draw)]
    (folder / "out").mkdir()
    write_reports(found, NAMES, out=folder / "out", scans=folder / "scans", detector="fcos", weights="abc")
    return folder, found


def test_boxes_come_back_as_they_were(base):
    folder, found = base
    scans = find_scans(folder / "scans")
    read = read_annotations(folder / "out", scans)
    assert read.notes == []
    assert set(read.scans) == {scan.id for scan in scans}
    for scan in scans:
        own = [one for one in found if one.file == scan.shown]
        item = read.scans[scan.id]
        np.testing.assert_array_equal(item.boxes, np.concatenate([one.boxes for one in own]))
        assert item.labels == [NAMES[label] for one in own for label in one.labels]


@pytest.mark.parametrize("kind", ["0.625 mm", "1.25 mm", "a wider gap"])
def test_a_report_names_the_image_of_the_slice(tmp_path, kind):
    depth, numbers = 48, (0, 5, 30, 47)
    image = as_image(head(depth=depth, size=SIZE)[0])
    write_series(tmp_path / "scans/one", image, names=lambda z: f"IM{99 - z}.dcm", **lying_at(places(depth, kind)))
    (scan,) = renamed_scans(find_scans(tmp_path / "scans"), None)
    grid = read_pixels(scan).stored
    found = [
        Found(f"one-{z}", scan.shown, z, (SIZE, SIZE, depth), np.array([[3.0, 4, z, 9, 11, z + 1]]),
              scores=np.ones(1), labels=np.zeros(1, int), grid=grid)
        for z in numbers
    ]  # fmt: skip
    (tmp_path / "out").mkdir()
    write_reports(found, NAMES, out=tmp_path / "out", scans=tmp_path / "scans", detector="fcos", weights="abc")
    (file,) = (tmp_path / "out").iterdir()
    (series,) = pydicom.dcmread(file).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = {each.ReferencedSOPInstanceUID for each in series.ReferencedSOPSequence}
    assert uids == {f"1.2.3.{z + 1}" for z in numbers}
    boxes = read_annotations(file, find_scans(tmp_path / "scans")).scans["one"].boxes
    np.testing.assert_array_equal(boxes, np.concatenate([one.boxes for one in found]))
    (next((tmp_path / "scans/one").iterdir())).unlink()
    with pytest.raises(BadInput, match=r"had 48 slices and has 47 images now; its files have changed"):
        write_reports(found, NAMES, out=tmp_path / "out", scans=tmp_path / "scans", detector="fcos", weights="abc")


def test_one_report_is_enough_whatever_it_is_called(base, tmp_path):
    folder, found = base
    file = saved(base, tmp_path / "IM00001")
    read = read_annotations(file, find_scans(folder / "scans"))
    assert list(read.scans) == ["up"]
    np.testing.assert_array_equal(read.scans["up"].boxes, found_in_up(found))


def test_they_are_found_beside_their_scans_which_stay_scans(base, tmp_path):
    found = base[1]
    write_series(tmp_path / "scans/up", as_image(VALUES), series="1.2.5")
    saved(base, tmp_path / "scans/up/report.dcm")
    said = []
    assert not holds_masks(tmp_path / "scans")
    scans = survey(tmp_path / "scans", said.append).scans
    assert any("is a DICOM structured report (Comprehensive SR Storage; give it with --boxes" in one for one in said)
    np.testing.assert_array_equal(read_annotations(tmp_path / "scans", scans).scans["up"].boxes, found_in_up(found))


def found_in_up(found):
    return np.concatenate([one.boxes for one in found if one.file == "up"])


def saved(base, path, change=lambda report: None):
    """Write the report of the series `up`, changed, to another place."""
    report = pydicom.dcmread(base[0] / "out/up.dcm")
    change(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    report.save_as(path)
    return path


def groups(report):
    (container,) = [item for item in report.ContentSequence if code(item) == "126010"]  # imaging measurements
    return [item for item in container.ContentSequence if code(item) == "125007"]


def code(item):
    return item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else ""


def region(report, number=0):
    (item,) = [item for item in groups(report)[number].ContentSequence if item.ValueType == "SCOORD"]
    return item


def graphic(kind, *points):
    def change(report):
        region(report).GraphicType, region(report).GraphicData = kind, list(points)

    return change


def by_another_writer(report):
    report.Manufacturer = "Somebody else"


def without_names(report):
    for group in groups(report):
        group.ContentSequence = [item for item in group.ContentSequence if code(item) not in ("112039", "121071")]


def one_group(report):
    """Put the regions of all groups into the first, as a lesion in three dimensions has them (TID 1411)."""
    first, *others = groups(report)
    for other in others:
        first.ContentSequence += [item for item in other.ContentSequence if item.ValueType == "SCOORD"]
    (container,) = [item for item in report.ContentSequence if code(item) == "126010"]
    container.ContentSequence = [item for item in container.ContentSequence if code(item) != "125007"] + [first]


def comprehensive_3d(report):
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"


FORMS = {  # a change -> the box of the first finding, and all labels; None where they are as they were
    "a polygon": (graphic("POLYLINE", 3, 4, 9, 2, 12, 8, 3, 4), (3, 2, 12, 8), None),
    "an open line": (graphic("POLYLINE", 3, 4, 9, 2, 12, 8), (3, 2, 12, 8), None),
    "some points": (graphic("MULTIPOINT", 5, 5, 7, 9, 6, 2), (5, 2, 7, 9), None),
    "a circle": (graphic("CIRCLE", 10, 11, 13, 15), (5, 6, 15, 16), None),
    "an upright ellipse": (graphic("ELLIPSE", 4, 10, 16, 10, 10, 7, 10, 13), (4, 7, 16, 13), None),
    "a turned circle of an ellipse": (graphic("ELLIPSE", 7, 6, 13, 14, 14, 7, 6, 13), (5, 5, 15, 15), None),
    "a corner off its image by rounding": (graphic("POLYLINE", -0.4, 0, 4, 0, 4, 4), (-0.4, 0, 4, 4), None),
    "another writer's finding": (by_another_writer, None, "Lesion"),
    "without a name": (without_names, None, "lesion"),
    "a 3D report": (comprehensive_3d, None, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_regions_of_other_writers_are_boxes(base, tmp_path, form):
    change, box, label = FORMS[form]
    read = read_annotations(saved(base, tmp_path / "a.dcm", change), find_scans(base[0] / "scans")).scans["up"]
    expected = found_in_up(base[1])[0]
    if box is not None:
        expected[[0, 1, 3, 4]] = box
    np.testing.assert_allclose(read.boxes[0], expected, atol=1e-5)
    if label is not None:
        assert set(read.labels) == {label}


def test_a_lesion_of_several_slices_is_one_box_around_them(base, tmp_path):
    read = read_annotations(saved(base, tmp_path / "a.dcm", one_group), find_scans(base[0] / "scans")).scans["up"]
    own = found_in_up(base[1])
    np.testing.assert_array_equal(read.boxes, [[*own[:, :3].min(0), *own[:, 3:].max(0)]])


def test_a_point_and_a_finding_without_region_are_left_out_and_said(base, tmp_path):
    def change(report):
        graphic("POINT", 3, 4)(report)
        second = groups(report)[1]
        second.ContentSequence = [item for item in second.ContentSequence if item.ValueType != "SCOORD"]

    read = read_annotations(saved(base, tmp_path / "a.dcm", change), find_scans(base[0] / "scans"))
    (own,) = read.scans.values()
    assert len(own.boxes) == len(found_in_up(base[1])) - 2
    assert [note.what for note in (*own.notes, *read.notes)] == [
        "a box without extent, left out", "a finding without a region in an image, left out"
    ]  # fmt: skip
    assert all(note.lost for note in (*own.notes, *read.notes))


def in_millimetres(report):
    region(report).ValueType = "SCOORD3D"


def of_no_image(report):
    del region(report).ContentSequence


def of_a_nameless_image(report):
    del region(report).ContentSequence[0].ReferencedSOPSequence


def of_an_image(uid):
    def change(report):
        region(report).ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = uid

    return change


def in_two_scans(report):
    of_an_image("1.2.6.1")(report)  # of the series `down`
    one_group(report)


def without_content(report):
    del report.ContentSequence


def without_groups(report):
    report.ContentSequence = [item for item in report.ContentSequence if code(item) != "126010"]


def without_points(report):
    del region(report).GraphicData


MALFORMED = {
    "a region in millimetres": (in_millimetres, r"finding 1: regions in millimetres \(SCOORD3D\) are not supported"),
    "of no image": (of_no_image, "finding 1: its region names no image"),
    "of an image without UID": (of_a_nameless_image, "finding 1: its region is incomplete"),
    "of an image that is not there": (of_an_image("1.2.99"), r"its image 1\.2\.99 is not among the scans"),
    "of two scans": (in_two_scans, "its regions lie in two scans, down and up"),
    "without content": (without_content, "without measurement groups"),
    "without groups": (without_groups, "without measurement groups"),
    "without points": (without_points, "finding 1: its region is incomplete"),
    "an odd number of coordinates": (graphic("POLYLINE", 1, 2, 3), "its POLYLINE has 3 coordinates"),
    "a circle of three points": (graphic("CIRCLE", 1, 2, 3, 4, 5, 6), "its CIRCLE has 6 coordinates"),
    "an ellipse of two points": (graphic("ELLIPSE", 1, 2, 3, 4), "its ELLIPSE has 4 coordinates"),
    "a corner that is not finite": (graphic("POLYLINE", 1, 2, float("nan"), 4), "not a finite number"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_is_malformed_is_refused_in_a_sentence(base, tmp_path, fault):
    change, said = MALFORMED[fault]
    file = saved(base, tmp_path / "a.dcm", change)
    with pytest.raises(BadInput, match=said) as caught:
        read_annotations(file, find_scans(base[0] / "scans"))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_report_that_is_cut_off_is_refused(base, tmp_path, share):
    whole = (base[0] / "out/up.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadInput, match=r"a\.dcm cannot be read, it is truncated or damaged"):
        read_annotations(tmp_path / "a.dcm", find_scans(base[0] / "scans"))


def test_an_image_in_two_scans_is_named_with_both(base, tmp_path):
    for name in ("one", "two"):
        write_series(tmp_path / "scans" / name, as_image(VALUES), series="1.2.5")
    with pytest.raises(BadInput, match=r"its image 1\.2\.5\.\d is in two scans, one and two"):
        read_annotations(base[0] / "out/up.dcm", find_scans(tmp_path / "scans"))


def test_pictures_of_other_formats_have_no_report(base, tmp_path):
    from PIL import Image

    (tmp_path / "scans").mkdir()
    Image.new("L", (SIZE, SIZE)).save(tmp_path / "scans/a.png")
    one = replace(next(one for one in base[1] if one.slice is None), file="a.png")
    with pytest.raises(BadInput, match=r"--format dicom-sr is for DICOM scans, which a\.png is not"):
        write_reports([one], NAMES, out=tmp_path, scans=tmp_path / "scans", detector="fcos", weights="abc")
