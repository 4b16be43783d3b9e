"""Lesions are put into whole images: in the body, on no other lesion, and nothing changes beyond the margin."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, laplace
from thoroughness import examples

from medaug_cli.blending import MARGIN, blended, ellipsoid, faded, membrane, window
from medaug_cli.errors import BadInput
from medaug_cli.pasting import Hosts, Region
from medaug_cli.plugin import Drawn, ImageSpec
from medaug_cli.store import Record, StoreInfo, StoreWriter
from medaug_cli.synthesis.into import hosts_in, region_of

SHAPES = {2: (40, 48), 3: (20, 28, 24)}
REGION = {2: (16, 16), 3: (16, 16, 16)}


def ball(box, spatial):
    return ellipsoid(np.array(box, np.float32), spatial)


def hosts(path, dims, *, lesion=True, masks=True, spacing=None, blending="poisson", kind=np.uint8, body=slice(3, -3)):
    """Return hosts of a store of four bodies in air, each with a lesion in a corner of it."""
    spatial, rng, records = SHAPES[dims], np.random.default_rng(0), []
    most = np.iinfo(kind).max
    for number in range(4):
        image, inner = np.zeros(spatial), (body,) * dims
        image[inner] = 0.4
        image[inner] += rng.normal(0, 0.02, image[inner].shape)
        box = [4.0] * dims + [10.0] * dims
        shape = ball(box, spatial) if lesion else np.zeros(spatial, bool)
        image[shape] = 0.8
        records.append(
            Record(
                f"v{number}",
                np.rint(image[None] * most).astype(kind),
                np.array([box] if lesion else [], np.float32).reshape(-1, 2 * dims),
                ["met"] if lesion else [],
                f"p{number}",
                "test" if number == 3 else "train",
                mask=shape.astype(np.uint8) if masks else None,
                spacing=spacing,
                image_class="ill" if lesion else "well",
            )
        )
    info = StoreInfo(
        tool_version="1", command="preprocess", settings={}, seed=0, label_names=["met"], class_names=["ill", "well"]
    )
    writer = StoreWriter(path, info, {})
    writer.add(0, records)
    return Hosts(writer.publish(), blending)


def region(dims, *, side=6.0, spacing=None, mask=True):
    """Return a light ball in grey surroundings."""
    spatial = REGION[dims]
    box = np.array([8 - side / 2] * dims + [8 + side / 2] * dims, np.float32)
    shape = ball(box, spatial)
    image = np.random.default_rng(1).normal(0.4, 0.02, spatial)
    image[shape] = 0.7
    return Region(image[None].astype(np.float32), box, "met", shape.astype(np.uint8) if mask else None, spacing)


@pytest.mark.parametrize("blending", ["poisson", "soft"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_beyond_the_margin_an_image_stays_bit_for_bit(tmp_path, dims, blending, kind):
    place = hosts(tmp_path / "v.h5", dims, blending=blending, kind=kind)
    store = place.store
    for number in range(3):
        made = place.with_lesions([region(dims)], 5, number)
        before = store.record(store.ids.index(made.details["host"]))
        new = made.boxes[-1]
        beyond = np.ones(SHAPES[dims], bool)
        beyond[window(new, SHAPES[dims], MARGIN + 1e-3)] = False
        assert (made.image[0][beyond] == before.image[0][beyond]).all()
        assert (made.mask[beyond] == before.mask[beyond]).all()
        assert (made.image != before.image).any()
        inside = (made.mask > 0) & (before.mask == 0)
        assert inside.sum() == pytest.approx(ball(new, SHAPES[dims]).sum(), rel=0.35)
        difference = made.image[0].astype(float) - before.image[0]
        assert difference[inside].mean() > 0.15 * np.iinfo(kind).max
        assert (made.boxes[:-1] == before.boxes).all()
        assert made.labels == ["met", "met"]
        assert made.image_class == "ill"


@pytest.mark.parametrize("dims", [2, 3])
def test_lesions_lie_in_the_body_and_on_no_other(tmp_path, dims):
    place = hosts(tmp_path / "v.h5", dims)
    used = set()
    for number in range(6):
        made = place.with_lesions([region(dims, side=4.0)] * 3, 9, number)
        used.add(made.details["host"])
        assert len(made.boxes) == 4
        d = dims
        for i, one in enumerate(made.boxes):
            for other in made.boxes[:i]:
                assert (np.minimum(one[d:], other[d:]) <= np.maximum(one[:d], other[:d])).any()
        for box in made.boxes[1:]:
            inner = tuple(slice(int(a), int(np.ceil(b))) for a, b in zip(box[:d][::-1], box[d:][::-1], strict=True))
            assert (made.image[0][inner] > 0).mean() > 0.7
    assert used == {"v0", "v1", "v2"}  # no host is of the test split
    assert place.patients == {"p0", "p1", "p2"}


def test_it_takes_the_place_that_looks_like_the_region(tmp_path):
    """One half of a body is dark as the lesion's surroundings are."""
    place = hosts(tmp_path / "v.h5", 3, lesion=False)
    shape = SHAPES[3]
    dark = np.full(shape, 100, np.uint8)
    dark[:, :, 12:] = 30
    place.store.images = np.repeat(dark[None, None], 4, 0)
    drawn = region(3, side=4.0)
    low = Region(drawn.image * 0.3, drawn.box, "met", drawn.mask)
    for number in range(4):
        assert place.with_lesions([low], 0, number).boxes[-1][0] > 10
        assert place.with_lesions([drawn], 0, number).boxes[-1][3] < 14


