"""Placements keep pixels and boxes together, there and back; grey values end between 0 and 1."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from thoroughness import examples

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import Grid
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.scans.grids import moved_boxes, upright
from medaug_cli.scans.intensity import bias_field, denoise, noise_level, scale_intensity, to_uint8
from medaug_cli.scans.placement import Placement, place
from medaug_cli.scans.way_back import scanner_boxes


@st.composite
def placements(draw, dimensions=(2, 3)):
    """Draw a placement whose crop may reach outside its image."""
    d = draw(st.sampled_from(dimensions))
    source = tuple(draw(st.integers(4, 40)) for _ in range(d))
    low = tuple(draw(st.integers(-10, n - 1)) for n in source)
    high = tuple(draw(st.integers(n + 1, n + 50)) for n in low)
    return Placement(source, low, high, draw(st.sampled_from([4, 16, 32])))


@given(placements(), st.data())
def test_a_box_comes_back_to_where_it_was(placement, data):
    d = len(placement.source)
    box = np.array(data.draw(st.lists(st.floats(0, 500, width=32), min_size=2 * d, max_size=2 * d)), np.float32)[None]
    back = placement.inverse_boxes(placement.boxes(box, clip=False))
    np.testing.assert_allclose(back, box, atol=1e-3)


@given(placements())
def test_a_placement_survives_json(placement):
    assert Placement.from_details(json.loads(json.dumps(placement.details()))) == placement


@pytest.mark.parametrize("order", ["linear", "area", "nearest"])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("spatial", [(60, 90), (40, 30, 50)])
def test_a_white_rectangle_follows_its_box(spatial, fit, order):
    image = np.zeros((1, *spatial), np.float32)
    corners = [(5, n - 8) for n in spatial]
    image[(0, *(slice(low, high) for low, high in corners))] = 1
    box = np.array([[low for low, _ in corners[::-1]] + [high for _, high in corners[::-1]]], np.float32)
    mask = np.zeros(spatial, bool)
    mask[tuple(slice(2, n - 3) for n in spatial)] = True
    placement = place(spatial, mask, 32, fit)
    placed, moved = placement.apply(image, order), placement.boxes(box)[0]
    assert placed.shape == (1, *[32] * len(spatial))
    for axis in range(len(spatial)):
        profile = np.flatnonzero(placed[0].max(axis=tuple(a for a in range(len(spatial)) if a != axis)) >= 0.5)
        low, high = moved[len(spatial) - 1 - axis], moved[2 * len(spatial) - 1 - axis]
        assert abs(profile[0] - low) <= 1
        assert abs(profile[-1] + 1 - high) <= 1
    if order != "nearest":  # the light that comes in is the light of the box
        assert placed.sum() == pytest.approx(np.prod(moved[len(spatial) :] - moved[: len(spatial)]), rel=0.08)


@given(placements())
@examples(40)
def test_a_constant_image_stays_constant_inside(placement):
    inside = Placement(placement.source, tuple(0 for _ in placement.source), placement.source, placement.size)
    for order in ("linear", "area", "nearest"):
        placed = inside.apply(np.full((2, *placement.source), 3.0, np.float32), order)
        np.testing.assert_allclose(placed, 3, rtol=1e-5)


def test_shrinking_averages_a_checkerboard():
    image = np.indices((64, 64)).sum(0)[None].astype(np.float32) % 2
    placed = place((64, 64), None, 8).apply(image)
    assert abs(placed - 0.5).max() < 0.05


def test_what_lies_outside_the_image_is_zero():
    placed = place((10, 20), None, 20).apply(np.ones((1, 10, 20), np.float32))
    assert placed[0, :5].sum() == 0
    assert placed[0, 5:15].min() == 1
    far_off = Placement((4, 4), (10, 10), (14, 14), 4)
    assert far_off.apply(np.ones((1, 4, 4), np.float32)).sum() == 0


def test_pad_keeps_the_proportions_and_stretch_does_not():
    mask = np.zeros((100, 100), bool)
    mask[20:80, 40:60] = True
    padded, stretched = place((100, 100), mask, 64), place((100, 100), mask, 64, "stretch")
    assert padded.scale[0] == padded.scale[1]
    assert stretched.scale[1] > 2 * stretched.scale[0]
    assert padded.low[0] == 17  # 5 % of 60 pixels around the mask
    np.testing.assert_allclose((np.array(padded.low) + padded.high) / 2, 50, atol=0.5)


def test_boxes_are_clipped_to_the_frame():
    placement = Placement((50, 50), (10, 10), (30, 30), 40)
    assert placement.boxes(np.array([[0, 15, 20, 40]]))[0].tolist() == [0, 10, 20, 40]
    assert placement.boxes(np.array([[0, 15, 20, 40]]), clip=False)[0].tolist() == [-20, 10, 20, 60]
    assert placement.boxes(np.zeros((0, 4))).shape == (0, 4)


def test_an_empty_mask_places_the_whole_image():
    assert place((8, 8), np.zeros((8, 8), bool), 8) == place((8, 8), None, 8)


def test_bad_requests_are_refused():
    with pytest.raises(UsageError, match="fit 'squash'"):
        place((8, 8), None, 8, "squash")
    with pytest.raises(UsageError, match="empty"):
        Placement((8, 8), (3, 3), (3, 4), 8)
    with pytest.raises(UsageError, match="was made for"):
        place((8, 8), None, 8).apply(np.zeros((1, 9, 8), np.float32))
    with pytest.raises(UsageError, match="does not fit"):
        place((8, 8), np.ones((9, 9), bool), 8)
    with pytest.raises(BadInput, match="KeyError"):
        Placement.from_details({"source": [8, 8]})


@given(arrays(np.float32, (2, 6, 7), elements=st.floats(width=32)), st.booleans())
def test_scaled_values_lie_between_0_and_1(image, masked):
    mask = (np.indices((6, 7)).sum(0) > 4) if masked else None
    scaled = scale_intensity(image, mask)
    assert np.isfinite(scaled).all()
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert not masked or not scaled[:, ~mask].any()


def test_each_channel_fills_its_own_range_and_a_constant_one_is_zero():
    ramp = np.linspace(0, 10, 2500, dtype=np.float32).reshape(50, 50)
    scaled = scale_intensity(np.stack([ramp, ramp * 1000 - 5, np.full_like(ramp, 7)]))
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-4)
    assert scaled[0].min() == 0
    assert scaled[0].max() == 1
    assert scaled[0, 25, 0] == pytest.approx(0.5, abs=0.01)
    assert not scaled[2].any()


def test_bytes_are_rounded_and_clipped():
    assert to_uint8(np.array([-1, 0, 0.5, 1, 2, np.nan])).tolist() == [0, 0, 128, 255, 255, 0]


def disc(noise):
    """Return a bright disc with an edge, and Gaussian noise of this share of its range."""
    y, x = np.indices((96, 96)) - 48
    clean = np.where(x * x + y * y < 40**2, 1 + 0.3 * (x > 0), 0).astype(np.float32) * 100
    return clean, clean + np.random.default_rng(0).normal(0, 130 * noise, clean.shape).astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.1])
def test_the_noise_level_is_measured(noise):
    assert noise_level(disc(noise)[1]) == pytest.approx(noise, rel=0.3, abs=0.002)  # noise widens the range too


@pytest.mark.parametrize("method", ["median", "anisotropic", "curvature", "nonlocal", "auto"])
def test_denoising_brings_an_image_closer_to_its_truth(method):
    clean, noisy = disc(0.1)
    assert abs(denoise(noisy, method) - clean).mean() < 0.7 * abs(noisy - clean).mean()


def test_nonlocal_means_take_planted_noise_away_and_leave_the_edge():
    clean, noisy = disc(0.06)
    still = denoise(noisy, "nonlocal")
    y, x = np.indices(clean.shape) - 48
    flat = (x**2 + y**2 < 36**2) & (abs(x) > 3)

    def left(image):
        return float((image - clean)[flat].std())

    assert left(still) < 0.25 * left(noisy)
    assert left(still) < 0.6 * min(left(denoise(noisy, method)) for method in ("median", "curvature", "anisotropic"))
    step = still[20:76, 49:54].mean() - still[20:76, 44:49].mean()
    assert step == pytest.approx(30, rel=0.1)
    assert (still[20:76, 49].mean() - still[20:76, 48].mean()) > 0.8 * step
    assert abs(denoise(np.stack([noisy, noisy]), "nonlocal") - still).max() < 5
    assert (denoise(clean * 0 + 5, "nonlocal") == 5).all()
    assert denoise(noisy[:4, :3], "nonlocal").shape == (4, 3)


@pytest.mark.parametrize("shape", [(160, 144), (24, 80, 72)])
def test_a_planted_field_is_taken_away(shape):
    grids = [np.linspace(-1, 1, n) for n in shape]
    y, x = np.meshgrid(*grids[-2:], indexing="ij")
    tissue = (y**2 + x**2 < 0.8) & np.ones(shape, bool)
    white = (np.indices(shape).sum(0) // 12) % 2  # two tissues, everywhere mixed
    planted = np.exp(0.5 * x + 0.3 * y)
    image = np.where(tissue, (100 + 40 * white) * planted, 3).astype(np.float32)
    mended = image / bias_field(image, tissue, (3.0, 1.0, 1.0)[-len(shape) :])

    def variation(values):
        return float(values.std() / values.mean())

    for kind in (0, 1):
        part = tissue & (white == kind)
        assert variation(image[part]) > 0.2
        assert variation(mended[part]) < 0.5 * variation(image[part])


def test_an_even_image_keeps_its_values_and_a_constant_one_has_a_field_of_one():
    rng, mask = np.random.default_rng(0), np.ones((96, 96), bool)
    image = 70 + 20 * ((np.indices((96, 96)).sum(0) // 8) % 2) + rng.normal(0, 3, (96, 96))
    assert abs(bias_field(image, mask)[8:-8, 8:-8] - 1).max() < 0.1
    for nothing in (image * 0, image * 0 + 5, np.where(np.indices((96, 96)).sum(0) == 0, 9, 5)):
        assert (bias_field(nothing, mask) == 1).all()
    assert (bias_field(image, ~mask) == 1).all()


def test_auto_leaves_a_clean_image_alone_and_volumes_work():
    clean, _ = disc(0)
    assert (denoise(clean, "auto") == clean).all()
    assert denoise(np.stack([clean] * 4), "curvature").shape == (4, 96, 96)
    with pytest.raises(UsageError, match="denoising"):
        denoise(clean, "magic")


TURNS = [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0)]


@pytest.mark.parametrize("direction", TURNS)
def test_a_processed_box_lies_where_the_scanner_put_the_lesion(tmp_path, direction):
    image, labels = np.zeros((30, 48, 40), np.float32), np.zeros((30, 48, 40), np.uint8)
    image[2:28, 4:44, 4:36] = 100 + np.indices((26, 40, 32)).sum(0)
    labels[7:9, 11:21, 13:18] = 1  # as the file stores it, z first
    (tmp_path / "scans").mkdir(), (tmp_path / "masks").mkdir()
    for array, folder in ((image, "scans"), (labels, "masks")):
        written = sitk.GetImageFromArray(array)
        written.SetSpacing((1.0, 1.3, 2.0))
        written.SetDirection(direction)
        sitk.WriteImage(written, str(tmp_path / folder / "a.nii.gz"))
    recipe = Recipe(64, "none", denoising="none", bias="n4")
    options = PreprocessOptions(
        tmp_path / "scans", tmp_path / "real.h5", masks=tmp_path / "masks", split="1,0,0", recipe=recipe
    )
    store = preprocess(options)
    shown = [i for i in range(len(store)) if len(store.boxes[i])]
    found = np.concatenate([scanner_boxes(store.details[i], store.boxes[i]) for i in shown])
    whole = np.concatenate([found[:, :3].min(0), found[:, 3:].max(0)])
    assert abs(whole - (13, 11, 7, 18, 21, 9)).max() <= 0.5
    details = store.details[0]
    assert details["bias_field"] == "n4"
    assert details["denoising"] == "none"
    low, high = details["windows"][0]
    assert 0 <= low < high
    with pytest.raises(BadInput, match="incomplete"):
        scanner_boxes({**details, "grid": {}, "slice": None}, store.boxes[0])


@pytest.mark.parametrize("spacing", [(1, 4, 2), (4, 1, 2), (0.5, 3.5, 1), (6, 0.75, 0.75), (1, 2.5, 2), (1, 1, 2)])
@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)])
def test_no_part_of_a_voxel_is_lost_where_pixels_are_made_square(spacing, direction):
    values = np.arange(1, 1 + 4 * 6 * 5).reshape(4, 6, 5).astype(np.float32)
    stored = Grid(tuple(map(float, spacing)), (3.0, -4.0, 5.0), tuple(map(float, direction)))
    shown, grid = upright(values, stored, labels=True)
    _, counts = np.unique(shown, return_counts=True)
    each = max(spacing[:2]) / min(spacing[:2])
    assert len(counts) == values.size
    assert set(counts.tolist()) <= {int(np.floor(each)), int(np.ceil(each))}
    assert (upright(values, stored, labels=False)[0] > 0).all()
    whole = moved_boxes(np.array([[0, 0, 0, 5, 6, 4]]), stored, grid)
    np.testing.assert_allclose(whole, [[0, 0, 0, *shown.shape[::-1]]], atol=0.5)
    if each.is_integer():
        np.testing.assert_allclose(whole, [[0, 0, 0, *shown.shape[::-1]]], atol=1e-6)
