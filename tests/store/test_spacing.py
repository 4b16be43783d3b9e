"""Millimetres between pixels go from scans to stores, to synthetic images and to NIfTI, and NIfTI comes back."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import make_records, make_store
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.export import export_store
from medaug_cli.metrics.breakdown import lesion_sizes
from medaug_cli.metrics.coco_files import as_truth
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.store import Record, open_store
from medaug_cli.tasks.detection import annotated


def medaug(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def written(path, array, spacing):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def volumes(folder, spacing, count=2):
    """Write volumes (z, y, x) of 12 x 40 x 40 voxels with a lesion each, and its mask."""
    for i in range(count):
        values = np.full((12, 40, 40), 300, np.int16) + np.indices((12, 40, 40)).sum(0).astype(np.int16)
        lesion = np.zeros(values.shape, np.uint8)
        lesion[5:8, 14 + i : 20 + i, 12:20] = 1
        written(folder / f"scans/p{i}/t1.nii.gz", values + 600 * lesion.astype(np.int16), spacing)
        written(folder / f"masks/p{i}/t1.nii.gz", lesion, spacing)


@pytest.fixture
def common(tmp_path, monkeypatch, tiny_plugins):
    monkeypatch.chdir(tmp_path)
    return ("preprocess", "scans", "--masks", "masks", "--strip", "none", "--denoise", "none", "--split", "1,0,0")


def test_sizes_of_lesions_are_in_the_millimetres_that_a_store_knows(tmp_path):
    """Of rows of 2 mm and columns of 0.5 mm a pixel is a square millimetre, in the store and in COCO alike."""
    records = [replace(record, spacing=(2.0, 0.5)) for record in make_records(24)]
    store = make_store(tmp_path / "real.h5", records)
    data = annotated(store, np.arange(len(store)))
    sizes, unit = lesion_sizes(data)
    assert unit == "mm"
    assert np.allclose(sizes, lesion_sizes(replace(data, spacing=None))[0])  # 2 by 0.5 mm is a square millimetre
    assert as_truth(data, store.spec.spatial)["images"][0]["spacing"] == [0.5, 2.0]  # x first
    export_store(store, "coco", tmp_path / "coco")
    images = json.loads((tmp_path / "coco/annotations.json").read_text(encoding="utf-8"))["images"]
    assert {tuple(image["spacing"]) for image in images} == {(0.5, 2.0)}
    some = make_store(tmp_path / "some.h5", [*records[1:], replace(records[0], spacing=None)])
    assert lesion_sizes(annotated(some, np.arange(len(some))))[1] == "pixels"


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 2.5), (0.5, 0.5, 0.5)])
def test_synthetic_cubes_are_as_wide_as_those_they_were_drawn_like(tmp_path, common, spacing):
    volumes(tmp_path, spacing)
    medaug(*common, "--region-mm", 32, "--regions", 16)
    assert np.allclose(open_store(Path("real.h5")).spacing, 2)
    medaug("train-gan", "real.h5", "--generator", "tiny", "--kimg", 0.01, "--device", "cpu")
    medaug("synthesize", "--n", 3, "--device", "cpu")
    made = open_store(Path("synthetic.h5"))
    assert np.allclose(made.spacing, 2)
    medaug("store", "export", "synthetic.h5", "--format", "nifti", "--out", "out")
    for path in (tmp_path / "out/images").iterdir():
        assert sitk.ReadImage(str(path)).GetSpacing() == (2, 2, 2)


@pytest.mark.parametrize(("options", "mm"), [((), 2.0), (("--spacing", "3,3,5"), 6.0)])
def test_slices_keep_the_millimetres_of_their_frame(tmp_path, common, options, mm):
    volumes(tmp_path, (1.0, 1.0, 2.5))
    medaug(*common, "--size", 16, "--slices", "lesions", *options)
    store = open_store(Path("real.h5"))
    width = store.details[0]["placement"]
    shown = np.subtract(width["high"], width["low"]) / 16 * (mm / 2)
    assert np.allclose(store.spacing, shown)


def test_a_generator_of_another_size_draws_pixels_of_another_width(tmp_path, common):
    volumes(tmp_path, (1.0, 1.0, 1.0))
    medaug(*common, "--region-mm", 32, "--regions", 16)
    medaug("train-gan", "real.h5", "--generator", "tiny", "--kimg", 0.01, "--device", "cpu")
    medaug(*common, "--region-mm", 32, "--regions", 32, "--out", "fine/real.h5")
    medaug("synthesize", "--n", 3, "--boxes", "fine/boxes.json", "--device", "cpu")
    assert np.allclose(open_store(Path("fine/real.h5")).spacing, 1)
    assert np.allclose(open_store(Path("synthetic.h5")).spacing, 2)


def test_what_is_unknown_stays_unknown(tmp_path, common):
    make_store(tmp_path / "real.h5")
    medaug("train-gan", "real.h5", "--generator", "tiny", "--kimg", 0.01, "--device", "cpu")
    medaug("synthesize", "--n", 3, "--device", "cpu")
    assert open_store(Path("synthetic.h5")).columns.spacing is None


def test_cubes_of_stores_without_spacing_say_it_in_their_details(tmp_path):
    cubes = (
        Record(f"c{i}", np.zeros((1, 8, 8, 8), np.uint8), np.array([[1, 1, 1, 4, 4, 4]], np.float32), ["lesion"],
               f"p{i}", "train", details={"spacing": [2.0, 2.0, 2.0]})
        for i in range(2)
    )  # fmt: skip
    store = make_store(tmp_path / "real.h5", cubes)
    assert store.columns.spacing is None
    assert store.spacing_of(0) == [2, 2, 2]


KINDS = [{}, {"channels": 3}, {"masks": True}, {"labels": ("cyst", "tumour")}]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_exported_as_nifti_come_back(tmp_path, kind):
    store = make_store(tmp_path / "real.h5", **kind)
    export_store(store, "nifti", tmp_path / "out")
    options = PreprocessOptions(
        tmp_path / "out/images", tmp_path / "again/real.h5", boxes=tmp_path / "out/boxes.json",
        recipe=Recipe(16, "none"), split="0.4,0.3,0.3",
    )  # fmt: skip
    back = preprocess(options)
    assert sorted(back.ids) == sorted(store.ids)
    for i, name in enumerate(back.ids):
        before = store.ids.index(name)
        assert np.array_equal(back.boxes[i], store.boxes[before])
        assert [back.spec.label_names[k] for k in back.labels[i]] == [
            store.spec.label_names[k] for k in store.labels[before]
        ]
        assert back.images.shape[1:] == store.images.shape[1:]
        one, other = back.images[i].astype(float).ravel(), store.images[before].astype(float).ravel()
        assert np.corrcoef(one, other)[0, 1] > 0.95  # brightness is scaled anew


def test_masks_of_pictures_exported_as_nifti_come_back(tmp_path):
    store = make_store(tmp_path / "real.h5", masks=True)
    export_store(store, "nifti", tmp_path / "out")
    back = preprocess(PreprocessOptions(
        tmp_path / "out/images", tmp_path / "again/real.h5", masks=tmp_path / "out/masks", recipe=Recipe(16, "none"),
    ))  # fmt: skip
    for i, name in enumerate(back.ids):
        assert np.array_equal(back.boxes[i], store.boxes[store.ids.index(name)])


def test_cubes_exported_as_nifti_come_back(tmp_path, common):
    volumes(tmp_path, (1.0, 1.0, 2.5))
    medaug(*common, "--region-mm", 32, "--regions", 16)
    medaug("store", "export", "real.h5", "--format", "nifti", "--out", "out")
    medaug("preprocess", "out/images", "--boxes", "out/boxes.json", "--strip", "none", "--denoise", "none",
           "--split", "1,0,0", "--region-mm", 32, "--regions", 16, "--out", "again/real.h5")  # fmt: skip
    first, back = open_store(Path("real.h5")), open_store(Path("again/real.h5"))
    assert np.allclose(back.spacing, 2)
    sides = [sorted(np.round(b[0][3:] - b[0][:3], 2).tolist() for b in store.boxes) for store in (first, back)]
    assert sides[0] == sides[1]


def test_all_files_have_the_permissions_that_a_person_s_files_have(tmp_path, monkeypatch, tiny_plugins):
    make_store(tmp_path / "real.h5")
    monkeypatch.chdir(tmp_path)
    old = os.umask(0o027)
    try:
        medaug("train-gan", "real.h5", "--generator", "tiny", "--kimg", 0.01, "--device", "cpu")
        medaug("train-detector", "real.h5", "--detector", "tiny", "--steps", 2, "--device", "cpu")
        medaug("synthesize", "--n", 3, "--device", "cpu")
        medaug("store", "export", "synthetic.h5", "--format", "nifti", "--out", "out")
    finally:
        os.umask(old)
    made = [p for folder in ("gan", "detector", "out") for p in (tmp_path / folder).rglob("*")]
    made.append(tmp_path / "synthetic.h5")
    assert any(p.suffix == ".safetensors" for p in made)
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path
