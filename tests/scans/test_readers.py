"""Readers of scans: every format whole, truncated, deep, turned; modalities; and one that a stranger brings."""

import importlib
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from distributions import write_distribution
from PIL import Image

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.scans import reading
from medaug_cli.scans.pairing import pair_masks
from medaug_cli.scans.reading import read_pixels, read_scan
from medaug_cli.scans.survey import find_scans, survey
from medaug_cli.testing import check_reader

PACKED = {"n.nii.gz", "packed.nrrd", "packed.mha", "packed.mhd"}
FORMS = (
    "n.nii",
    "n.nii.gz",
    "plain.nrrd",
    "packed.nrrd",
    "plain.mha",
    "packed.mha",
    "plain.nhdr",
    "plain.mhd",
    "packed.mhd",
)


def values(kind=np.int16):
    return np.random.default_rng(0).integers(0, 900, (4, 12, 10)).astype(kind)


def written(folder, name, kind=np.int16):
    image = sitk.GetImageFromArray(values(kind))
    image.SetSpacing((0.5, 0.5, 3.0))
    sitk.WriteImage(image, str(folder / name), useCompression=name in PACKED)
    return folder / name


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("name", FORMS)
def test_a_volume_is_read_in_full(tmp_path, name, kind):
    found = read_scan(written(tmp_path, name, kind))
    np.testing.assert_array_equal(found.image[0], values(kind).astype(np.float32))
    assert found.spacing == (3.0, 0.5, 0.5)


@pytest.mark.parametrize("name", FORMS)
def test_a_volume_that_is_cut_off_or_too_long_is_refused(tmp_path, name):
    path = written(tmp_path, name)
    data = next((one for one in tmp_path.iterdir() if one != path), path)
    content = data.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        data.write_bytes(content[:length])
        with pytest.raises(BadInput, match=r"truncated|no single file"):
            read_scan(path)
    data.write_bytes(content + b"\1" * 7)
    with pytest.raises(BadInput):
        read_scan(path)


@pytest.mark.parametrize("name", ["n.nii", "plain.nrrd", "plain.mha"])
def test_a_number_that_is_none_is_refused(tmp_path, name):
    image = values(np.float32)
    image[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / name))
    with pytest.raises(BadInput, match="NaN or infinite"):
        read_scan(tmp_path / name)


def test_a_header_may_not_point_elsewhere(tmp_path):
    (tmp_path / "in").mkdir()
    path = written(tmp_path / "in", "plain.mhd")
    (tmp_path / "in/plain.raw").rename(tmp_path / "plain.raw")
    path.write_text(path.read_text(encoding="utf-8").replace("plain.raw", "../plain.raw"), encoding="utf-8")
    with pytest.raises(BadInput, match="not a single file beside it"):
        read_scan(path)


def test_a_fourth_axis_of_one_is_no_axis_and_more_are_refused(tmp_path):
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(values())]), str(tmp_path / "one.nii.gz"))
    np.testing.assert_array_equal(read_scan(tmp_path / "one.nii.gz").image[0], values())
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(values())] * 2), str(tmp_path / "two.nii.gz"))
    with pytest.raises(BadInput, match="one file per volume"):
        read_scan(tmp_path / "two.nii.gz")


