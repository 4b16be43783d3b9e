"""Pictures of a store, and of what a detector's training makes of its images."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import image_seed
from medaug_cli.preview import preview
from medaug_cli.store import Record, StoreInfo, StoreWriter, open_store
from medaug_plugins.yolov3 import YOLOv3

PLAIN = {"flip": False, "shift": 0.0, "zoom": 0.0, "contrast": 0.0, "brightness": 0.0}


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def cells(picture, columns, cell=192):
    """Return the rows of cells of a grid without their frames."""
    rows = (len(picture) - 2) // (cell + 2)
    return [[picture[2 + r * (cell + 2) :, 2 + c * (cell + 2) :][:cell, :cell] for c in range(columns)]
            for r in range(rows)]  # fmt: skip


def test_every_row_is_an_image_and_what_training_makes_of_it(real, tmp_path):
    store = open_store(real)
    out = tmp_path / "preview.png"
    assert preview(store, out, "yolov3", {"rotate": "20"}, images=3, variants=2) == 3
    shown = cells(pixels(out), 3)
    assert len(shown) == 3
    for first, *others in shown:
        assert all((first != other).any() for other in others)
    assert preview(store, tmp_path / "again.png", "yolov3", {"rotate": "20"}, images=3, variants=2) == 3
    assert (pixels(out) == pixels(tmp_path / "again.png")).all()
    preview(store, tmp_path / "plain.png", "yolov3", PLAIN, images=2, variants=2)
    for first, *others in cells(pixels(tmp_path / "plain.png"), 3):
        assert all(abs(first.astype(int) - other).max() <= 2 for other in others)
    with pytest.raises(UsageError, match="overwrite"):
        preview(store, out)


def test_the_command_draws_what_it_is_told(real, tmp_path):
    out = tmp_path / "two.png"
    arguments = ["store", "preview", str(real), "--out", str(out), "--split", "test", "--images", "2", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(done.stdout) == {"out": str(out), "images": 2}
    assert pixels(out).shape == (196, 390, 3)


def test_the_boxes_follow_the_lesions(real):
    store = open_store(real)
    train = store.indices("train")
    images, boxes, labels = store.read(train), [store.boxes[i] for i in train], [store.labels[i] for i in train]
    detector = YOLOv3(mosaic=0.3, contrast=0.0, brightness=0.0)
    moved, found, _ = detector.augmented(images, boxes, labels, image_seed(0, 1))
    assert sum(map(len, found)) > len(train) > 0
    for image, own in zip(moved[:, 0], found, strict=True):
        lit = np.zeros(image.shape, bool)
        for x_min, y_min, x_max, y_max in own:
            lit[int(y_min) : int(np.ceil(y_max)), int(x_min) : int(np.ceil(x_max))] = True
            inner = image[int(np.ceil(y_min)) : int(y_max), int(np.ceil(x_min)) : int(x_max)]
            assert not inner.size or inner.max() > 0.4
        assert (image > 0.45).sum() == 0 or (lit & (image > 0.45)).sum() >= 0.7 * (image > 0.45).sum()


def test_cubes_have_three_planes_and_flat_detectors_refuse_them(tmp_path):
    records = [
        Record(f"c{i}", np.full((1, 16, 16, 16), 90, np.uint8), np.array([[4, 4, 4, 12, 12, 12]], np.float32),
               ["lesion"], f"p{i}", "train") for i in range(2)
    ]  # fmt: skip
    records[0].image[0, 8, 8, 2:6] = 250
    store = make_store_3d(tmp_path / "cubes.h5", records)
    assert preview(store, tmp_path / "cubes.png") == 2
    shown = cells(pixels(tmp_path / "cubes.png"), 3)
    assert len(shown) == 2
    bright = [(cell[..., 2] > 200).any() for cell in shown[0]]
    assert bright == [True, True, False]
    with pytest.raises(BadInput, match="holds 3D images; yolov3 takes 2D"):
        preview(store, tmp_path / "no.png", "yolov3")


def make_store_3d(path, records):
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"])
    writer = StoreWriter(path, info, {"test": 1})
    for i, record in enumerate(records):
        writer.add(i, [record])
    return writer.publish()


def test_what_cannot_be_shown_is_said(tmp_path, real, tiny_plugins):
    store = open_store(real)
    with pytest.raises(UsageError, match="give --augment as well"):
        preview(store, tmp_path / "x.png", settings={"flip": "true"})
    with pytest.raises(UsageError, match="--augment tiny"):
        preview(store, tmp_path / "x.png", "tiny")
    with pytest.raises(UsageError, match="--split nothing: the choices are train, val, test"):
        preview(store, tmp_path / "x.png", split="nothing")
    assert not (tmp_path / "x.png").exists()


def test_lesions_of_two_stores_in_rows(tmp_path):
    from conftest import make_store
    from PIL import Image

    from medaug_cli.preview import lesion_crop, lesion_rows

    first, second = (make_store(tmp_path / f"{name}.h5", seed=number) for number, name in enumerate("ab"))
    assert lesion_rows([first, second], tmp_path / "rows.png", 32, count=5) == 5
    with Image.open(tmp_path / "rows.png") as picture:
        assert picture.size == (5 * 98 + 2, 2 * 98 + 2)
    image = np.zeros((1, 40, 40), np.uint8)
    image[0, 10:20, 12:20] = 200
    crop = lesion_crop(image, np.array([12, 10, 20, 20], np.float32), 32)
    assert crop.shape == (3, 32, 32)
    assert crop[0, 16, 16] == 200
    assert crop[0, 0, 0] == 0
    inside = (crop[0] > 100).mean()
    assert inside == pytest.approx(8 * 10 / 12.5**2, abs=0.05)
    volume = np.zeros((1, 8, 40, 40), np.uint8)
    volume[:, 4] = image
    assert (lesion_crop(volume, np.array([12, 10, 3, 20, 20, 6], np.float32), 32) == crop).all()


def test_an_unknown_split_is_refused_with_the_choices(real, tmp_path):
    with pytest.raises(UsageError, match="--split valid: the choices are train, val, test"):
        preview(open_store(real), tmp_path / "a.png", split="valid")