def named(path, dims, names, *, masks=True):
    """Return hosts whose masks have names, and nothing on them."""
    place = hosts(path, dims, lesion=False, masks=masks)
    info = StoreInfo(
        tool_version="1", command="preprocess", settings={}, seed=0, label_names=sorted(names), mask_names=names,
        class_names=["ill", "well"],
    )  # fmt: skip
    writer = StoreWriter(path.with_name("named.h5"), info, {})
    writer.add(0, [place.store.record(i) for i in range(4)])
    return Hosts(writer.publish(), "soft")


def cored(dims, names, *, mask=True):
    """Return a drawn oedema with a core in one half of it, the core nearer to the middle."""
    spatial = REGION[dims]
    spec = ImageSpec(1, spatial, ("core", "oedema"), mask_names=names)
    whole, core = [3.0] * dims + [13.0] * dims, [6.0] * dims + [10.0] + [11.0] * (dims - 1)
    drawn = np.zeros(spatial, np.uint8)
    drawn[ball(whole, spatial)] = names.index("oedema") + 1
    drawn[ball(core, spatial)] = names.index("core") + 1
    image = np.where(drawn > 0, 0.7, 0.4)[None].astype(np.float32)
    boxes, labels = np.array([whole, core], np.float32), np.array([1, 0])
    return Drawn(image, boxes, labels, drawn if mask else None, 0), spec


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_parts_of_a_lesion_keep_their_names_and_boxes(tmp_path, dims, mask):
    place = named(tmp_path / "v.h5", dims, ["core", "scar", "oedema"])
    drawn, spec = cored(dims, ("oedema", "core"), mask=mask)
    template = SimpleNamespace(id="r", spacing=None)
    one = region_of(drawn, template, place, spec)
    made = place.with_lesions([one], 0, 0)
    assert made.labels == ["oedema", "core"]
    new, core = made.boxes
    np.testing.assert_allclose(new[dims:] - new[:dims], 10)
    np.testing.assert_allclose(core - new[[*range(dims)] * 2], drawn.boxes[1] - 3)
    inside = window(new, SHAPES[dims])
    expected = ball(core - new[[*range(dims)] * 2], (10,) * dims)
    np.testing.assert_array_equal(made.mask[inside] == 1, expected)
    assert ((made.mask[inside] == 3) == (ball([0.0] * dims + [10.0] * dims, (10,) * dims) & ~expected)).all()
    assert made.mask.astype(bool).sum() == made.mask[inside].astype(bool).sum()


def test_masks_of_one_name_hold_lesions_of_many(tmp_path):
    place = hosts(tmp_path / "v.h5", 2, lesion=False)
    drawn, spec = cored(2, ("oedema", "core"))
    one = region_of(drawn, SimpleNamespace(id="r", spacing=None), place, spec)
    assert one.label == "met"
    made = place.with_lesions([one], 0, 0)
    assert np.unique(made.mask).tolist() == [0, 1]
    assert made.mask.sum() == np.count_nonzero(drawn.mask)


def test_masks_that_a_store_has_no_name_for_are_refused(tmp_path):
    place, spec = (
        named(tmp_path / "v.h5", 2, ["core", "oedema"]),
        ImageSpec(1, (16, 16), ("core",), mask_names=("scar",)),
    )
    with pytest.raises(BadInput, match=r"mark core, oedema, but those that boxgan draws mark scar; give both stores"):
        hosts_in(place.store.path, "soft", "boxgan", spec, {"boxes", "mask"})
    hosts_in(place.store.path, "soft", "boxgan", spec, {"boxes"})


@pytest.mark.parametrize(
    ("own", "spacing", "factor"),
    [
        (None, None, (1, 1, 1)),
        ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        ((2, 1, 1), (1, 1, 1), (1, 1, 0.5)),
        (None, (2, 2, 2), (1, 1, 1)),
    ],
)
def test_millimetres_stay_what_they_were(tmp_path, own, spacing, factor):
    place = hosts(tmp_path / "v.h5", 3, spacing=own, lesion=False)
    made = place.with_lesions([region(3, side=4.0, spacing=spacing)], 0, 0)
    box = made.boxes[-1]
    assert box[3:] - box[:3] == pytest.approx(4 * np.array(factor))
    assert made.image_class is None  # it was "well"
    wanted = ball([0, 0, 0, *(4 * np.array(factor))], (16, 16, 16)).sum()
    assert made.mask.sum() == pytest.approx(wanted, rel=0.6)


def test_without_a_drawn_mask_it_is_the_ellipsoid_in_the_box(tmp_path):
    made = hosts(tmp_path / "v.h5", 3, lesion=False).with_lesions([region(3, mask=False)], 0, 0)
    assert (made.mask > 0).sum() == ball(made.boxes[-1], SHAPES[3]).sum()


