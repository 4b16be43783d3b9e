"""DICOM as archives and people leave it: each constructed sibling is read as what it is, or refused by name."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import as_image, changed, head, lying_at, write_series
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support import tiny_scans

from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import read_pixels, read_scan
from medaug_cli.scans.survey import find_scans, survey

VALUES = head()[0]
SEG, CR, DX, MG, SC = (
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66.4", "1", "1.1", "1.2", "7")
)  # fmt: skip


def only_volume(folder):
    """Return the one volume of a folder, with every warning of Python an error, and check that its pixels are right."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (scan,) = find_scans(folder)
        np.testing.assert_array_equal(read_pixels(scan).image[0], VALUES)
    return scan


def stripped(file, syntax, meta, preamble):
    """Write a file again without its preamble, or its meta information, or both."""
    found = pydicom.dcmread(file)
    found.file_meta.TransferSyntaxUID = syntax
    found.save_as(file, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    content = file.read_bytes()
    length = int.from_bytes(content[140:144], "little")  # of the meta information, which follows its own length
    file.write_bytes((content[:132] if preamble else b"") + (content[132:144] if meta else b"")
                     + (content[144 : 144 + length] if meta else b"") + content[144 + length :])  # fmt: skip


@pytest.mark.parametrize("name", ["IM{:04d}.dcm", "MR.1.2.3.{}", "{:d}", "i{:04d}.ima", "IMG{:03d}.DCM"])
@pytest.mark.parametrize(
    ("syntax", "meta", "preamble"),
    [
        (ImplicitVRLittleEndian, False, False), (ExplicitVRLittleEndian, False, False),
        (ImplicitVRLittleEndian, True, False), (ExplicitVRLittleEndian, True, False),
        (ImplicitVRLittleEndian, True, True),
    ],
)  # fmt: skip
def test_without_preamble_or_meta_information(tmp_path, name, syntax, meta, preamble):
    folder = write_series(tmp_path / "one", as_image(VALUES), names=lambda z: name.format(z + 1))
    for file in folder.iterdir():
        stripped(file, syntax, meta, preamble)
    only_volume(tmp_path)


def nudged(z, found):
    found.ImageOrientationPatient = [1, 1e-6 * (z % 2), 0, -1e-6 * (z % 2), 1, 0]


def at_the_border_of_rounding(z, found):
    sine = 0.0105000 + 1e-7 * (-1) ** z
    found.ImageOrientationPatient = [0.9999448693 + 1e-9 * z, sine, 0, -0.0105000, 0.9999448693, 0]


def spaced_a_little_otherwise(z, found):
    found.PixelSpacing = [1.5 + 1e-6 * z, 1.5]


def placed_a_little_otherwise(z, found):
    x, y, height = found.ImagePositionPatient
    found.ImagePositionPatient = [x + 1e-4 * (z % 2), y, height + 1e-4 * (z % 3)]


def without_image_type(z, found):
    if "ImageType" in found:
        del found.ImageType


def without_patient(z, found):
    found.PatientID, found.PatientName = "", ""


@pytest.mark.parametrize(
    "change",
    [nudged, at_the_border_of_rounding, spaced_a_little_otherwise, placed_a_little_otherwise, without_image_type,
     without_patient],
)  # fmt: skip
def test_slices_that_differ_in_their_last_digits_are_one_volume(tmp_path, change):
    changed(write_series(tmp_path / "one", as_image(VALUES)), change)
    scan = only_volume(tmp_path)
    assert read_pixels(scan).spacing == pytest.approx((4.0, 1.5, 1.5), abs=1e-3)
    assert (scan.patient is None) == (change is without_patient)


@pytest.mark.parametrize("share", ["halves", "alternating", "a folder a file", "nested", "one apart"])
def test_a_series_over_several_folders_is_one_volume(tmp_path, share):
    folder = write_series(tmp_path / "case/series", as_image(VALUES))
    for z, file in enumerate(sorted(folder.iterdir())):
        part = {
            "halves": f"DIR{z // 3}", "alternating": f"DIR{z % 2}", "a folder a file": f"I{z}",
            "nested": f"A/B{z % 2}/C", "one apart": "more" if z == 2 else ".",
        }[share]  # fmt: skip
        (folder / part).mkdir(parents=True, exist_ok=True)
        file.rename(folder / part / file.name)
    assert only_volume(tmp_path).name.startswith("case/series")


def test_a_series_that_was_copied_to_another_folder_is_two_volumes_and_said(tmp_path):
    folder = write_series(tmp_path / "series", as_image(VALUES))
    shutil.copytree(folder, tmp_path / "again")
    said = []
    scans = find_scans(tmp_path, said.append)
    assert [scan.id for scan in scans] == ["again", "series"]
    assert sum("lies in 2 folders" in sentence for sentence in said) == 1
    for scan in scans:
        np.testing.assert_array_equal(read_pixels(scan).image[0], VALUES)


def test_a_spread_series_with_a_missing_slice_is_refused(tmp_path):
    folder = write_series(tmp_path / "series", as_image(VALUES))
    for z, file in enumerate(sorted(folder.iterdir())):
        (folder / f"I{z}").mkdir()
        file.rename(folder / f"I{z}" / file.name)
    shutil.rmtree(folder / "I2")
    (scan,) = find_scans(tmp_path)
    with pytest.raises(BadInput, match="slices are missing"):
        read_pixels(scan)


@pytest.mark.parametrize("name", ["IM0004 (1).dcm", "Copy of IM0004.dcm", "IM0004.dcm.ima", "zz"])
@pytest.mark.parametrize("again", [False, True])
def test_a_copy_of_a_slice_is_taken_once_and_said(tmp_path, name, again):
    folder = write_series(tmp_path / "one", as_image(VALUES))
    shutil.copy(folder / "IM0004.dcm", folder / name)
    if again:  # the same slice, written anew by another program
        found = pydicom.dcmread(folder / name)
        found.InstitutionName = "Elsewhere"
        found.save_as(folder / name)
    said = []
    scans = find_scans(tmp_path, said.append)
    assert len(scans) == 1
    np.testing.assert_array_equal(read_pixels(scans[0]).image[0], VALUES)
    assert sum("is a copy of" in sentence and "IM0004" in sentence for sentence in said) == 1


def test_another_slice_at_the_same_place_is_no_copy(tmp_path):
    folder = write_series(tmp_path / "one", as_image(VALUES))
    found = pydicom.dcmread(folder / "IM0004.dcm")
    found.PixelData = bytes(len(found.PixelData))
    found.save_as(folder / "IM0004b.dcm")
    (scan,) = find_scans(tmp_path)
    with pytest.raises(BadInput, match=r"IM0004b?\.dcm and .*IM0004b?\.dcm lie at the same place"):
        read_pixels(scan)


def radiograph(path, modality="CR", sort=CR, patient="", meaning="MONOCHROME2", **tags):
    """Write one picture of a patient that lies nowhere in space."""
    pixels = np.tile(np.arange(0, 400, 10), (30, 1)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_series(path.parent / "raw", as_image(np.stack([pixels.astype(np.int16)] * 2)))
    found = pydicom.dcmread(path.parent / "raw/IM0000.dcm")
    shutil.rmtree(path.parent / "raw")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept", "RescaleSlope"):
        if name in found:
            delattr(found, name)
    found.Modality, found.SOPClassUID, found.PatientID, found.PatientName = modality, sort, patient, "Nobody"
    found.file_meta.MediaStorageSOPClassUID = sort
    found.SeriesInstanceUID = found.SOPInstanceUID = f"1.2.{abs(hash(path.name)) % 10**9}"
    found.PhotometricInterpretation = meaning
    for name, value in tags.items():
        setattr(found, name, value)
    found.save_as(path)
    return pixels


@pytest.mark.parametrize(
    ("modality", "sort", "meaning"),
    [("CR", CR, "MONOCHROME2"), ("DX", DX, "MONOCHROME1"), ("MG", MG, "MONOCHROME1"), ("MG", MG, "MONOCHROME2"),
     ("CR", SC, "MONOCHROME2"), ("", SC, "MONOCHROME2"), ("OT", SC, "MONOCHROME1"), ("XA", SC, "MONOCHROME2")],
)  # fmt: skip
def test_radiographs_are_a_picture_each(tmp_path, modality, sort, meaning):
    for k in range(3):
        pixels = radiograph(tmp_path / f"{k}.dcm", modality, sort, f"P{k}", meaning)
    scans = find_scans(tmp_path)
    assert [(scan.id, scan.volume, scan.name) for scan in scans] == [(str(k), False, str(k)) for k in range(3)]
    assert len({scan.patient for scan in scans}) == 3
    image = read_pixels(scans[0]).image
    expected = pixels if meaning == "MONOCHROME2" else pixels.max() - pixels
    np.testing.assert_array_equal(image[0], expected)


@pytest.mark.parametrize(("wider", "said"), [(0.08, "up to 0.8 mm beside the even steps of 1.04 mm"), (0.02, "")])
def test_gaps_that_add_up_to_another_place_are_said(tmp_path, wider, said):
    along = np.cumsum([0.0] + [1.0] * 20 + [1.0 + wider] * 20)
    write_series(tmp_path / "a", as_image(head(depth=len(along), size=16)[0]), **lying_at(along))
    notes = read_pixels(find_scans(tmp_path)[0]).notes
    assert len(notes) == bool(said)
    assert said in "".join(notes)


@pytest.mark.parametrize(("tags", "spacing"), [({}, None), ({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25))])
def test_radiographs_have_the_spacing_that_they_say(tmp_path, tags, spacing):
    radiograph(tmp_path / "a.dcm", **tags)
    assert read_pixels(find_scans(tmp_path)[0]).spacing == spacing


@pytest.mark.parametrize("classes", [False, True])
def test_annotations_of_a_damaged_scan_are_left_out_with_it_and_said(tmp_path, classes):
    for name in "ab":
        tiny_scans.picture(tmp_path / f"scans/{name}.png", (8, 6, 18, 16))
    (tmp_path / "scans/broken.dcm").write_bytes(np.random.default_rng(0).bytes(200))
    name = "broken.dcm" if classes else "broken"
    boxes = tiny_scans.rows(tmp_path, ["a.png,8,6,18,16", "b,8,6,18,16", f"{name},1,1,5,5", f"{name},6,6,9,9"])
    given = {"boxes": boxes}
    if classes:
        given["classes"] = str(tmp_path / "classes.csv")
        Path(given["classes"]).write_text("image,class\na,x\nb,y\nbroken,x\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken\.dcm cannot be read.*--keep-going skips it and lists it"):
        tiny_scans.made(tmp_path, split="1,0,0", **given)
    said = []
    store = tiny_scans.made(tmp_path, split="1,0,0", keep_going=True, said=said, **given)
    assert store.ids == ["a", "b"]
    assert [line for line in said if "cannot be read are left out" in line] == [
        "lesions of a scan that cannot be read are left out: broken.dcm"
    ]
    with pytest.raises(BadInput, match="--strict: lesions of a scan that cannot be read"):
        tiny_scans.made(tmp_path, split="1,0,0", keep_going=True, strict=True, overwrite=True, **given)


def test_radiographs_of_nobody_are_not_one_patient_and_series_of_them_stay_apart(tmp_path):
    for k in range(3):
        radiograph(tmp_path / f"p{k}/view.dcm", "MG", MG, SeriesInstanceUID="1.2.3")
    scans = find_scans(tmp_path)
    assert [scan.patient for scan in scans] == [None] * 3
    assert [scan.id for scan in scans] == ["p0-view", "p1-view", "p2-view"]


def test_numbers_of_patients_that_differ_in_case_or_blanks_are_one(tmp_path):
    for k, patient in enumerate(("P1", "p1 ", " P1", "P2")):
        radiograph(tmp_path / f"{k}.dcm", patient=patient)
    said = []
    assert [scan.patient for scan in find_scans(tmp_path, said.append)] == ["patient0001"] * 3 + ["patient0002"]
    assert sum("one patient" in sentence for sentence in said) == 1
    assert not any("P1" in sentence for sentence in said)


def segmentation(z, found):
    found.Modality, found.SOPClassUID = "SEG", SEG


def structures(z, found):
    found.Modality = "RTSTRUCT"
    del found.Rows


def mosaic(z, found):
    found.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


@pytest.mark.parametrize(
    ("change", "said"),
    [(segmentation, r"segmentation \(SEG"), (structures, "no picture"), (mosaic, "mosaic.* dcm2niix")],
)
def test_what_is_no_scan_is_named_in_a_folder_and_as_a_mask(tmp_path, change, said):
    folder = write_series(tmp_path / "one", as_image(VALUES))
    changed(folder, change)
    sentences = []
    with pytest.raises(BadInput, match=said):
        find_scans(tmp_path, sentences.append)
    with pytest.raises(BadInput, match=rf"IM0000\.dcm is .*{said}"):
        read_scan(folder / "IM0000.dcm")
    write_series(tmp_path / "two", as_image(VALUES), series="1.2.4")
    assert [scan.id for scan in survey(tmp_path).scans] == ["two"]


def test_a_single_slice_is_no_volume_and_its_sentence_says_so(tmp_path):
    folder = write_series(tmp_path / "one", as_image(VALUES[:1]))
    with pytest.raises(BadInput, match="only slice of its series"):
        find_scans(tmp_path)
    with pytest.raises(BadInput, match="single slice of a volume"):
        read_scan(folder / "IM0000.dcm")


@pytest.mark.parametrize("content", [b"", b"\x08\0", bytes(200), b"\x08\0\x05\0CS" + bytes(200), b"hello" * 60])
def test_what_only_seems_to_be_dicom_is_no_scan(tmp_path, content):
    write_series(tmp_path / "one", as_image(VALUES))
    (tmp_path / "notes").write_bytes(content)
    try:
        scans = find_scans(tmp_path)
    except BadInput as error:
        assert "notes" in str(error)  # noqa: PT017
    else:
        assert [scan.id for scan in scans] == ["one"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_series_that_was_never_fetched_is_left_out_and_one_that_lacks_a_slice_is_refused(tmp_path, whole):
    write_series(tmp_path / "one", as_image(VALUES))
    folder = write_series(tmp_path / "two", as_image(VALUES), series="1.2.4")
    for file in sorted(folder.iterdir())[: None if whole else 1]:
        file.unlink()
        file.symlink_to("../.git/annex/objects/ab")
    said = []
    if whole:
        assert [scan.id for scan in find_scans(tmp_path, said.append)] == ["one"]
        assert sum("is a broken link and is left out" in sentence for sentence in said) == 6
        return
    with pytest.raises(BadInput, match=r"two/IM0000\.dcm cannot be read \(it is a broken link"):
        find_scans(tmp_path)


def test_a_series_taken_many_times_is_not_compared_with_itself(tmp_path, monkeypatch):
    """Reading each slice once for every other time would take hours of a long dynamic series."""
    for turn in range(6):
        write_series(
            tmp_path / "one",
            as_image(VALUES),
            names=lambda z, turn=turn: f"IM{turn}-{z}.dcm",
            **{"0008|0018": lambda z, turn=turn: f"1.2.3.{turn}.{z}", "0020|0012": str(turn + 1)},
        )

    def no_content(path):
        raise AssertionError(f"{path} is read as a whole")

    monkeypatch.setattr(type(tmp_path), "read_bytes", no_content)
    assert len(find_scans(tmp_path)) == 6


@pytest.mark.parametrize("place", [".", "../one", "../one/.", "sub/.."])
def test_a_series_in_the_folder_where_one_is_has_that_folders_name(tmp_path, monkeypatch, place):
    folder = write_series(tmp_path / "one", as_image(VALUES))
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder)
    (scan,) = find_scans(folder.__class__(place))
    assert (scan.id, scan.relative) == ("one", "one")