GREY = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
COLOUR = np.stack([GREY, GREY.T.reshape(5, 7), 255 - GREY], -1)
DEEP = GREY.astype(np.uint16) * 257 - 3 * (GREY > 0).astype(np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize(
    "pixels", [GREY, COLOUR, DEEP, COLOUR.astype(np.uint16) * 256 + 5], ids=["8", "3x8", "16", "3x16"]
)
def test_a_picture_is_read_in_full(tmp_path, suffix, pixels):
    path = tmp_path / f"one.{suffix}"
    pixels = (pixels >> 8).astype(np.uint8) if (suffix, pixels.dtype) == ("bmp", np.uint16) else pixels
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=pixels.ndim == 3), str(path))
    found = read_scan(path).image
    np.testing.assert_array_equal(found, pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def test_colours_that_are_all_grey_are_one_channel_and_white_may_be_zero(tmp_path):
    Image.fromarray(np.stack([GREY] * 3, -1)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_scan(tmp_path / "grey.png").image, GREY[None])
    Image.fromarray(GREY, "L").save(tmp_path / "w8.tif", tiffinfo={262: 0})
    Image.fromarray(DEEP).save(tmp_path / "w16.tif", tiffinfo={262: 0})
    for name, pixels in (("w8.tif", GREY), ("w16.tif", DEEP)):
        content = bytearray((tmp_path / name).read_bytes())
        kind = content.find(struct.pack("<HHI", 262, 3, 1))
        stored = int.from_bytes(content[kind + 8 : kind + 10], "little")
        content[kind + 8] = 0  # WhiteIsZero, whatever the writer made of it
        (tmp_path / name).write_bytes(content)
        with Image.open(tmp_path / name) as image:
            raw = np.frombuffer(content, pixels.dtype, 35, image.tag_v2[273][0]).reshape(5, 7)
        np.testing.assert_array_equal(read_scan(tmp_path / name).image[0], np.iinfo(pixels.dtype).max - raw)
        assert stored in (0, 1)


def test_several_pages_and_turned_pictures_are_refused(tmp_path):
    page = Image.fromarray(GREY)
    page.save(tmp_path / "two.tif", save_all=True, append_images=[page])
    with pytest.raises(BadInput, match="holds several pictures"):
        read_scan(tmp_path / "two.tif")
    exif = Image.Exif()
    exif[274] = 6
    page.save(tmp_path / "turned.jpg", exif=exif)
    with pytest.raises(BadInput, match="rotate its pixels first"):
        read_scan(tmp_path / "turned.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_picture_that_is_cut_off_is_refused(tmp_path, suffix):
    path = tmp_path / f"one.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(path)
    content = path.read_bytes()
    for length in (0, 5, 60, len(content) // 2, len(content) - 2):
        path.write_bytes(content[:length])
        with pytest.raises(BadInput, match=path.name):
            read_scan(path)


def test_a_changed_pixel_of_a_png_is_noticed(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "one.png", compress_level=0)
    content = bytearray((tmp_path / "one.png").read_bytes())
    content[content.find(b"IDAT") + 14] ^= 1
    (tmp_path / "one.png").write_bytes(content)
    with pytest.raises(BadInput, match="checksum"):
        read_scan(tmp_path / "one.png")


def brats(folder):
    for case in ("B1", "B2"):
        for name in ("t1", "t1ce", "flair", "seg"):
            (folder / case).mkdir(parents=True, exist_ok=True)
            written(folder / case, f"{case}_{name}.nii.gz")
    return folder


def test_a_modality_must_be_chosen_where_there_are_several(tmp_path):
    with pytest.raises(UsageError, match=r"flair, t1, t1ce\); choose one with --modality"):
        find_scans(brats(tmp_path))
    scans = survey(tmp_path, modality="T1CE").scans
    assert [scan.id for scan in scans] == ["B1_t1ce", "B2_t1ce"]
    assert {mask.name for (mask,) in pair_masks(tmp_path, scans).masks.values()} == {"B1_seg.nii.gz", "B2_seg.nii.gz"}
    assert len(survey(tmp_path, modality="all").scans) == 6
    with pytest.raises(UsageError, match="the choices are flair, t1, t1ce"):
        survey(tmp_path, modality="t2")


def test_channels_of_nnunet_have_their_mask_under_the_name_of_the_case(tmp_path):
    for name in (
        "imagesTr/a_0000",
        "imagesTr/a_0001",
        "imagesTr/b_0000",
        "imagesTr/b_0001",
        "labelsTr/a",
        "labelsTr/b",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path, f"{name}.nii.gz")
    scans = survey(tmp_path / "imagesTr", modality="all").scans
    assert len(scans) == 4
    with pytest.raises(UsageError, match="0000, 0001"):
        find_scans(tmp_path / "imagesTr")
    scans = survey(tmp_path / "imagesTr", modality="0001").scans
    pairs = pair_masks(tmp_path / "labelsTr", scans).masks
    assert [mask.name for (mask,) in pairs.values()] == ["a.nii.gz", "b.nii.gz"]


def test_what_is_no_scan_is_counted(tmp_path):
    written(tmp_path, "n.nii")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    said = []
    find_scans(tmp_path, said.append)
    assert said == ["1 file is not a scan and is left out (1 .txt)"]


STRANGER = '''
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from medaug_cli.plugin import BadInput, Capabilities, Grid, StoredImage

@dataclass
class Numpy:
    """Volumes of NumPy."""
    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,), channels=(1,))
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    def read(self, files):
        try:
            return StoredImage(np.load(files[0]).astype(np.float32)[None], Grid((0.5, 0.5, 3.0)))
        except (ValueError, EOFError) as error:
            raise BadInput(f"{files[0]} is no array") from error
'''


@pytest.fixture
def strangers(tmp_path_factory, monkeypatch):
    """Return a function that installs a distribution with readers."""
    made = []

    def install(name, code, entries):
        folder = write_distribution(tmp_path_factory.mktemp("installed"), name, code, entries, "medaug.readers")
        monkeypatch.syspath_prepend(folder)
        made.append(name)
        importlib.invalidate_caches()
        reading.readers.cache_clear()
        reading.suffixes.cache_clear()

    yield install
    monkeypatch.undo()
    reading.readers.cache_clear()
    reading.suffixes.cache_clear()


def test_a_stranger_reads_a_format_of_its_own(tmp_path, strangers):
    np.save(tmp_path / "one.npy", values())
    with pytest.raises(BadInput, match="holds no scan"):
        find_scans(tmp_path)
    strangers("numpy-scans", STRANGER, {"numpy": "Numpy"})
    (scan,) = find_scans(tmp_path)
    assert (scan.id, scan.volume) == ("one", True)
    np.testing.assert_array_equal(read_pixels(scan).image[0], values())
    results = check_reader("numpy", example=tmp_path / "one.npy")
    assert all(one.ok for one in results), results
    assert {"example", "truncated", "nonsense"} <= {one.name for one in results}


def test_two_readers_of_one_suffix_must_be_chosen_between(tmp_path, strangers):
    written(tmp_path, "n.nii")
    strangers("other-nifti", STRANGER.replace(".npy", ".nii"), {"other": "Numpy"})
    with pytest.raises(UsageError, match="nifti and other; choose one with --reader"):
        find_scans(tmp_path)
    assert survey(tmp_path, reader="nifti").scans[0].reader == "nifti"


def test_a_reader_that_does_not_load_is_said_and_breaks_nothing(tmp_path, strangers):
    written(tmp_path, "n.nii")
    strangers("broken-reader", "import a_library_that_nobody_has", {"broken": "Reader"})
    said = []
    assert len(find_scans(tmp_path, said.append)) == 1
    assert any("'broken' of broken-reader does not load" in sentence for sentence in said)


def test_a_reader_that_believes_anything_breaks_the_contract():
    class Gullible:
        pass

    from medaug_plugins.readers import Nifti

    class Trusting(Nifti):
        def read(self, files):
            from medaug_cli.plugin import Grid, StoredImage

            return StoredImage(np.zeros((1, 2, 2, 2), np.float32), Grid((1.0, 1.0, 1.0)))

    failed = [one for one in check_reader(Trusting) if not one.ok]
    assert [one.name for one in failed] == ["nonsense"]
