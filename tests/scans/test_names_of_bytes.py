"""Files whose names are no text are read, where ITK would end the process, and a volume is written whole or not."""

import os
import resource
import signal

import numpy as np
import pytest
import SimpleITK as sitk
from dicoms import as_image, head, write_series
from PIL import Image

from medaug_cli.errors import MedaugError
from medaug_cli.scans.reading import read_pixels
from medaug_cli.scans.survey import find_scans
from medaug_cli.scans.writing import write_volume

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture
def odd(tmp_path):
    """Return a folder whose name is no text."""
    try:
        (tmp_path / ODD).mkdir()
    except OSError:
        pytest.skip("this file system takes names of text alone")
    return tmp_path / ODD


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".nii.gz", ".tif", ".png", ".bmp"])
def test_a_scan_whose_name_is_no_text_is_read(ending, odd, tmp_path):
    values = np.random.default_rng(0).integers(0, 200, (3, 8, 9) if ending[1] in "mn" else (8, 9)).astype(np.uint8)
    if values.ndim == 3:
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"plain{ending}"))
    else:
        Image.fromarray(values).save(tmp_path / f"plain{ending}")
    for file in [path for path in tmp_path.iterdir() if path.is_file()]:
        file.rename(
            odd / file.name if file.suffix in (".raw", ".gz") and ending != ".nii.gz" else odd / f"{ODD}{ending}"
        )
    (scan,) = find_scans(odd)
    assert np.array_equal(read_pixels(scan).image.reshape(values.shape), values)


def test_a_series_whose_folder_is_no_text_is_read(odd, tmp_path):
    write_series(tmp_path / "plain", as_image(head()[0]))
    (tmp_path / "plain").rename(odd / "series")
    (scan,) = find_scans(odd)
    assert read_pixels(scan).image.max() > 0


def volume(side=40):
    return sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (side,) * 3).astype(np.uint8))


def test_a_volume_is_written_where_the_name_is_no_text(odd):
    write_volume(volume(8), odd / "a.nii.gz")
    assert [path.name for path in odd.iterdir()] == ["a.nii.gz"]
    (scan,) = find_scans(odd)
    assert read_pixels(scan).image.shape[1:] == (8, 8, 8)


def test_a_volume_for_which_there_is_no_room_is_an_error(tmp_path):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
    try:
        with pytest.raises(MedaugError, match=r"a\.nii\.gz cannot be written"):
            write_volume(volume(), tmp_path / "a.nii.gz")
        write_volume(volume(8), tmp_path / "small.nii.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["small.nii.gz"]
    with pytest.raises(MedaugError, match="cannot be written"):
        write_volume(volume(8), tmp_path / "a.no-volume")
