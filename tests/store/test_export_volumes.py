"""Volumes are written where their scans lie: a lesion is at the same millimetres in image, mask and box."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from support.tiny_scans import PLAIN, made

from medaug_cli.blending import ellipsoid
from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput
from medaug_cli.export import export_store
from medaug_cli.pasting import Hosts, Region
from medaug_cli.store import GeneratorOrigin, Record, StoreInfo, StoreWriter, open_store

TURNED = (0, 0, 1, 1, 0, 0, 0, 1, 0)
OBLIQUE = tuple(np.array([[0.936, -0.342, 0.08], [0.35, 0.91, -0.22], [0, 0.24, 0.97]]).ravel())
ALL = "1,0,0"
WHOLE = replace(PLAIN, volume=(24, 24, 24), window=(0.0, 1000.0))
REGIONS = replace(PLAIN, region_mm=20.0, normal_regions=1.0)
LESION = (5, 14, 20), (8, 20, 26)  # low and high corner, z first


def orthonormal(direction):
    return tuple(np.linalg.qr(np.array(direction, float).reshape(3, 3))[0].ravel())


def scan(folder, name, direction, *lesions, spacing=(0.8, 0.8, 2.5), shape=(16, 34, 36)):
    """Write a grey volume in air with light lesions, and their mask; z first."""
    values, labels = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
    values[1:-1, 2:-2, 2:-2] = 300
    for low, high in lesions:
        place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        values[place], labels[place] = 1000, 1
    for kind, array in (("scans", values), ("masks", labels)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin((-31.0, 12.5, 7.0))
        image.SetDirection(direction)
        (folder / kind).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / kind / f"{name}.nii.gz"))


def centre(path, least):
    """Return the middle, in millimetres, of what of a volume is `least` or more."""
    image = sitk.ReadImage(str(path))
    where = np.argwhere(sitk.GetArrayFromImage(image) >= least).mean(0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(where.tolist()))


def box_centre(path, box):
    image = sitk.ReadImage(str(path))
    middle = (np.array(box[:3]) + np.array(box[3:])) / 2 - 0.5
    return np.array(image.TransformContinuousIndexToPhysicalPoint(middle.tolist()))


def exported(store, folder, form="nifti", split=None):
    export_store(store, form, folder, split)
    return folder


@pytest.mark.parametrize(
    ("direction", "recipe"),
    [
        (orthonormal(OBLIQUE), WHOLE),
        (TURNED, REGIONS),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), replace(WHOLE, volume_mm=1.5)),
        (TURNED, replace(WHOLE, fit="stretch")),
        (orthonormal(OBLIQUE), REGIONS),
    ],
)
def test_a_lesion_lies_where_the_scanner_had_it(tmp_path, direction, recipe):
    scan(tmp_path, "a", direction, LESION)
    store = made(tmp_path, recipe, masks=tmp_path / "masks", split=ALL)
    truth = centre(tmp_path / "masks/a.nii.gz", 1)
    folder = exported(store, tmp_path / "nifti")
    image = read_boxes(folder / "boxes.json").images[0]
    voxel = max(image.spacing)
    assert np.abs(centre(folder / "masks" / f"{image.id}.nii.gz", 1) - truth).max() < 0.6 * voxel
    assert np.abs(centre(folder / image.file, 200) - truth).max() < 0.6 * voxel
    assert np.abs(box_centre(folder / image.file, image.boxes[0].box) - truth).max() < (
        0.6 if direction == TURNED else 0.05
    )


def pasted_store(path, volumes):
    """Return a synthetic store of one image a volume, with a lesion put in."""
    box = np.array([4, 4, 4, 10, 10, 10], np.float32)
    shape = ellipsoid(box, (14, 14, 14))
    drawn = np.where(shape, 0.9, 0.3).astype(np.float32)[None]
    hosts, records = Hosts(volumes, "soft"), []
    for number in range(len(volumes)):
        region = Region(drawn, box, "lesion", shape.astype(np.uint8), (1.0, 1.0, 1.0))
        made_of = hosts.with_lesions([region], 0, number)
        records.append(replace(made_of, id=f"s{number}", patient="synthetic", source="gan", seed=number))
    origin = GeneratorOrigin(name="gan", version="1", hash="", training_store="", training_patients=[])
    info = StoreInfo(
        tool_version="1", command="synthesize", settings={}, seed=0, label_names=["lesion"], generators=[origin]
    )
    writer = StoreWriter(path, info, {})
    writer.add(0, records)
    return writer.publish()


def test_a_pasted_lesion_lies_at_the_same_millimetres_in_image_mask_and_box(tmp_path):
    direction = orthonormal(OBLIQUE)
    scan(tmp_path, "a", direction)
    scan(tmp_path, "b", direction, LESION)
    volumes = made(tmp_path, WHOLE, masks=tmp_path / "masks", split=ALL)
    folder = exported(pasted_store(tmp_path / "new.h5", volumes), tmp_path / "nifti")
    before = exported(volumes, tmp_path / "before")
    for image, details in zip(
        read_boxes(folder / "boxes.json").images, open_store(tmp_path / "new.h5").details, strict=True
    ):
        host = before / "images" / f"{details['host']}.nii.gz"
        new, old = (sitk.ReadImage(str(path)) for path in (folder / image.file, host))
        assert new.GetSpacing() == pytest.approx(old.GetSpacing())
        assert new.GetOrigin() == pytest.approx(old.GetOrigin())
        assert new.GetDirection() == pytest.approx(old.GetDirection())
        change = np.abs(sitk.GetArrayFromImage(new).astype(float) - sitk.GetArrayFromImage(old))
        where = (np.argwhere(change > 60).mean(0)[::-1]).tolist()
        in_image = np.array(new.TransformContinuousIndexToPhysicalPoint(where))
        in_box = box_centre(folder / image.file, image.boxes[-1].box)
        masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(path / "masks" / name))) for path, name in
                 ((folder, f"{image.id}.nii.gz"), (before, host.name))]  # fmt: skip
        where = np.argwhere((masks[0] > 0) & (masks[1] == 0)).mean(0)[::-1].tolist()
        in_mask = np.array(new.TransformContinuousIndexToPhysicalPoint(where))
        assert np.abs(in_mask - in_box).max() < 0.6 * max(image.spacing)
        assert np.abs(in_image - in_box).max() < 0.6 * max(image.spacing)


@pytest.mark.parametrize("form", ["nifti", "nnunet", "monai"])
def test_what_is_written_is_read_back(tmp_path, form):
    for name in "abc":
        scan(tmp_path, name, TURNED, LESION)
    (tmp_path / "split.csv").write_text("patient,split\na,train\nb,val\nc,test\n", encoding="utf-8")
    store = made(tmp_path, replace(WHOLE, label="met"), masks=tmp_path / "masks", split=str(tmp_path / "split.csv"))
    folder = exported(store, tmp_path / "written", form)
    images = {"nifti": "images", "nnunet": "imagesTr", "monai": "imagesTr"}[form]
    masks = {"nifti": "masks", "nnunet": "labelsTr", "monai": "labelsTr"}[form]
    (tmp_path / "again").mkdir()
    (folder / images).rename(tmp_path / "again/scans")
    again = made(tmp_path / "again", replace(WHOLE, fit="stretch"), masks=folder / masks, split=ALL)
    ids = [name.removesuffix("_0000") for name in again.ids]
    assert ids == (["a", "b", "c"] if form == "nifti" else ["a", "b"])
    assert again.spec.label_names == (("lesion",) if form == "nifti" else ("met",))
    for i, name in enumerate(ids):
        k = store.ids.index(name)
        assert (again.masks[i] == store.masks[k]).all()
        assert again.spacing_of(i) == pytest.approx(store.spacing_of(k))
        assert np.abs(again.boxes[i] - store.boxes[k]).max() <= 1  # those of the mask
    if form == "nnunet":
        told = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        assert told["labels"] == {"background": 0, "met": 1}
        assert told["numTraining"] == 2
        assert json.loads((folder / "splits_final.json").read_text(encoding="utf-8")) == [
            {"train": ["a"], "val": ["b"]}
        ]
        assert sorted(path.name for path in (folder / "imagesTs").iterdir()) == ["c_0000.nii.gz"]


@pytest.mark.parametrize("listed", ["dataset.json", "detection.json", "boxes.json"])
def test_lists_are_read_back(tmp_path, listed):
    for name in "ab":
        scan(tmp_path, name, OBLIQUE_UNIT, LESION)
    store = made(tmp_path, WHOLE, masks=tmp_path / "masks", split=ALL)
    form, images = ("nifti", "images") if listed == "boxes.json" else ("monai", "imagesTr")
    folder = exported(store, tmp_path / "written", form)
    (tmp_path / "again").mkdir()
    (tmp_path / "again/scans").symlink_to(folder / images)
    again = made(tmp_path / "again", replace(WHOLE, fit="stretch"), boxes=folder / listed, split=ALL)
    assert list(again.ids) == ["a", "b"]
    for i in range(2):
        assert np.abs(again.boxes[i] - store.boxes[i]).max() <= (1 if listed == "dataset.json" else 1e-3)


OBLIQUE_UNIT = orthonormal(OBLIQUE)


def test_a_drawn_cube_has_the_spacing_of_its_sources(tmp_path):
    origin = GeneratorOrigin(name="gan", version="1", hash="", training_store="", training_patients=[])
    info = StoreInfo(
        tool_version="1", command="synthesize", settings={}, seed=0, label_names=["met"], generators=[origin]
    )
    image, box = np.zeros((2, 8, 9, 10), np.uint8), np.array([[1, 2, 3, 4, 5, 6]])
    record = Record("s0", image, box, ["met"], "s", "train", "gan", 1, spacing=(3.0, 2.0, 1.5))
    writer = StoreWriter(tmp_path / "s.h5", info, {})
    writer.add(0, [record])
    store = writer.publish()
    folder = exported(store, tmp_path / "nifti")
    image = sitk.ReadImage(str(folder / "images/s0.nii.gz"))
    assert image.GetSpacing() == (1.5, 2, 3)
    assert image.GetNumberOfComponentsPerPixel() == 2
    with pytest.raises(BadInput, match=r"s.h5 holds no masks, which nnU-Net learns from"):
        export_store(store, "nnunet", tmp_path / "nnunet")
    assert not (tmp_path / "nnunet").exists()
    exported(store, tmp_path / "monai", "monai")
    assert {path.name for path in (tmp_path / "monai").glob("[!.]*")} == {"detection.json", "imagesTr"}
