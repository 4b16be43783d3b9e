"""A mask is put onto its scan by place: turned, put in, resampled with a note, or refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Grid, StoredImage
from medaug_cli.scans.mask_grids import Frame, fit_mask

SHAPE = (12, 20, 16)  # z, y, x
GRID = Grid((1.5, 1.2, 4.0), (-35.25, -41.5, -26.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
FRAME = Frame("c1.nii.gz", SHAPE, GRID)
PLACE = (slice(5, 8), slice(4, 11), slice(9, 13))  # of the lesion, as the scan holds it
ELSEWHERE = "has the shape of its scan c1.nii.gz, but its header puts it elsewhere"


def marked(shape=SHAPE, place=PLACE):
    values = np.zeros((1, *shape), np.float32)
    values[(0, *place)] = 2
    return values


def axes(grid):
    return np.reshape(grid.direction, (3, 3)) * grid.spacing


def at(grid, voxel):
    """Return the place (3,) of a voxel, x first."""
    return axes(grid) @ np.array(voxel, float) + grid.origin


def turned(grid, degrees, about=2):
    """Return a grid turned about one of the patient's axes, the first voxel where it was."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.insert(np.insert(np.array([[c, -s], [s, c]]), about, 0, 0), about, 0, 1)
    turn[about, about] = 1
    return replace(grid, direction=tuple((turn @ np.reshape(grid.direction, (3, 3))).ravel()))


def reordered(values, grid, order, flips):
    """Return the same mask with its axes (x, y, z) in another order, and those of `flips` reversed."""
    array = values[0].T.transpose(order)
    direction = np.reshape(grid.direction, (3, 3))[:, order]
    first = [array.shape[i] - 1 if flip else 0 for i, flip in enumerate(flips)]
    spacing = tuple(grid.spacing[i] for i in order)
    origin = (direction * spacing) @ first + grid.origin
    array = array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    direction = direction * np.where(flips, -1, 1)
    return array.T[None], Grid(spacing, tuple(origin), tuple(direction.ravel()))


@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3), st.floats(-80, 80))
def test_the_same_grid_in_any_order_and_turn_gives_the_same_voxels(order, flips, degrees):
    grid = turned(turned(GRID, degrees), degrees / 3, about=0)
    values, own = reordered(marked(), grid, list(order), flips)
    rounded = replace(own, direction=tuple(np.round(own.direction, 6)), origin=tuple(np.round(own.origin, 3)))
    fitted = fit_mask(StoredImage(values, rounded), replace(FRAME, grid=grid), "masks/c1.nii.gz")
    np.testing.assert_array_equal(fitted.image, marked())
    assert fitted.notes == ()


def part(corner, shape):
    """Return the part of the mask from a voxel (x, y, z) of the scan on, which may reach over its border."""
    wide = np.pad(marked()[0], 9)
    x, y, z = (side + 9 for side in corner)
    return StoredImage(wide[None, z : z + shape[0], y : y + shape[1], x : x + shape[2]], moved_to(GRID, corner))


def moved_to(grid, corner):
    return replace(grid, origin=tuple(at(grid, corner)))


PUT_IN = {
    "the lesion alone": part((9, 4, 5), (3, 7, 4)),
    "one slice": StoredImage(marked()[:, 6:7], moved_to(GRID, (0, 0, 6))),
    "a cropped corner": part((0, 0, 0), (9, 15, 14)),
    "a larger field": part((-3, -2, -4), (20, 26, 24)),
    "over one border": part((4, 2, 3), (14, 12, 15)),
}


@pytest.mark.parametrize("mask", PUT_IN.values(), ids=PUT_IN)
def test_a_mask_of_another_extent_is_put_in_by_its_place(mask):
    fitted = fit_mask(mask, FRAME, "masks/c1.seg.nrrd")
    expected = marked() if mask.image.shape[1] > 1 else marked() * (np.arange(12) == 6)[:, None, None]
    np.testing.assert_array_equal(fitted.image, expected)
    (note,) = fitted.notes
    assert note.endswith("is placed by its position")


def test_what_a_mask_marks_outside_of_its_scan_is_said():
    wide = part((-3, 0, 0), (12, 20, 12))
    wide.image[0, 5:8, 4:11, :4] = 2
    fitted = fit_mask(wide, FRAME, "masks/c1.nii.gz")
    np.testing.assert_array_equal(fitted.image, marked(place=(*PLACE[:2], slice(0, 1))))
    assert fitted.notes[0].endswith("is placed by its position; 75.0 % of what it marks lies outside")


def sampled(grid, shape):
    """Return a mask on another grid that marks the lesion's place."""
    z, y, x = np.indices(shape)
    voxels = np.linalg.inv(axes(GRID)) @ (
        axes(grid) @ np.stack([x, y, z]).reshape(3, -1) + np.subtract(grid.origin, GRID.origin)[:, None]
    )
    within = [(voxels[2 - i] > side.start - 0.5) & (voxels[2 - i] < side.stop - 0.5) for i, side in enumerate(PLACE)]
    return StoredImage(np.all(within, 0).reshape(1, *shape).astype(np.float32), grid)


RESAMPLED = {
    "finer": sampled(replace(GRID, spacing=(0.7, 0.7, 1.0)), (47, 40, 36)),
    "coarser": sampled(replace(GRID, spacing=(2.0, 2.0, 4.0)), (12, 12, 12)),
    "turned": sampled(replace(turned(GRID, 10), origin=(-31.0, -46.0, -26.0)), (12, 30, 26)),
    "half a voxel beside": sampled(moved_to(GRID, (0.45, -0.4, 0)), SHAPE),
    "another place and width": sampled(Grid((1.0, 1.0, 2.0), (-33.0, -44.0, -30.0)), (30, 30, 28)),
}


