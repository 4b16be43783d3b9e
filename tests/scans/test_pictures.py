"""Pictures as people have them: TIFF of any depth, PNG of 16 bits with alpha, and pictures that are very large."""

import itertools
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
from picture_bytes import grey_alpha_png, tiff_bytes
from PIL import Image

from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import picture_size, read_stored
from medaug_plugins.readers import Pictures

RNG = np.random.default_rng(0)
DEPTHS = {1: (1, 2, 4, 8, 10, 12, 16, 32, 64), 2: (8, 16, 32, 64), 3: (16, 32, 64)}  # sample format -> bits
KINDS = [(form, bits) for form, some in DEPTHS.items() for bits in some]


def drawn(form, bits):
    """Return a picture (7, 13) of values that fill the range of a kind of pixel, and float32 holds exactly."""
    if form == 3:
        return np.round(RNG.normal(size=(7, 13)) * 100).astype(f"f{bits // 8}")
    steps = RNG.integers(0, 1 << min(bits, 20), (7, 13))
    steps.flat[:2] = 0, (1 << min(bits, 20)) - 1
    values = steps.astype(object) << max(0, bits - 20)
    return (values - (1 << (bits - 1)) if form == 2 else values).astype("u8" if form == 1 else "i8")


def read(path, content):
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_stored((path,)).image
    assert found.dtype == np.float32
    return found[0]


@pytest.mark.parametrize(("form", "bits"), KINDS)
def test_grey_tiff_of_any_depth_in_either_order_of_bytes(tmp_path, form, bits):
    values = drawn(form, bits)
    for order, packed in itertools.product("<>", (False, True)):
        content = tiff_bytes(values, bits, form, order=order, packed=packed)
        np.testing.assert_array_equal(read(tmp_path / "a.tif", content), values.astype(np.float32))


@pytest.mark.parametrize(("form", "bits"), KINDS)
def test_white_may_be_zero_in_any_of_them(tmp_path, form, bits):
    values = drawn(form, bits)
    found = read(tmp_path / "a.tif", tiff_bytes(values, bits, form, white=0))
    order = np.argsort(values.ravel().astype(np.float64), kind="stable")
    assert (np.diff(found.ravel()[order]) <= 0).all()
    assert found.min() >= 0 or form == 2


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("order", "<>")
def test_differences_are_summed_up(tmp_path, bits, order):
    values = drawn(1, bits)
    content = tiff_bytes(values.astype(f"u{bits // 8}"), bits, order=order, packed=True, predictor=2)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", content), values.astype(np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32])
@pytest.mark.parametrize("packing", ["LZW", "PackBits", "Deflate"])
def test_tiff_as_others_pack_it(tmp_path, kind, packing):
    most = 1 if kind is np.float32 else np.iinfo(kind).max
    values = (np.linspace(0, 1, 91).reshape(7, 13) * most).astype(kind)
    path = tmp_path / "a.tif"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path), useCompression=True, compressor=packing)
    np.testing.assert_array_equal(read(path, path.read_bytes()), values.astype(np.float32))


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_tiff_without_its_last_row_is_refused(tmp_path, bits):
    height = b"\x01\x01\x04\0\x01\0\0\0"
    content = tiff_bytes(drawn(1, bits)[:6], bits).replace(height + b"\6", height + b"\7")
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.tif .* bytes of pixels, expected"):
        read_stored((tmp_path / "a.tif",))


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("alpha", [0, 1, 65535])
def test_grey_of_16_bits_with_alpha_keeps_all_of_them(tmp_path, step, alpha):
    values = RNG.integers(0, 1 << 16, (7, 13)).astype(np.uint16)
    found = read(tmp_path / "a.png", grey_alpha_png(values, alpha, step))
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_colours_of_16_bits_with_alpha_keep_all_of_them(tmp_path):
    values = RNG.integers(0, 1 << 16, (7, 13, 4)).astype(np.uint16)
    for name in ("a.png", "50%d.png", "Schädel.png"):
        sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / "a.png"))
        (tmp_path / "a.png").rename(tmp_path / name)
        np.testing.assert_array_equal(read_stored((tmp_path / name,)).image, np.moveaxis(values[..., :3], -1, 0))


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
def test_a_picture_above_the_limit_is_refused_with_both_numbers_and_the_option(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)
    with pytest.raises(BadInput, match=rf"a\.{suffix} is too large: it has 40x30 = 1200 pixels, 1199 .* --max-pixels"):
        Pictures(max_pixels=1199).read((path,))
    assert Pictures(max_pixels=1200).read((path,)).image.shape == (1, 30, 40)


def test_no_limit_of_a_library_is_met_before_ours(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read(path, path.read_bytes()).shape == (30, 40)
    assert picture_size(path) == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("turned", [0, 1, 3, 6])
def test_a_picture_that_is_to_be_turned_is_refused_and_one_that_does_not_say_is_read(tmp_path, suffix, turned):
    picture, exif, path = Image.new("L", (8, 6), 40), Image.Exif(), tmp_path / f"a.{suffix}"
    exif[274] = turned
    picture.save(path, **({"exif": exif} if suffix == "jpg" else {"tiffinfo": {274: turned}}))
    if turned in (0, 1):
        assert read_stored((path,)).image.shape == (1, 6, 8)
    else:
        with pytest.raises(BadInput, match=f"stored rotated .EXIF orientation {turned}"):
            read_stored((path,))
