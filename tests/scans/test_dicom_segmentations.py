"""DICOM segmentations as masks: written by highdicom, changed as other writers have them, paired by what they name."""

from dataclasses import replace

import numpy as np
import pytest
from support.dicoms import as_image, head, lying_at, places, write_series
from support.tiny_scans import PLAIN

from medaug_cli.errors import BadInput
from medaug_cli.predicting.dicom_seg import write_dicom_seg
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.pseudonyms import renamed_scans
from medaug_cli.scans.mask_grids import read_mask
from medaug_cli.scans.masks import label_names
from medaug_cli.scans.reading import read_pixels, read_stored
from medaug_cli.scans.survey import find_scans

pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")
VALUES, _ = head(depth=6, size=32)
FRAME = {"0020|0052": "1.2.9"}  # of reference
WHOLE = replace(PLAIN, volume=(8, 32, 32), fit="stretch")


def labels():
    """Return two lesions (z, y, x), with an empty slice between their slices."""
    mask = np.zeros(VALUES.shape, np.uint8)
    mask[1:2, 4:9, 5:12] = 1
    mask[3:5, 20:24, 8:10] = 2
    return mask


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Write a series and its segmentation."""
    folder = tmp_path_factory.mktemp("seg")
    write_series(folder / "scans/one", as_image(VALUES), **FRAME)
    pixels = read_pixels(find_scans(folder / "scans")[0])
    (folder / "out").mkdir()
    masks = {shown(folder): (labels(), pixels.stored)}
    write_dicom_seg(masks, ["cyst", "mass"], folder / "out", folder / "scans", "s", "w")
    (file,) = (folder / "out").iterdir()
    return folder, file


def shown(folder):
    """Return what outputs call the one scan of a folder."""
    return renamed_scans(find_scans(folder / "scans"), None)[0].shown


def saved(base, path, change=lambda found: None):
    found = pydicom.dcmread(base[1])
    change(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path)
    return path


def read(path):
    return read_stored((path,), labels=True)


def frames_of(found, order):
    pixels = found.pixel_array
    found.PixelData = np.packbits(pixels[list(order)].ravel(), bitorder="little").tobytes()
    found.PixelData += b"\0" * (len(found.PixelData) % 2)
    found.PerFrameFunctionalGroupsSequence = [found.PerFrameFunctionalGroupsSequence[i] for i in order]
    found.NumberOfFrames = len(order)


def as_bytes(found, kind, value=lambda pixels: pixels):
    values = value(found.pixel_array).astype(np.uint8)
    found.SegmentationType = kind
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit = 7
    found.PixelData = values.tobytes() + b"\0" * (values.size % 2)


def as_label_map(found):
    """Write every frame's number of its segment as the pixels' value."""
    numbers = [
        int(each.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for each in found.PerFrameFunctionalGroupsSequence
    ]
    as_bytes(found, "LABELMAP", lambda pixels: pixels * np.array(numbers)[:, None, None])


def fractional(found):
    found.MaximumFractionalValue = 255
    as_bytes(found, "FRACTIONAL", lambda pixels: pixels * 255)


def without_spacing(found):
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        if name in measures:
            delattr(measures, name)


def wrong_thickness(found):
    without_spacing(found)
    found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = 2.5


def with_spacing(found):
    wrong_thickness(found)
    found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 4.0


def one_slice(found):
    without_spacing(found)
    found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = 8.0
    frames_of(found, [0])


FORMS = {
    "as it is written": lambda found: None,
    "frames from the last to the first": lambda found: frames_of(found, range(int(found.NumberOfFrames))[::-1]),
    "a label map": as_label_map,
    "hard fractions": fractional,
    "without a distance of slices": without_spacing,
    "a thickness that is not the distance": wrong_thickness,
    "a distance of slices beside a wrong thickness": with_spacing,
    "one slice alone, thicker than the slices lie apart": one_slice,
}


@pytest.mark.parametrize("form", FORMS)
def test_segments_lie_where_they_were(base, tmp_path, form):
    file = saved(base, tmp_path / "a.dcm", FORMS[form])
    expected = labels() * (labels() == 1) if form.startswith("one slice") else labels()
    (scan,) = find_scans(base[0] / "scans")
    np.testing.assert_array_equal(read_mask(file, scan, read_pixels(scan)).image[0], expected)
    assert label_names(file) == {frozenset([1]): "cyst", frozenset([2]): "mass"}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", ["0.625 mm", "1.25 mm", "3.3 mm", "a wider gap"])
def test_a_segmentation_lies_on_its_series_wherever_scanners_put_the_slices(tmp_path, kind, told):
    depth, along = 48, places(48, kind)
    write_series(tmp_path / "scans/one", as_image(head(depth=depth, size=24)[0]), **FRAME, **lying_at(along))
    (scan,) = find_scans(tmp_path / "scans")
    pixels, mask = read_pixels(scan), np.zeros((depth, 24, 24), np.uint8)
    assert pixels.stored.spacing[2] == pytest.approx((along[-1] - along[0]) / (depth - 1))
    for z in (0, 1, 2, 20, 21, 23, 46, 47):
        mask[z, 4:9, 5 : 10 + z % 7] = 1
    (tmp_path / "out").mkdir()
    masks = {shown(tmp_path): (mask, pixels.stored)}
    write_dicom_seg(masks, ["cyst"], tmp_path / "out", tmp_path / "scans", "s", "w")
    (file,) = (tmp_path / "out").iterdir()
    if not told:
        found = pydicom.dcmread(file)
        measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.pop("SpacingBetweenSlices", None)
        measures.SliceThickness = 2 * pixels.stored.spacing[2]  # of slices that overlap
        found.save_as(file)
    np.testing.assert_array_equal(read_mask(file, scan, pixels).image[0], mask)


def overlapping(found):
    """Let the second segment's first frame lie on the first segment's, and all of it be marked."""
    pixels = found.pixel_array.copy()
    groups = list(found.PerFrameFunctionalGroupsSequence)
    numbers = [int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for one in groups]
    first, second = numbers.index(1), numbers.index(2)
    groups[second].PlanePositionSequence = groups[first].PlanePositionSequence
    pixels[second] = 1
    found.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()


def test_of_segments_that_overlap_the_smaller_counts_and_it_is_said(base, tmp_path):
    found = read(saved(base, tmp_path / "a.dcm", overlapping))
    assert (found.image[0] == 1).sum() == 35
    assert "35 voxels lie in two segments" in found.notes[0]


def soft(found):
    found.MaximumFractionalValue = 255
    as_bytes(found, "FRACTIONAL", lambda pixels: pixels * 100)


def without_places(found):
    for each in found.PerFrameFunctionalGroupsSequence:
        del each.PlanePositionSequence


def uneven(found):
    without_spacing(found)
    for each, z in zip(found.PerFrameFunctionalGroupsSequence, (0, 4, 11, 12.7), strict=False):
        each.PlanePositionSequence[0].ImagePositionPatient = [-30.0, -30.0, z]


def cut(found):
    found.PixelData = found.PixelData[: len(found.PixelData) // 2 // 2 * 2]


@pytest.mark.parametrize(("change", "said"), [
    (soft, "a soft segmentation"), (without_places, "does not say where its frames lie"),
    (uneven, "do not lie at even distances"), (cut, "truncated or damaged"),
    (lambda found: found.pop("PerFrameFunctionalGroupsSequence"), "does not say where its frames lie"),
    (lambda found: found.pop("SharedFunctionalGroupsSequence"), "does not say where its frames lie"),
])  # fmt: skip
def test_what_is_not_understood_is_refused(base, tmp_path, change, said):
    with pytest.raises(BadInput, match=said):
        read(saved(base, tmp_path / "a.dcm", change))


def made(folder, **given):
    said = []
    options = PreprocessOptions(
        given.pop("scans", folder / "scans"), given.pop("out") / "real.h5", recipe=WHOLE, workers=1,
        announce=said.append, split="1,0,0", **given,
    )  # fmt: skip
    return preprocess(options), said


def test_what_predict_writes_is_read_as_masks(base, tmp_path):
    folder, _ = base
    store, _ = made(folder, masks=folder / "out", out=tmp_path)
    assert tuple(store.spec.mask_names) == ("cyst", "mass")
    assert sorted(store.spec.label_names[label] for label in store.labels[0]) == ["cyst", "mass"]
    small = store.masks[0]
    assert {1, 2} == set(np.unique(small)) - {0}
    whole, _ = made(folder, masks=folder / "out", out=tmp_path / "again")
    np.testing.assert_array_equal(whole.masks[0], small)


def test_it_is_of_the_series_that_it_names_whatever_it_is_called(base, tmp_path):
    write_series(tmp_path / "scans/one", as_image(VALUES), **FRAME)
    write_series(tmp_path / "scans/two", as_image(VALUES), series="1.2.7", **FRAME)
    saved(base, tmp_path / "masks/deep/1-1.dcm")
    store, said = made(tmp_path, masks=tmp_path / "masks", out=tmp_path / "out", normals=True)
    marked = {name: bool(mask.any()) for name, mask in zip(store.ids, store.masks, strict=True)}
    assert marked == {"one": True, "two": False}
    assert any("1 of 2 scans have no mask" in line for line in said)


def test_it_is_found_beside_its_scans(base, tmp_path):
    write_series(tmp_path / "scans/one", as_image(VALUES), **FRAME)
    saved(base, tmp_path / "scans/seg/1-1.dcm")
    store, _ = made(tmp_path, masks=tmp_path / "scans", out=tmp_path / "out")
    assert list(store.ids) == ["one"]
    assert store.masks[0].any()


def test_of_another_series_it_goes_by_its_name(base, tmp_path):
    write_series(tmp_path / "scans/two", as_image(VALUES), series="1.2.7", **FRAME)
    write_series(tmp_path / "scans/three", as_image(VALUES), series="1.2.8", **FRAME)
    saved(base, tmp_path / "masks/two.dcm")
    store, _ = made(tmp_path, masks=tmp_path / "masks", out=tmp_path / "out", normals=True)
    assert {name: bool(mask.any()) for name, mask in zip(store.ids, store.masks, strict=True)} == {
        "two": True, "three": False
    }  # fmt: skip


def test_one_beside_scans_that_nobody_asked_for_is_left_out_and_said(base, tmp_path):
    write_series(tmp_path / "scans/one", as_image(VALUES), **FRAME)
    saved(base, tmp_path / "scans/seg/1-1.dcm")
    said = []
    assert [scan.id for scan in find_scans(tmp_path / "scans", said.append)] == ["one"]
    assert any("is a DICOM segmentation (SEG; give it with --masks) and is left out" in line for line in said)


def bare(folder):
    """Take the suffixes of all files in a folder away."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.rename(path.with_suffix(""))


@pytest.mark.parametrize("masks", ["scans", "scans/seg", "scans/seg/SEG0001", "elsewhere", "elsewhere/SEG0001"])
def test_it_is_known_by_its_content_where_files_have_no_suffix(base, tmp_path, masks):
    write_series(tmp_path / "scans/one", as_image(VALUES), **FRAME)
    saved(base, tmp_path / masks.removesuffix("/SEG0001") / ("seg" * (masks == "scans")) / "SEG0001.dcm")
    bare(tmp_path)
    store, said = made(tmp_path, masks=tmp_path / masks, out=tmp_path / "out")
    assert list(store.ids) == ["one"]
    assert set(np.unique(store.masks[0])) == {0, 1, 2}
    assert sorted(store.spec.label_names[label] for label in store.labels[0]) == ["cyst", "mass"]
    assert not any("left out" in line for line in said)


def test_two_of_one_series_are_refused_with_what_helps(base, tmp_path):
    write_series(tmp_path / "scans/one", as_image(VALUES), **FRAME)
    for name in "ab":
        saved(base, tmp_path / f"masks/{name}.dcm")
    with pytest.raises(BadInput, match="has two segmentations, "):
        made(tmp_path, masks=tmp_path / "masks", out=tmp_path / "out")