@pytest.mark.parametrize("mask", RESAMPLED.values(), ids=RESAMPLED)
def test_a_mask_on_another_grid_is_resampled_and_said(mask):
    fitted = fit_mask(mask, FRAME, "masks/c1.nii.gz")
    found = np.argwhere(fitted.image[0])
    widest = np.maximum(1, np.array(mask.grid.spacing) / GRID.spacing)[::-1]
    assert (np.abs(found.min(0) - [side.start for side in PLACE]) <= widest).all()
    assert (np.abs(found.max(0) + 1 - [side.stop for side in PLACE]) <= widest).all()
    (note,) = fitted.notes
    assert "resampled onto it by nearest neighbour" in note


IDENTITY = Grid((1.0, 1.0, 1.0))
RAS = Grid((1.0, 1.0, 1.0), direction=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
REFUSED = {
    "identity": (StoredImage(marked(), IDENTITY), rf"{ELSEWHERE} \(spacing 1 1 1 for 1.5 1.2 4 mm, origin 0 0 0 for"),
    "identity of nibabel": (StoredImage(marked(), RAS), rf"{ELSEWHERE} .* direction -1 0 0 0 -1 0 0 0 1 for"),
    "20 mm beside": (StoredImage(marked(), moved_to(GRID, (0, 20 / 1.2, 0))), f"{ELSEWHERE} .origin"),
    "whole voxels beside": (StoredImage(marked(), moved_to(GRID, (0, 0, 3))), f"{ELSEWHERE} .origin"),
    "another spacing": (StoredImage(marked(), replace(GRID, spacing=(1.0, 1.0, 1.0))), f"{ELSEWHERE} .spacing"),
    "turned": (StoredImage(marked(), turned(GRID, 30)), f"{ELSEWHERE} .direction"),
    "upside down in place": (
        StoredImage(marked(), replace(GRID, direction=(1, 0, 0, 0, -1, 0, 0, 0, 1))), f"{ELSEWHERE} .direction",
    ),
    "no place": (StoredImage(marked((6, 20, 16), PLACE[:0]), IDENTITY), "does not say where it lies"),
    "only a spacing": (StoredImage(marked((24, 20, 16)), replace(IDENTITY, spacing=(1.5, 1.2, 2))), "where it lies"),
    "far away": (StoredImage(marked((9, 18, 14)), replace(GRID, origin=(300.0, 10.0, 5.0))), "does not overlap"),
    "marks beside": (part((-9, -9, -9), (30, 38, 34)), None),
    "a picture": (StoredImage(marked()[:, 0]), r"masks/c1.nii.gz is a picture, its scan c1.nii.gz is a volume"),
}  # fmt: skip


@pytest.mark.parametrize(("mask", "said"), REFUSED.values(), ids=REFUSED)
def test_a_mask_that_cannot_be_placed_is_refused_by_name(mask, said):
    if said is None:  # all that it marks lies beside the scan
        beside = np.roll(mask.image, 12, 1) * (np.arange(30) > 22)[:, None, None]
        mask, said = replace(mask, image=beside), "does not overlap its scan c1.nii.gz: nothing that it marks"
    with pytest.raises(BadInput, match=said) as refused:
        fit_mask(mask, FRAME, "masks/c1.nii.gz", "brain mask")
    assert "masks/c1.nii.gz" in str(refused.value)


def test_regions_that_leave_no_voxel_are_counted():
    fine = sampled(replace(GRID, spacing=(1.5, 1.2, 0.5)), (96, 20, 16))
    fine.image[0, 12, 1:3, 1:3] = 1  # thinner than a slice of the scan, and between two of them
    fitted = fit_mask(fine, FRAME, "masks/c1.nii.gz")
    assert "1 of its 2 regions leave no voxel there and are lost" in fitted.notes[0]
    assert fitted.lost == 1
    assert not fitted.image[0, :3].any()


def test_a_mask_may_match_the_other_place_that_a_file_names():
    other = replace(GRID, origin=(0.0, 10.0, 20.0))
    both = Frame("c1.nii.gz", SHAPE, GRID, other)
    by_scan = fit_mask(StoredImage(marked(), other), both, "m")
    by_mask = fit_mask(StoredImage(marked(), other, other_grid=GRID, notes=("it is odd",)), FRAME, "m")
    for fitted, words in ((by_scan, "by the qform of the scan"), (by_mask, "by its qform")):
        np.testing.assert_array_equal(fitted.image, marked())
        assert words in fitted.notes[-1]
    assert by_mask.notes[0] == "of its mask: it is odd"


def test_pictures_are_compared_by_size():
    frame = Frame("a.png", (20, 16))
    np.testing.assert_array_equal(fit_mask(StoredImage(marked()[:, 6]), frame, "m").image, marked()[:, 6])
    with pytest.raises(BadInput, match=r"the mask m has the shape \(16, 20\), its scan a.png has \(20, 16\)"):
        fit_mask(StoredImage(np.zeros((1, 16, 20))), frame, "m")
    with pytest.raises(BadInput, match=r"is a volume, its scan a\.png is a picture"):
        fit_mask(StoredImage(marked(), GRID), frame, "m")
