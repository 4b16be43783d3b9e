"""Cubes are filtered, mapped and drawn as slices are; what is shown of one are its three planes."""

import numpy as np
import pytest
from conftest import make_store
from heads import sifted, synthetic

from medaug_cli.embedding import MapOptions, draw_map
from medaug_cli.embedding.features import extractor
from medaug_cli.errors import UsageError
from medaug_cli.figures.grid import draw_grid
from medaug_cli.figures.planes import flattened
from medaug_cli.store import Record

SIDE = 16


def cubes(n, seed, *, every=1, lesion=True):
    """Yield records of grey cubes, every so many of them with a light ball in a box in the middle."""
    rng = np.random.default_rng(seed)
    places = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    for i in range(n):
        image = rng.integers(60, 90, (SIDE,) * 3)
        half = rng.uniform(2, 4)
        boxed = i % every == 0
        if boxed and lesion:
            image[(places**2).sum(0) < half**2] += rng.integers(60, 100)
        box = np.array([[8 - half] * 3 + [8 + half] * 3] if boxed else [], np.float32).reshape(-1, 6)
        split = ("train", "train", "train", "val")[i // 4 % 4]
        yield Record(f"i{i:03d}", image[None].astype(np.uint8), box, ["lesion"] * boxed, f"p{i // 4}", split)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cubes")
    real = make_store(place / "real.h5", cubes(64, 0, every=2))
    synthetic(place / "synthetic.h5", [*cubes(10, 1), *cubes(12, 2, lesion=False)], real)
    return place


def test_cubes_without_a_lesion_go(folder):
    _, report = sifted(folder)
    kept = np.array([verdict.keep for verdict in report.images])
    assert kept[:10].mean() > 0.7
    assert kept[10:].mean() < 0.4
    assert (folder / "filter.html").stat().st_size > 10_000


def test_lesions_alone_tell_nothing_of_what_none_looks_like(tmp_path):
    real = make_store(tmp_path / "real.h5", cubes(40, 0))
    synthetic(tmp_path / "synthetic.h5", cubes(4, 1), real)
    with pytest.raises(
        UsageError, match="nothing tells what none looks like; make it with preprocess --regions --normals"
    ):
        sifted(tmp_path)
    assert not (tmp_path / "kept.h5").exists()


def test_cubes_are_mapped(folder):
    options = MapOptions(folder / "real.h5", [folder / "synthetic.h5"], folder / "map.png", features="network", most=24)
    numbers = draw_map(options).sets[0]
    assert 0 <= numbers.recall <= 1
    assert (folder / "map.png").stat().st_size > 5_000


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 24, 16), (2, 1, 16, 16, 16), (2, 2, 8, 16, 12)])
def test_random_networks_look_at_both_dimensions(shape):
    images = np.random.default_rng(0).random(shape, np.float32)
    found = extractor("network")(images)
    assert found.shape[0] == 2
    assert np.isfinite(found).all()
    assert np.array_equal(found, extractor("network")(images))


def test_a_volume_is_shown_by_three_planes_with_its_boxes():
    image = np.zeros((1, 6, 8, 10), np.uint8)
    image[0, 2:4, 3:5, 4:7] = 200
    sheet, boxes = flattened(image, np.array([[4, 3, 2, 7, 5, 4]], np.float32))
    assert sheet.shape == (1, 14, 18)
    assert len(boxes) == 3
    for x_min, y_min, x_max, y_max in boxes.astype(int):
        assert (sheet[0, y_min:y_max, x_min:x_max] == 200).all()
    assert (sheet == 200).sum() == 6 + 6 + 4
    flat, own = flattened(image[:, 0], np.array([[1, 2, 3, 4]]))
    assert flat.shape == (1, 8, 10)
    assert own.tolist() == [[1, 2, 3, 4]]
    grid = draw_grid([image, image], [np.zeros((0, 6)), np.array([[4, 3, 2, 7, 5, 4]])], cell=36)
    assert grid.size == (78, 40)


def test_a_volume_without_a_box_is_an_ordinary_image():
    sheet, boxes = flattened(np.zeros((1, 4, 5, 6)), np.zeros((0, 6)))
    assert sheet.shape == (1, 9, 11)
    assert boxes.shape == (0, 4)
