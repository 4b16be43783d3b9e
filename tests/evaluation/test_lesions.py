"""Lesions in numbers: contrast, extent and texture of what a box shows, and whether images are told apart."""

import numpy as np
import pytest

from medaug_cli.embedding.lesions import Distribution, cumulative_distance, lesion, lesion_numbers, lesions_of
from medaug_cli.embedding.probe import dealt, told_apart
from medaug_cli.embedding.tables import _spread

BOX = np.array([10, 12, 18, 20], np.float32)


def scene(level=0.5, noise=0.0, box=BOX, side=8.0, dims=2):
    """Return a grey image (*s) with a square lesion of this side in the middle of a box."""
    image = np.full((32,) * dims, 0.3)
    low, high = np.split(box, 2)
    middle = (low + high)[::-1] / 2
    inside = np.all([np.abs(at + 0.5 - m) < side / 2 for at, m in zip(np.indices(image.shape), middle, strict=True)], 0)
    image[inside] = level
    return image + noise * np.random.default_rng(0).normal(size=image.shape)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.9])
def test_contrast_is_what_was_planted(level):
    assert lesion(scene(level), BOX).contrast == pytest.approx(level - 0.3, abs=1e-6)


@pytest.mark.parametrize("level", [0.05, 0.8])
@pytest.mark.parametrize("side", [4, 6, 8])
def test_extent_is_that_of_the_lesion_in_its_box(level, side):
    assert lesion(scene(level, side=side), BOX).extent == pytest.approx(side, abs=0.01)


def test_texture_is_the_spread_of_fine_detail_alone():
    smooth, rough = lesion(scene(), BOX), lesion(scene(noise=0.1), BOX)
    assert smooth.texture < 0.05
    assert rough.texture == pytest.approx(np.hypot(0.1 * np.sqrt(8 / 9), smooth.texture), rel=0.3)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 4, 4), (28, 28, 32, 32), (0, 0, 32, 32), (3, 3, 3.5, 3.5), (31.2, 0, 40, 2), (-3, 5, 2, 9), (0, 9, 32, 12)],
)
def test_a_box_at_the_border_or_of_any_size_gives_numbers(box):
    assert np.isfinite(lesion(scene(noise=0.1), np.array(box, np.float32))).all()


def test_volumes_are_measured_too():
    box = np.array([10, 12, 8, 18, 20, 16], np.float32)
    found = lesion(scene(0.7, box=box, dims=3), box)
    assert found.contrast == pytest.approx(0.4, abs=1e-6)
    assert found.extent == pytest.approx(8, abs=0.01)


def test_every_box_of_every_image_is_a_row():
    images = [scene(level)[None] for level in (0.4, 0.6)]
    rows = lesions_of(images, [BOX[None], np.stack([BOX, BOX + 1])])
    assert rows.shape == (3, 3)
    assert rows[:, 0] == pytest.approx([0.1, 0.3, rows[2, 0]])
    assert lesions_of(images, [BOX[None][:0]] * 2).shape == (0, 3)


def test_distributions_stand_beside_those_of_real_lesions():
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(0, 1, (400, 3)), rng.normal(0, 1, (300, 3))
    drawn[:, 2] += 3
    found = lesion_numbers(drawn, real)
    assert found.boxes == 300
    assert found.contrast.distance < 0.2 < 0.8 < found.texture.distance
    assert found.contrast.low < found.contrast.median < found.contrast.high
    assert lesion_numbers(drawn[:0], real) is None
    assert cumulative_distance(np.zeros(3), np.ones(2)) == 1
    assert cumulative_distance(np.arange(4.0), np.arange(4.0)) == 0
    assert cumulative_distance(np.array([0.0, 1]), np.array([0.0, 2])) == 0.5


def test_images_of_one_kind_are_not_told_apart_and_others_at_once():
    rng = np.random.default_rng(0)
    real, patients = rng.normal(size=(120, 10)), [str(i // 6) for i in range(120)]
    drawn, names = rng.normal(size=(90, 10)), [f"s{i}" for i in range(90)]
    assert told_apart(real, drawn, patients, names) == pytest.approx(0.5, abs=0.2)
    assert told_apart(real, drawn + 4, patients, names) > 0.99
    assert told_apart(real, drawn, ["one"] * 120, names) is None


def test_a_patient_is_never_judged_by_one_who_knows_him():
    """Features that name the patient tell nothing of other patients' images."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(20, 40))
    real, drawn = own[np.arange(100) % 10], own[10 + np.arange(100) % 10]
    names = [str(i % 10) for i in range(100)]
    assert told_apart(real, drawn, names, [f"d{name}" for name in names]) < 0.8
    assert told_apart(real, drawn, [str(i) for i in range(100)], [f"d{i}" for i in range(100)]) > 0.99
    parts = dealt(names, 3)
    assert all(len(set(parts[i::10])) == 1 for i in range(10))


def test_zeros_at_the_end_of_a_median_and_its_range_are_kept():
    shown = _spread(Distribution(low=5.0, median=12.4, high=28.25, distance=0.1))
    assert [cell.value for cell in shown] == ["12.4 (5.00 to 28.2)", "0.10"]
    assert _spread(Distribution(low=0.0, median=0.5, high=1.0, distance=0.0))[0].value == "0.500 (0.00 to 1.00)"
