"""DICOM: a series gives what its NIfTI gives, each trap is handled or refused by name, and no identity comes out."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicoms import as_image, changed, head, write_series
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import read_pixels, read_scan
from medaug_cli.scans.survey import find_scans
from medaug_cli.store import open_store


def run(folder, *arguments, code=0):
    result = CliRunner().invoke(app, ["preprocess", *map(str, arguments)], catch_exceptions=True)
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0)], ids=["axial", "sagittal"]
)
def test_a_series_gives_the_pixels_of_its_nifti(tmp_path, direction):
    image = as_image(head()[0], direction)
    sitk.WriteImage(image, str(tmp_path / "one.nii.gz"))
    write_series(tmp_path / "dicom/one", image)
    (scan,) = find_scans(tmp_path / "dicom")
    ours, theirs = read_pixels(scan), read_scan(tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(ours.image, theirs.image)
    assert ours.spacing == pytest.approx(theirs.spacing)
    assert scan.volume


def test_a_series_gives_the_boxes_of_its_nifti(tmp_path):
    for name in ("a", "b", "c"):
        values, lesion = head(seed=ord(name))
        image, mask = as_image(values), as_image(lesion)
        (tmp_path / "nifti").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / f"nifti/{name}.nii.gz"))
        sitk.WriteImage(mask, str(tmp_path / f"masks/{name}.nii.gz"))
        write_series(tmp_path / "dicom" / name, image, series=f"1.{ord(name)}", patient=name)
    stores = []
    for form in ("nifti", "dicom"):
        out = tmp_path / f"out-{form}/real.h5"
        run(tmp_path, tmp_path / form, "--masks", tmp_path / "masks", "--strip", "none", "--size", 32, "--out", out,
            "--split", "0.4,0.3,0.3")  # fmt: skip
        stores.append(open_store(out))
    first, second = stores
    np.testing.assert_array_equal(first.images, second.images)
    assert len(first) == len(second) > 0
    for mine, theirs in zip(first.boxes, second.boxes, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_slices_are_ordered_by_place_and_not_by_name_or_number(tmp_path):
    values = head()[0]
    write_series(
        tmp_path / "one",
        as_image(values),
        names=lambda z: f"x{(z * 5) % 7}.ima",
        **{"0020|0013": lambda z: str(99 - z)},
    )
    (scan,) = find_scans(tmp_path)
    np.testing.assert_array_equal(read_pixels(scan).image[0], values)


def test_series_echoes_and_acquisitions_are_told_apart(tmp_path):
    values = head()[0]
    folder = tmp_path / "one"
    write_series(folder, as_image(values), names=lambda z: f"a{z}", **{"0018|0086": "1"})
    write_series(folder, as_image(values + 1), names=lambda z: f"b{z}", **{"0018|0086": "2"})
    write_series(folder, as_image(values + 2), series="1.9", names=lambda z: f"c{z}", **{"0020|0011": "7"})
    for number, name in ((1, "d"), (2, "e")):
        write_series(
            folder, as_image(values + 2 + number), series="1.11", names=lambda z, name=name: f"{name}{z}",
            **{"0020|0012": str(number), "0020|0011": "9"},
        )  # fmt: skip
    scans = find_scans(tmp_path)
    assert [scan.id for scan in scans] == [f"one-{i:02d}" for i in range(1, 6)]
    offsets = [int(read_pixels(scan).image[0, 0, 0, 0]) for scan in scans]
    assert offsets == [0, 1, 2, 3, 4]


def test_localisers_and_single_slices_are_left_out_and_said(tmp_path):
    values = head()[0]
    write_series(tmp_path / "one", as_image(values))
    write_series(
        tmp_path / "one",
        as_image(values[:2]),
        series="5.1",
        names=lambda z: f"l{z}",
        **{"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"},
    )
    write_series(tmp_path / "one", as_image(values[:1]), series="5.2", names=lambda z: f"s{z}")
    said = []
    assert len(find_scans(tmp_path, said.append)) == 1
    assert sum("is a localiser" in sentence for sentence in said) == 2
    assert sum("only slice" in sentence for sentence in said) == 1


def moved(place):
    def change(z, found):
        found.ImagePositionPatient = place(z)

    return change


def without_position(z, found):
    del found.ImagePositionPatient
    del found.ImageOrientationPatient


def framed(z, found):
    found.NumberOfFrames = 3


def coloured(z, found):
    found.PhotometricInterpretation = "PALETTE COLOR"


def unsized(z, found):
    del found.PixelSpacing


def uneven(z, found):
    found.PixelSpacing = [1.5, 1.5 + 0.1 * (z == 2)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (moved(lambda z: [-30, -30, 12 + 4 * z + 4 * (z > 3)]), "8.00 mm where 4.00 mm are usual"),
        (moved(lambda z: [-30, -30, 12]), "at the same place"),
        (moved(lambda z: [-30, -30 + z, 12 + 4 * z]), "tilted gantry"),
        (without_position, "where its slice lies"),
        (framed, "3 frames"),
        (coloured, "PALETTE COLOR; expected MONOCHROME1 or MONOCHROME2"),
        (unsized, "how large its pixels are"),
        (uneven, "differ in the size, kind or spacing"),
    ],
    ids=["gap", "repeated", "tilt", "no position", "frames", "colour", "no spacing", "uneven"],
)
def test_what_is_no_volume_is_refused_by_name(tmp_path, change, reason):
    changed(write_series(tmp_path / "one", as_image(head()[0])), change)
    scan = find_scans(tmp_path)[0]
    with pytest.raises(BadInput, match=reason):
        read_pixels(scan)


def test_a_missing_slice_is_noticed(tmp_path):
    folder = write_series(tmp_path / "one", as_image(head()[0]))
    (folder / "IM0002.dcm").unlink()
    (scan,) = find_scans(tmp_path)
    with pytest.raises(BadInput, match=r"8\.00 mm .* slices are missing"):
        read_pixels(scan)


def test_two_series_of_one_number_and_plane_stay_apart_by_size(tmp_path):
    write_series(tmp_path / "one", as_image(head()[0]))
    write_series(tmp_path / "one", as_image(head(size=32)[0]), names=lambda z: f"small{z}")
    assert sorted(read_pixels(scan).image.shape[-1] for scan in find_scans(tmp_path)) == [32, 40]


def test_the_contents_of_a_disc_and_reports_are_left_out(tmp_path):
    folder = write_series(tmp_path / "one", as_image(head()[0]))
    report = "1.2.840.10008.5.1.4.1.1.88.11"
    for name, kind, modality in (("DICOMDIR", "1.2.840.10008.1.3.10", ""), ("SR1", report, "SR")):
        found = pydicom.Dataset()
        found.SOPClassUID, found.SOPInstanceUID, found.Modality = kind, "1.2.3", modality
        found.file_meta = pydicom.dataset.FileMetaDataset()
        found.file_meta.MediaStorageSOPClassUID = kind
        found.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        found.save_as(folder / name, enforce_file_format=True)
    said = []
    assert len(find_scans(tmp_path, said.append)) == 1
    assert any("SR1 is no picture (Basic Text SR Storage)" in sentence for sentence in said)


def test_inverted_grey_is_turned_round_and_values_are_rescaled(tmp_path):
    values = head()[0]
    write_series(tmp_path / "one", as_image(values.max() - values))
    for file in (tmp_path / "one").iterdir():
        file.write_bytes(file.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    (scan,) = find_scans(tmp_path)
    image = read_pixels(scan).image[0]
    assert np.corrcoef(image.ravel(), values.ravel())[0, 1] > 0.99
    stretched = as_image(values)
    write_series(tmp_path / "two/one", stretched, **{"0028|1053": "2", "0028|1052": "-100"})
    (scan,) = find_scans(tmp_path / "two")
    np.testing.assert_allclose(read_pixels(scan).image[0], values, atol=1)  # the writer stores (value + 100) / 2


def test_patients_are_told_apart_and_no_name_comes_out(tmp_path):
    for k, patient in enumerate(("Mustermann^Erika", "Doe^John", "Roe^Jane")):
        values, lesion = head(seed=k)
        write_series(tmp_path / f"scans/s{k}", as_image(values), series=f"1.{k}", patient=patient)
        (tmp_path / "masks").mkdir(exist_ok=True)
        sitk.WriteImage(as_image(lesion), str(tmp_path / f"masks/s{k}.nii.gz"))
    run(tmp_path, tmp_path / "scans", "--masks", tmp_path / "masks", "--strip", "none", "--size", 32, "--out",
        tmp_path / "out/real.h5", "--split", "0.4,0.3,0.3")  # fmt: skip
    store = open_store(tmp_path / "out/real.h5")
    assert set(store.patients) == {"patient0001", "patient0002", "patient0003"}
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        for name in (b"Mustermann", b"Doe^", b"Roe^", b"Erika"):
            assert name not in path.read_bytes(), path
    assert json.loads((tmp_path / "out/boxes.json").read_text(encoding="utf-8"))["images"]


def test_a_cut_off_file_is_refused_or_gives_the_same_pixels(tmp_path):
    values = head()[0]
    write_series(tmp_path / "one", as_image(values))
    (scan,) = find_scans(tmp_path)
    file = scan.files[2]
    content = file.read_bytes()
    refused = 0
    for length in np.random.default_rng(0).integers(0, len(content), 40):
        file.write_bytes(content[:length])
        try:
            image = read_pixels(scan).image[0]
        except BadInput:
            refused += 1
        else:
            np.testing.assert_array_equal(image, values)
    assert refused >= 30
