"""Segmentation measures against SimpleITK and by hand, empty masks included."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medaug_cli.metrics.segmentation import dice, iou, measures, overlap
from medaug_cli.tasks.segmentation import MaskAnswers


def blobs(rng, shape, share):
    noise = rng.random(shape)
    for axis in range(len(shape)):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > np.quantile(noise, 1 - share)


@pytest.mark.parametrize("seed", range(200))
def test_against_simpleitk(seed):
    rng = np.random.default_rng(seed)
    shape = (9, 12, 11) if seed % 3 == 0 else (21, 17)
    spacing = (2.0, 0.7, 1.1)[: len(shape)] if seed % 2 else None
    truth, answer = blobs(rng, shape, 0.15), blobs(rng, shape, 0.1)
    if seed % 4 == 0:
        answer = truth ^ (rng.random(shape) < 0.05)
    row = overlap(truth, answer, spacing)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, answer)]
    for image in images:
        image.SetSpacing((spacing or (1.0,) * len(shape))[::-1])
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(*images)
    assert dice(row.true, row.found, row.both) == pytest.approx(measured.GetDiceCoefficient())
    assert iou(row.true, row.found, row.both) == pytest.approx(measured.GetJaccardCoefficient())
    assert (row.hausdorff95, row.surface_distance) == pytest.approx(by_points(truth, answer, spacing))
    components = sitk.GetArrayFromImage(sitk.ConnectedComponent(images[0], True))
    assert row.lesions == components.max()
    assert row.lesions_found == len(set(components[answer].tolist()) - {0})


GOLDEN = json.loads(Path(__file__).with_name("monai.json").read_text(encoding="utf-8"))["cases"]


def filled(shape, boxes):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(low, high) for low, high in zip(box[: len(shape)], box[len(shape) :], strict=True))] = True
    return mask


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_against_monai(case):
    row = overlap(*(filled(case["shape"], case[key]) for key in ("truth", "answer")), case["spacing"])
    assert float(dice(row.true, row.found, row.both)) == pytest.approx(case["dice"], abs=1e-6)
    expected = [np.nan if case[key] is None else case[key] for key in ("hausdorff95", "surface_distance")]
    found = [row.hausdorff95, row.surface_distance]
    if row.true and row.found:
        assert found == pytest.approx(expected, rel=1e-5)
    else:  # MONAI takes one empty mask for infinitely far, or for no number; here it has no distance
        assert np.isnan(found).all()
        assert case["dice"] == float(not row.true and not row.found)


def by_points(truth, answer, spacing):
    """Return the distances the slow way: every pixel of one surface to every one of the other."""
    step = np.array(spacing or (1.0,) * truth.ndim)
    surfaces = []
    for mask in (truth, answer):
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis in range(mask.ndim):
            inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        surfaces.append(np.argwhere((padded & ~inner)[(slice(1, -1),) * mask.ndim]) * step)
    away = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=2)
    there, back = away.min(1), away.min(0)
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


def test_empty_masks():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    rows = [overlap(empty, empty), overlap(full, empty), overlap(empty, full)]
    assert [float(dice(r.true, r.found, r.both)) for r in rows] == [1, 0, 0]
    assert [float(iou(r.true, r.found, r.both)) for r in rows] == [1, 0, 0]
    assert np.isnan([r.hausdorff95 for r in rows]).all()
    assert rows[1].lesions == 1
    assert rows[1].lesions_found == 0
    assert rows[2].false_lesions == 1


def test_pixels_of_a_patient_are_pooled():
    mask = np.zeros((4, 4), bool)
    small, large = mask.copy(), mask.copy()
    small[0, 0], large[:2] = True, True
    rows = [overlap(small, mask), overlap(large, large), overlap(mask, mask)]
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    found = measures(rows, np.array([0, 0, 1]), weights)
    first = 2 * 8 / (9 + 8)
    assert found["dice"] == pytest.approx([(first + 1) / 2, first])
    assert found["dice_image"] == pytest.approx([2 / 3, 1 / 2])
    assert found["lesion_sensitivity"] == pytest.approx([1 / 2, 1 / 2])
    assert found["volume_error"] == pytest.approx([1 / 9, 1 / 9])  # of the second, without a lesion, there is none


def test_a_mean_over_labels_is_not_one_of_fewer_where_a_resample_lacks_one():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    rows = {"a": [overlap(full, full)] * 3, "b": [overlap(empty, empty)] * 2 + [overlap(full, empty)]}
    rows["none"] = [overlap(empty, empty)] * 3
    weights = np.array([[1.0, 1, 1], [2, 1, 0]])
    found = MaskAnswers(rows, np.arange(3)).measure(weights)
    assert found["lesion_sensitivity"] == pytest.approx([0.5, np.nan], nan_ok=True)  # that of "none" is not known
    assert found["volume_error"] == pytest.approx([0.5, np.nan], nan_ok=True)
    assert found["hausdorff95"] == pytest.approx([0, 0])  # of "a" alone
    assert found["dice"] == pytest.approx([(1 + 2 / 3 + 1) / 3, 1])


def test_nobody_counted_is_not_available():
    mask = np.ones((2, 2), bool)
    found = measures([overlap(mask, mask)], np.array([0]), np.array([[0.0, 1.0]]))
    assert np.isnan(found["dice"]).all()
    assert np.isnan(found["lesion_sensitivity"]).all()


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match="expected an answer of shape"):
        overlap(np.ones((2, 2), bool), np.ones((2, 3), bool))
