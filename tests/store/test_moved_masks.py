"""A mask and its boxes are moved together: nothing is lost, invented, renamed, or put outside the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from medaug_cli.conditions import Template, condition_of
from medaug_cli.conditions.moving import Move, moved, owned
from medaug_cli.plugin import ImageSpec


def ellipse(shape, centre, half):
    places = np.indices(shape) + 0.5
    return sum(((at - c) / h) ** 2 for at, c, h in zip(places, centre, half, strict=True)) <= 1


def bounds(mask):
    at = np.argwhere(mask)
    return [*at.min(0)[::-1], *(at.max(0) + 1)[::-1]]


def scene(shape, lesions):
    """Return a mask in which lesion k has the value k + 1, and the boxes."""
    mask = np.zeros(shape, np.uint8)
    for k, (centre, half) in enumerate(lesions):
        mask[ellipse(shape, centre, half)] = k + 1
    values = [k + 1 for k in range(len(lesions)) if (mask == k + 1).any()]
    return mask, np.array([bounds(mask == value) for value in values], np.float32), values


SHAPES = {2: (40, 56), 3: (24, 28, 32)}
places = st.tuples(st.floats(0.1, 0.9), st.floats(0.04, 0.2))


@examples(60, deadline=None)
@given(
    d=st.sampled_from([2, 2, 3]),
    lesions=st.lists(st.tuples(places, places, places), min_size=1, max_size=3),
    jitter=st.floats(0.01, 0.4),
    seed=st.integers(0, 10**6),
)
def test_boxes_are_those_of_the_moved_mask(d, lesions, jitter, seed):
    shape = SHAPES[d]
    sized = [
        ([one[0] * n for one, n in zip(axes, shape, strict=False)], [max(0.8, one[1] * min(shape)) for one in axes[:d]])
        for axes in lesions
    ]
    mask, boxes, values = scene(shape, sized)
    there, found = moved(mask, boxes, jitter, np.random.default_rng(seed))
    again, _ = moved(mask, boxes, jitter, np.random.default_rng(seed))
    assert np.array_equal(there, again)
    assert there.dtype == np.uint8
    assert there.shape == shape
    assert set(np.unique(there)) == set(np.unique(mask))  # no lesion is lost, and no value is invented
    assert found.tolist() == [bounds(there == value) for value in values]
    assert (found >= 0).all()
    assert (found <= np.tile(shape[::-1], 2)).all()


@pytest.mark.parametrize("jitter", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("shape", [(64, 64), (32, 32, 32)])
def test_the_area_changes_little(shape, jitter):
    d = len(shape)
    mask = ellipse(shape, [n * 0.5 for n in shape], [n * f for n, f in zip(shape, (0.2, 0.15, 0.18), strict=False)])
    mask = mask.astype(np.uint8)
    boxes = np.array([bounds(mask)], np.float32)
    for seed in range(20):
        there, _ = moved(mask, boxes, jitter, np.random.default_rng(seed))
        share = there.sum() / mask.sum()
        assert (1 - 2 * jitter) ** d - 0.1 <= share <= (1 + 2 * jitter) ** d + 0.1
        shift = np.abs(np.argwhere(there).mean(0) - np.argwhere(mask).mean(0))
        assert (shift <= 1.5 * jitter * (boxes[0, d:] - boxes[0, :d])[::-1] + 1).all()


def test_it_is_turned_zoomed_shifted_mirrored_and_warped():
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 10:34] = 1
    mask[20:40, 10:16] = 1  # an L, which is its own mirror image nowhere
    boxes = np.array([bounds(mask)], np.float32)
    found = [moved(mask, boxes, 0.15, np.random.default_rng(seed))[0] for seed in range(40)]
    assert len({one.tobytes() for one in found}) == 40
    left = [np.argwhere(one)[:, 1].mean() < 32 for one in found]
    assert 8 <= sum(left) <= 32
    sizes = np.array([one.sum() for one in found])
    assert sizes.min() < mask.sum() < sizes.max()


@pytest.mark.parametrize("jitter", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("sides", [(3, 90), (90, 3), (30, 30)])
def test_a_long_lesion_is_not_cut_where_it_is_turned(monkeypatch, sides, jitter):
    """The part of an image that is worked on holds all that a lesion can be moved into."""
    mask = np.zeros((128, 128), np.uint8)
    mask[tuple(slice((128 - side) // 2, (128 - side) // 2 + side) for side in sides)] = 1
    boxes = np.array([bounds(mask)], float)
    parts = [moved(mask, boxes, jitter, np.random.default_rng(seed))[0] for seed in range(40)]
    monkeypatch.setattr(Move, "frame", lambda self, owners, jitter: tuple(slice(0, n) for n in owners.shape))
    wholes = [moved(mask, boxes, jitter, np.random.default_rng(seed))[0] for seed in range(40)]
    assert all(np.array_equal(*each) for each in zip(parts, wholes, strict=True))


def test_a_lesion_at_the_border_and_one_of_a_pixel_are_not_lost():
    mask = np.zeros((32, 32), np.uint8)
    mask[:3, 20:30] = 1
    mask[31, 0] = 2
    boxes = np.array([[20, 0, 30, 3], [0, 31, 1, 32]], np.float32)
    for seed in range(30):
        there, found = moved(mask, boxes, 0.5, np.random.default_rng(seed))
        assert set(np.unique(there)) == {0, 1, 2}
        assert len(found) == 2


def test_pixels_belong_to_the_box_that_holds_most_of_them():
    mask = np.zeros((16, 16), np.uint8)
    mask[2:6, 2:6] = 1
    mask[8:12, 8:12] = 1
    mask[14, 14] = 1  # smaller than any lesion that has a box
    boxes = np.array([[7, 7, 13, 13], [2, 2, 6, 6], [0, 10, 3, 13]], float)
    owners = owned(mask, boxes)
    assert owners[3, 3] == 2
    assert owners[9, 9] == 1
    assert owners[14, 14] == 4
    assert owners.max() == 4
    there, found = moved(mask, boxes, 0.1, np.random.default_rng(1))
    assert found.shape == boxes.shape
    assert (owned(there, found.astype(float)) > 0).sum() == there.sum()


def test_the_box_of_a_whole_holds_its_core():
    mask = np.zeros((48, 48), np.uint8)
    mask[10:30, 10:24] = 1
    mask[12:28, 18:30] = 2  # it reaches beyond what else is marked
    boxes = np.array([[10, 10, 30, 30], [18, 12, 30, 28]], np.float32)  # of the whole, of the core
    for seed in range(10):
        there, found = moved(mask, boxes, 0.15, np.random.default_rng(seed))
        assert found.tolist() == [bounds(there > 0), bounds(there == 2)]


@pytest.mark.parametrize("masked", [False, True])
def test_nothing_is_mirrored_where_left_and_right_differ(masked):
    """All else is drawn as it is where things are mirrored."""
    boxes, spec = np.array([[2, 6, 8, 12]], np.float32), ImageSpec(1, (32, 32), ("lesion",))
    mask = np.zeros((32, 32), np.uint8)
    mask[6:12, 2:8] = 1
    template = Template("a", boxes, np.zeros(1, np.int64), mask=mask if masked else None)
    sides = {mirror: [condition_of(template, spec, 0.1, 0, i, mirror) for i in range(20)] for mirror in (True, False)}
    right = [one.boxes[0, 0] > 16 for one in sides[True]]
    assert 0 < sum(right) < 20
    assert all(one.boxes[0, 2] < 16 for one in sides[False])
    for one, other in [pair for pair, there in zip(zip(*sides.values(), strict=True), right, strict=True) if not there]:
        assert np.array_equal(one.boxes, other.boxes)


def test_a_template_is_used_as_it_is_without_jitter_and_where_nothing_is_marked():
    mask = np.zeros((16, 16), np.uint8)
    spec = ImageSpec(1, (16, 16), ("lesion",))
    normal = Template("n", np.zeros((0, 4), np.float32), np.zeros(0, np.int64), mask=mask, image_class=1)
    condition = condition_of(normal, spec, 0.1, 0, 0)
    assert not condition.mask.any()
    assert condition.image_class == 1
    mask = mask.copy()
    mask[4:9, 5:9] = 3
    boxes = np.array([[5, 4, 9, 9]], np.float32)
    plain = condition_of(Template("a", boxes, np.zeros(1, np.int64), mask=mask), spec, 0, 0, 0)
    assert np.array_equal(plain.mask, mask)
    assert np.array_equal(plain.boxes, boxes)