@pytest.mark.parametrize("dims", [2, 3])
def test_no_room_is_said(tmp_path, dims):
    place = hosts(tmp_path / "v.h5", dims)
    place.store.__dict__["spacing"] = np.full((4, dims), 1.0, np.float32)
    size = "x".join(["42"] * dims)
    with pytest.raises(BadInput, match=f"none of the 3 training images .* has room for a lesion of {size} pixels"):
        place.with_lesions([region(dims, side=14.0, spacing=(3.0,) * dims)], 0, 0)
    with pytest.raises(BadInput, match="has room for a lesion"):
        place.with_lesions([region(dims, side=6.0)] * 40, 0, 0)


def test_many_images_take_the_turns_of_those_without_room(tmp_path, monkeypatch):
    place = hosts(tmp_path / "v.h5", 2)
    place.chosen = np.arange(30)
    monkeypatch.setattr(Hosts, "_filled", lambda self, index, regions, rng: index if index >= 20 else None)
    used = [place.with_lesions([], 0, number) for number in range(30)]
    assert sorted(set(used)) == list(range(20, 30))
    assert max(map(used.count, used)) <= 6
    assert sum(one == other for one, other in pairwise(used)) <= 6
    assert used == [place.with_lesions([], 0, number) for number in range(30)]


@given(st.tuples(*[st.floats(-3, 14)] * 3), st.tuples(*[st.floats(2, 9)] * 3), st.booleans(), st.booleans())
@examples(30, deadline=None)
def test_blending_changes_nothing_beyond_the_margin(low, sides, poisson, known):
    host = np.full((1, 14, 15, 16), 0.4, np.float32) + np.indices((14, 15, 16)).sum(0, dtype=np.float32) / 200
    box = np.array([*low, *(np.array(low) + sides)], np.float32)
    drawn = np.random.default_rng(1).random(host.shape, np.float32)
    lesion = ellipsoid(box, host.shape[1:]) if known else None
    result = blended(host, drawn, box, MARGIN, poisson, lesion)
    beyond = np.ones(host.shape[1:], bool)
    beyond[window(box, host.shape[1:], max(MARGIN, 1.5 / min(sides)))] = False
    assert (result[0][beyond] == host[0][beyond]).all()
    assert np.isfinite(result).all()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_membrane_is_harmonic_in_any_dimension(dims):
    border = np.random.default_rng(0).random((2, *(9, 12, 8)[:dims]))
    whole = border.copy()
    inside = (slice(None), *[slice(1, -1)] * dims)
    whole[inside] = membrane(border)
    rest = np.stack([laplace(part)[inside[1:]] for part in whole])
    assert np.abs(rest).max() < 1e-5


def test_what_fades_is_whole_in_the_box_and_nothing_beyond():
    share = faded(np.array([4, 5, 6, 8, 13, 10], np.float32), (16, 18, 14))
    assert share.shape == (16, 18, 14)
    assert share[6:10, 5:13, 4:8].min() == 1
    share[5:11, 3:15, 3:9] = 0
    assert share.max() == 0


def test_what_fades_from_a_known_lesion_spares_the_corners_of_its_box():
    box, spatial = np.array([6, 6, 6, 26, 26, 26], np.float32), (32, 32, 32)
    lesion = ball(box, spatial)
    share = faded(box, spatial, lesion)
    assert share[lesion].min() == 1
    assert share[6:8, 6:8, 6:8].max() < 0.1
    assert (share <= faded(box, spatial)).all()
    assert (faded(box, spatial, np.zeros(spatial, bool)) == faded(box, spatial)).all()


def fine(image):
    return (image - gaussian_filter(image, 1))[6:-6, 6:-6, 6:-6]


@pytest.mark.parametrize("own", [0.01, 0.02, 0.04])
@pytest.mark.parametrize("poisson", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_put_in_is_as_noisy_as_its_surroundings(own, poisson, known):
    rng, spatial, box = np.random.default_rng(3), (36, 36, 36), np.array([12, 12, 12, 24, 24, 24], np.float32)
    host = rng.normal(0.4, 0.02, (1, *spatial)).astype(np.float32)
    drawn = rng.normal(0.6, own, (1, *spatial)).astype(np.float32)  # a lesion that nothing but its noise tells
    result = blended(host, drawn, box, MARGIN, poisson, ball(box, spatial) if known else None)
    shown = faded(box, spatial)[6:-6, 6:-6, 6:-6]
    expected = float(fine(host[0]).std())
    for part in (shown == 1, (shown > 0) & (shown < 1)):
        assert fine(result[0])[part].std() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("blending", ["poisson", "soft"])
def test_a_lesion_is_as_bright_in_its_place_as_it_was_drawn(tmp_path, blending):
    place = hosts(tmp_path / "v.h5", 3, blending=blending, lesion=False)
    made = place.with_lesions([region(3, side=8.0)], 0, 0)
    inside = made.mask > 0
    assert made.image[0][inside].mean() / 255 == pytest.approx(0.7, abs=0.12)
