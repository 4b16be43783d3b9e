"""Masks as DICOM segmentations: read by highdicom, image by image, on series in any order and direction."""

import numpy as np
import pytest
import SimpleITK as sitk
from support.dicoms import as_image, head, write_series

from medaug_cli.errors import BadInput
from medaug_cli.predicting.dicom_seg import write_dicom_seg
from medaug_cli.scans.grids import as_image as grid_image
from medaug_cli.scans.reading import read_pixels
from medaug_cli.scans.survey import find_scans

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")
SAGITTAL = (0, 0, 1, 1, 0, 0, 0, 1, 0)
FLIPPED = (1, 0, 0, 0, -1, 0, 0, 0, -1)
FRAME = {"0020|0052": "1.2.9"}  # of reference


def labels(shape):
    """Return two rectangles of different labels, in other slices each."""
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 4:9, 5:12] = 1
    mask[3:4, 20:24, 8:10] = 2
    return mask


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), SAGITTAL, FLIPPED])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_image_has_its_own_labels(tmp_path, direction, reverse):
    values, _ = head()
    names = (lambda z: f"IM{99 - z:04d}.dcm") if reverse else None
    write_series(tmp_path / "scans/one", as_image(values, direction), names=names, **FRAME)
    (scan,) = find_scans(tmp_path / "scans")
    pixels = read_pixels(scan)
    drawn = labels(values.shape)
    mask = stored(drawn, direction, pixels)
    assert np.bincount(mask.ravel()).tolist() == np.bincount(drawn.ravel()).tolist()
    (tmp_path / "out").mkdir()
    masks = {shown(tmp_path): (mask, pixels.stored)}
    write_dicom_seg(masks, ["cyst", "mass"], tmp_path / "out", tmp_path / "scans", "segmenter", "abc")
    (file,) = (tmp_path / "out").glob("*.dcm")
    found = hd.seg.segread(file)
    assert [each.SegmentLabel for each in found.SegmentSequence] == ["cyst", "mass"]
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "scans/one").iterdir())]
    assert {image.PatientID for image in images} == {found.PatientID}
    uids = [image.SOPInstanceUID for image in images]
    read = found.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    for image, found_there in zip(images, read, strict=True):
        np.testing.assert_array_equal(found_there, drawn[int(image.InstanceNumber) - 1])


def shown(folder):
    """Return what outputs call the one scan of a folder."""
    from medaug_cli.preprocess.pseudonyms import renamed_scans

    return renamed_scans(find_scans(folder / "scans"), None)[0].shown


def stored(drawn, direction, pixels):
    """Return labels of a series, drawn in the order of its slices, in the voxels that are read of it."""
    empty = grid_image(np.zeros(pixels.stored_shape, np.uint8), pixels.stored)
    return sitk.GetArrayFromImage(
        sitk.Resample(as_image(drawn, direction), empty, sitk.Transform(), sitk.sitkNearestNeighbor)
    )


def test_a_series_in_which_nothing_is_marked_has_no_file(tmp_path):
    values, _ = head()
    write_series(tmp_path / "scans/one", as_image(values), **FRAME)
    pixels = read_pixels(find_scans(tmp_path / "scans")[0])
    (tmp_path / "out").mkdir()
    nothing = np.zeros(pixels.stored_shape, np.uint8)
    write_dicom_seg(
        {shown(tmp_path): (nothing, pixels.stored)}, ["cyst"], tmp_path / "out", tmp_path / "scans", "s", "w"
    )
    assert not list((tmp_path / "out").iterdir())


def test_what_is_no_series_is_said(tmp_path):
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(as_image(head()[0]), str(tmp_path / "scans/a.nii.gz"))
    with pytest.raises(BadInput, match=r"--format dicom-seg is for DICOM series, which a\.nii\.gz is not"):
        write_dicom_seg(
            {"a.nii.gz": (np.ones((6, 40, 40), np.uint8), None)}, ["x"], tmp_path, tmp_path / "scans", "s", "w"
        )


def test_images_without_a_frame_of_reference_are_refused_in_a_sentence(tmp_path):
    write_series(tmp_path / "scans/one", as_image(head()[0]))
    pixels = read_pixels(find_scans(tmp_path / "scans")[0])
    with pytest.raises(BadInput, match=r"highdicom makes no segmentation of its images .*Frame Of Reference"):
        write_dicom_seg(
            {shown(tmp_path): (labels(pixels.stored_shape), pixels.stored)},
            ["a", "b"],
            tmp_path,
            tmp_path / "scans",
            "s",
            "w",
        )
