"""Voxels and pixels that are NaN or infinite: refused with a way out, or read as the number that is given."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from nifti_bytes import write_nifti
from picture_bytes import tiff_bytes
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import Reading, read_stored
from medaug_cli.store import open_store

FORMS = ("c1.nii", "c1.nii.gz", "c1.nrrd", "c1.nhdr", "c1.mha", "c1.mhd", "c1.tif")


def written(path, odd=np.nan, version=1):
    """Write a head of float32 in a field of what is no number, with a lesion; return the file and the lesion's mask."""
    z, y, x = np.indices((4, 40, 40))
    head = (y - 20) ** 2 + (x - 20) ** 2 < 200
    lesion = (abs(y - 20) < 4) & (abs(x - 20) < 5) & (abs(z - 1.5) < 1)
    values = np.where(head, 100 + 300 * lesion + x % 3, odd).astype(np.float32)
    if ".nii" in path.name:
        write_nifti(path, values, packed=path.suffix == ".gz", version=version)
    elif path.suffix == ".tif":
        path.write_bytes(tiff_bytes(values[1], 32, 3))
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path, lesion.astype(np.uint8)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_every_format_refuses_them_and_offers_a_way(tmp_path, name, odd):
    path, _ = written(tmp_path / name, odd)
    with pytest.raises(BadInput, match=rf"{name} holds \d+ values that are NaN or infinite; .* --nan 0"):
        read_stored((path,))


@pytest.mark.parametrize("name", FORMS)
def test_every_format_reads_them_as_the_number_that_is_given_and_says_how_many(tmp_path, name):
    path, _ = written(tmp_path / name)
    found = read_stored((path,), reading=Reading(nan=-5))
    odd = int((found.image == -5).sum())
    assert np.isfinite(found.image).all()
    assert found.image.max() >= 400
    assert found.notes == (f"{odd} values that are NaN or infinite are read as -5",)
    assert odd > found.image.size / 3


def test_a_mask_marks_nothing_there(tmp_path):
    values = np.full((3, 4, 5), np.nan, np.float32)
    values[1, 2, 3] = 1
    path = write_nifti(tmp_path / "m.nii", values)
    assert read_stored((path,), labels=True, reading=Reading(nan=-1000)).image.sum() == 1
    with pytest.raises(BadInput, match=r"m\.nii holds 59 values"):
        read_stored((path,), labels=True)


@pytest.mark.parametrize("version", [1, 2])
def test_a_masked_map_becomes_a_store_and_the_page_says_so(tmp_path, version):
    (tmp_path / "scans").mkdir()
    (tmp_path / "masks").mkdir()
    _, lesion = written(tmp_path / "scans/c1.nii", version=version)
    write_nifti(tmp_path / "masks/c1.nii", lesion)
    arguments = [
        "preprocess", tmp_path / "scans", "--masks", tmp_path / "masks", "--strip", "none", "--size", "32",
        "--denoise", "none", "--split", "1,0,0", "--workers", "1", "--out", tmp_path / "out/real.h5",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert isinstance(result.exception, BadInput)
    assert "--nan 0" in str(result.exception)
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]
    result = CliRunner().invoke(app, [str(one) for one in (*arguments, "--nan", "0")])
    assert result.exit_code == 0, result.output
    assert "values that are NaN or infinite are read as 0" in result.output
    store = open_store(tmp_path / "out/real.h5")
    assert sum(len(store.boxes[i]) for i in range(len(store))) == 2
    report = json.loads((tmp_path / "out/preprocess.json").read_text(encoding="utf-8"))
    assert "NaN" in json.dumps(report)
    assert report["settings"]["nan"] == 0


def test_the_limit_of_a_picture_is_raised_by_the_option(tmp_path):
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(40, dtype=np.uint8) * 200), str(tmp_path / "scans/a.png"))
    (tmp_path / "b.csv").write_text("image,x_min,y_min,x_max,y_max\na.png,5,5,20,20\n", encoding="utf-8")
    arguments = [
        "preprocess", tmp_path / "scans", "--boxes", tmp_path / "b.csv", "--strip", "none", "--size", "32",
        "--split", "1,0,0", "--workers", "1", "--out", tmp_path / "out/real.h5", "--max-pixels",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*map(str, arguments), "1599"])
    assert isinstance(result.exception, BadInput)
    assert "40x40 = 1600 pixels" in str(result.exception)
    assert CliRunner().invoke(app, [*map(str, arguments), "1600"]).exit_code == 0
