"""Brain extraction from images that are allowed and unusual: it says what is doubtful, and never fails."""

import numpy as np
import pytest

from medaug_cli.brain.extraction import extract_brain, head_to_keep
from medaug_cli.brain.head import head_depth, head_mask
from medaug_cli.brain.judgement import border_share, compactness, judge
from medaug_cli.testing.strippers import head


def hollow(dims):
    """Return a skull alone (*s), as a window of bone leaves of a CT, and its spacing in mm."""
    image, _, spacing = head(dims)
    middle = np.array(image.shape).reshape(-1, *[1] * dims) / 2
    radius = np.sqrt((((np.indices(image.shape) - middle) / (0.86 * middle)) ** 2).sum(0))
    return np.where((radius < 1) & (radius > 0.9), 200, 0).astype(np.float32), spacing


@pytest.mark.parametrize(("dims", "strip"), [(2, "brain2d"), (3, "brain3d")])
def test_a_skull_with_nothing_in_it_has_no_brain(dims, strip):
    image, spacing = hollow(dims)
    found = extract_brain(image, strip, spacing)
    assert found.doubtful
    assert "no brain was found" in found.reason
    assert found.mask[image > 0].all()


def test_a_slab_as_deep_as_a_brain_must_be_and_no_deeper_has_no_brain():
    image = np.zeros((9, 100, 90), np.float32)
    image[:, 5:95, 5:85] = 100
    assert head_depth(image > 0, (5.0, 2.0, 2.0)).max() == 25
    assert "no brain was found" in extract_brain(image, "brain3d", (5.0, 2.0, 2.0)).reason


def ball(shape, spacing, radius):
    """Return a ball (*s) of `radius` mm in the middle."""
    grids = np.indices(shape)
    return sum(((g - (n - 1) / 2) * s / radius) ** 2 for g, n, s in zip(grids, shape, spacing, strict=True)) < 1


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (7.0, 0.45, 0.45)])
def test_a_mask_is_judged_in_millimetres_whatever_its_voxels_are(spacing):
    shape = tuple(round(100 / step) for step in spacing)
    mask, around = ball(shape, spacing, 40), ball(shape, spacing, 48)
    reason, measures = judge(mask, around, {}, spacing)
    assert reason == ""
    assert measures["compactness"] > 0.95
    assert measures["border"] == 0
    first = round((50 - 24) / spacing[0])  # about 24 mm from the middle
    _, measures = judge(mask[first:], around[first:], {}, spacing)
    assert measures["border"] == pytest.approx(0.19, abs=0.03)


def test_the_outline_of_a_disc_is_as_long_as_it_is():
    assert compactness(ball((100, 100), (1, 1), 40)) > 0.98
    assert border_share(ball((60, 100), (1, 1), 40)) == pytest.approx(0.438, abs=0.02)


@pytest.mark.parametrize("shift", [-500, 0, 500])
def test_slices_of_a_slab_are_padding_by_what_stands_out_not_by_zero(shift):
    image, _, _ = head(2)
    slab = np.stack([image * 0, image, image]) + shift
    found = extract_brain(slab, "brain2d", (6.0, 1.0, 1.0))
    assert found.measures["slices"] == 2
    assert not found.mask[0].any()
    assert (found.mask[1] == extract_brain(image, "brain2d", (1.0, 1.0)).mask).mean() > 0.99


def standardized(image, where):
    """Return an image with the mean 0 and the deviation 1 in a mask, and 0 outside."""
    return np.where(where, (image - image[where].mean()) / image[where].std(), 0).astype(np.float32)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_brain_that_was_stripped_and_standardized_is_left_alone(dims):
    image, brain, spacing = head(dims)
    found = extract_brain(standardized(image, brain), "auto", spacing)
    assert found.name == "stripped already"
    assert (found.mask == brain).all()
    whole = extract_brain(standardized(image, head_mask(image, spacing)), "auto", spacing)
    assert whole.name == f"brain{dims}d"


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((4, 4), (0.05, 0.05)), ((1, 50, 50), (1.0,) * 3), ((1, 64, 64), (1.2, 2.0, 2.0)), ((2, 64, 64), (0.2,) * 3)],
)
def test_an_image_smaller_than_the_grid_of_a_head_has_no_brain(shape, spacing):
    image = np.random.default_rng(0).uniform(0, 100, shape).astype(np.float32)
    assert extract_brain(image, f"brain{len(shape)}d", spacing).doubtful
    assert head_mask(image, spacing).shape == shape


def test_all_of_a_slice_is_kept_where_its_scalp_does_not_close():
    image, brain, _ = head(2)
    image[image > 140] = 900  # fat that outshines the brain
    image[70:115, 80:] = np.where(brain, image, 0)[70:115, 80:]
    assert not head_mask(image)[brain].any()
    found = extract_brain(image, "brain2d", (1.0, 1.0))
    assert found.doubtful
    assert found.mask is None
    assert head_to_keep(image, None) is None
    whole, _, _ = head(2)
    assert (head_to_keep(whole, None) == head_mask(whole)).all()
