"""MetaImage and NRRD whose names are in other scripts, hold `%`, or are links: their data are found all the same."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import read_pixels, read_stored
from medaug_cli.scans.survey import find_scans

VALUES = np.random.default_rng(0).integers(-300, 900, (3, 4, 5)).astype(np.int16)
NAMES = ("Schädel", "頭部", "череп", "50%", "a%d", "a%03d", "%s", "a b", "x'y", "naïve(1)", "ñ.ö")
HEADERS = {
    ".mhd": "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\nElementSpacing = 0.5 0.5 3\nDimSize = 5 4 3\n"
    "ElementType = MET_SHORT\nElementDataFile = {}.raw\n",
    ".nhdr": "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\n"
    "space directions: (0.5,0,0) (0,0.5,0) (0,0,3)\nspace origin: (1,2,3)\nkinds: domain domain domain\n"
    "endian: little\nencoding: raw\ndata file: {}.raw\n",
}


def written(folder, name, suffix, encoding="utf-8", data=None):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}{suffix}").write_bytes(HEADERS[suffix].format(data or name).encode(encoding))
    (folder / f"{name}.raw").write_bytes(VALUES.tobytes())
    return folder / f"{name}{suffix}"


@pytest.mark.parametrize("suffix", HEADERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_data_beside_a_header_may_have_any_name(tmp_path, name, suffix):
    path = written(tmp_path, name, suffix)
    (scan,) = find_scans(tmp_path)
    assert scan.path == path
    np.testing.assert_array_equal(read_pixels(scan).image[0], VALUES)
    grid = read_stored((path,)).grid
    assert (grid.spacing, grid.origin) == ((0.5, 0.5, 3.0), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("suffix", HEADERS)
def test_a_header_in_latin_1_is_understood(tmp_path, suffix):
    path = written(tmp_path, "Schädel", suffix, encoding="latin-1")
    np.testing.assert_array_equal(read_stored((path,)).image[0], VALUES)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("name", NAMES)
def test_so_may_a_file_that_holds_its_data(tmp_path, name, suffix):
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(tmp_path / f"plain{suffix}"))
    (tmp_path / f"plain{suffix}").rename(tmp_path / f"{name}{suffix}")
    (scan,) = find_scans(tmp_path)
    np.testing.assert_array_equal(read_pixels(scan).image[0], VALUES)


@pytest.mark.parametrize("suffix", HEADERS)
def test_header_and_data_may_be_links_as_those_of_git_annex(tmp_path, suffix):
    written(tmp_path / "store", "c1", suffix)
    (tmp_path / "scans").mkdir()
    for file in (tmp_path / "store").iterdir():
        (tmp_path / "store" / file.name).rename(tmp_path / "store" / f"key-{file.name}")
        (tmp_path / "scans" / file.name).symlink_to(tmp_path / "store" / f"key-{file.name}")
    np.testing.assert_array_equal(read_stored((tmp_path / "scans" / f"c1{suffix}",)).image[0], VALUES)


@pytest.mark.parametrize("suffix", HEADERS)
@pytest.mark.parametrize("data", ["../c1", "/etc/c1", "other", "sub/c1"])
def test_data_elsewhere_are_refused_by_their_true_name(tmp_path, suffix, data):
    path = written(tmp_path / "Schädel", "c1", suffix, data=data)
    (tmp_path / "c1.raw").write_bytes(VALUES.tobytes())
    with pytest.raises(BadInput, match=rf"Schädel/c1\{suffix} has its voxels in '{data}\.raw'"):
        read_stored((path,))


def test_compressed_data_of_a_header_are_read_to_their_checksum(tmp_path):
    path = written(tmp_path, "c1", ".nhdr")
    path.write_text(path.read_text(encoding="utf-8").replace("raw\ndata", "gzip\ndata"), encoding="utf-8")
    packed = gzip.compress(VALUES.tobytes())
    (tmp_path / "c1.raw").write_bytes(packed)
    np.testing.assert_array_equal(read_stored((path,)).image[0], VALUES)
    (tmp_path / "c1.raw").write_bytes(packed[:-8] + b"\0" + packed[-7:])
    with pytest.raises(BadInput, match=r"c1\.nhdr"):
        read_stored((path,))
