"""NIfTI as people have it: two versions, either byte order, odd scales, axes and names, compressed or not."""

import numpy as np
import pytest
import SimpleITK as sitk
from nifti_bytes import PLAIN, write_nifti

from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import read_stored
from medaug_cli.scans.survey import find_scans

VALUES = np.random.default_rng(0).integers(0, 99, (3, 4, 5)).astype(np.int16)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "i8", "f4", "f8"])
def test_both_versions_in_either_order_of_bytes(tmp_path, version, order, kind):
    path = write_nifti(tmp_path / "c1.nii", VALUES.astype(kind), version=version, order=order)
    found = read_stored((path,))
    np.testing.assert_array_equal(found.image[0], VALUES)
    assert found.grid.spacing == pytest.approx((0.9, 0.9, 3.0))


@pytest.mark.parametrize(("slope", "shift"), [(np.nan, 0), (np.nan, np.nan), (np.inf, 7), (0, 5), (0, np.nan)])
@pytest.mark.parametrize("version", [1, 2])
def test_a_slope_that_is_no_number_means_no_scaling(tmp_path, version, slope, shift):
    path = write_nifti(tmp_path / "c1.nii", VALUES, version=version, scale=(slope, shift))
    np.testing.assert_array_equal(read_stored((path,)).image[0], VALUES)


def test_values_are_scaled_and_a_shift_that_is_no_number_is_named(tmp_path):
    path = write_nifti(tmp_path / "c1.nii", VALUES, scale=(0.5, -3))
    np.testing.assert_array_equal(read_stored((path,)).image[0], VALUES * 0.5 - 3)
    with pytest.raises(BadInput, match=r"c1\.nii .*slope 2\.0 and shifted by nan"):
        read_stored((write_nifti(path, VALUES, scale=(2.0, np.nan)),))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("c1.nii", True), ("c1.nii.gz", False), ("c1", True), ("c1", False), ("c1.gz", True), ("c1.img", False),
        ("50%.nii", False), ("c%03d.nii.gz", True), ("Schädel.nii.gz", True), ("頭 部.nii", True), ("c1.NII.GZ", True),
    ],
)  # fmt: skip
def test_the_name_does_not_matter(tmp_path, name, packed):
    path = write_nifti(tmp_path / name, VALUES, packed)
    (scan,) = find_scans(tmp_path)
    assert scan.path == path
    np.testing.assert_array_equal(read_stored(scan.all_files, scan.reader).image[0], VALUES)


def test_a_compressed_file_without_a_suffix_that_is_something_else_is_no_scan(tmp_path):
    import gzip

    (tmp_path / "notes").write_bytes(gzip.compress(b"not a scan" * 99))
    write_nifti(tmp_path / "c1.nii", VALUES)
    assert [scan.id for scan in find_scans(tmp_path)] == ["c1"]


@pytest.mark.parametrize("codes", [(0, 1), (0, 2), (1, 1), (2, 1), (0, 4)])
def test_places_are_those_of_the_sform(tmp_path, codes):
    affine = PLAIN.copy()
    affine[:3, 3] = 4, 5, 6
    image = read_stored((write_nifti(tmp_path / "c1.nii", VALUES, codes=codes, affine=affine),))
    itk = sitk.ReadImage(str(tmp_path / "c1.nii"))
    np.testing.assert_allclose(image.grid.origin, itk.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(image.grid.direction, itk.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(image.grid.spacing, itk.GetSpacing(), atol=1e-5)


def test_the_width_of_voxels_is_that_of_the_sform_where_it_is_used(tmp_path):
    path = write_nifti(tmp_path / "c1.nii", VALUES)
    content = bytearray(path.read_bytes())
    content[76:108] = np.ones(8, "<f4").tobytes()  # pixdim
    path.write_bytes(content)
    assert read_stored((path,)).grid.spacing == pytest.approx((0.9, 0.9, 3.0))


@pytest.mark.parametrize("version", [1, 2])
def test_axes_in_one_plane_and_places_that_are_no_number_are_refused(tmp_path, version):
    flat = PLAIN.copy()
    flat[:3, 2] = flat[:3, 0] * 2
    with pytest.raises(BadInput, match="lie in one plane"):
        read_stored((write_nifti(tmp_path / "c1.nii", VALUES, version=version, affine=flat),))
    flat[0, 3] = np.nan
    with pytest.raises(BadInput, match=r"c1\.nii"):
        read_stored((write_nifti(tmp_path / "c1.nii", VALUES, version=version, affine=flat),))


def test_a_file_that_is_longer_or_shorter_than_its_header_says_is_refused(tmp_path):
    for version in (1, 2):
        for packed in (False, True):
            path = write_nifti(tmp_path / "c1.nii", VALUES[:2], packed, version=version)
            whole = path.read_bytes()
            for content in (whole[:-1], whole[: len(whole) // 2], whole + b"\1"):
                path.write_bytes(content)
                with pytest.raises(BadInput, match=r"c1\.nii cannot be read"):
                    read_stored((path,))


@pytest.mark.parametrize("codes", [(1, 2), (2, 1), (1, 3), (2, 4)])
def test_a_qform_that_differs_is_said_and_kept_and_the_sform_is_used(tmp_path, codes):
    path = write_nifti(tmp_path / "c1.nii", VALUES, codes=codes, qform=(9, 8, 7))
    found = read_stored((path,))
    assert found.grid.origin == (0, 0, 0)
    assert found.other_grid.origin == (-9, -8, 7)
    assert found.other_grid.spacing == pytest.approx(found.grid.spacing)
    (note,) = found.notes
    assert "differ by 10.0 voxels; its sform is used" in note
    same = read_stored((write_nifti(tmp_path / "c1.nii", VALUES, codes=codes, qform=(0.05, 0, 0)),))
    assert (same.notes, same.other_grid) == ((), None)


def sheared(share):
    affine = PLAIN.copy()
    affine[0, 1] = share * PLAIN[1, 1]
    return affine


@pytest.mark.parametrize(("share", "said"), [(1e-6, 0), (1e-4, 0), (0.01, 1), (-0.015, 1)])
def test_a_sform_that_is_slightly_sheared_is_read(tmp_path, share, said):
    found = read_stored((write_nifti(tmp_path / "c1.nii", VALUES, affine=sheared(share)),))
    assert len(found.notes) == said
    assert all("degrees off a right angle" in note for note in found.notes)


def test_a_sform_that_is_sheared_is_refused_unless_there_is_a_qform(tmp_path):
    with pytest.raises(BadInput, match=r"c1\.nii has a sheared sform, .* 2\.9 degrees .* resample it"):
        read_stored((write_nifti(tmp_path / "c1.nii", VALUES, affine=sheared(0.05)),))
    found = read_stored((write_nifti(tmp_path / "c1.nii", VALUES, affine=sheared(0.05), codes=(1, 2)),))
    assert found.grid.direction == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    assert "its qform is used" in found.notes[0]


@pytest.mark.parametrize(("version", "place", "width"), [(1, 108, 4), (2, 168, 8)])
def test_voxels_follow_the_header_where_it_does_not_say_where_they_begin(tmp_path, version, place, width):
    path = write_nifti(tmp_path / "c1.nii", VALUES, version=version)
    content = bytearray(path.read_bytes())
    content[place : place + width] = bytes(width)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_stored((path,)).image[0], VALUES)
