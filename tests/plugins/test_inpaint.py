"""Inpaint paints into the asked box of a real slice, varies with its seed, and touches nothing else."""

import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medaug_cli.plugin import MARGIN, BadInput, Condition, Drawn, ImageSpec, MedaugError, UsageError
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.hosts import Bank
from medaug_plugins.inpaint import Inpaint
from medaug_plugins.inpaint.networks import Architecture
from medaug_plugins.inpaint.patches import Square, Told, cut, put_back, square_around, told_maps
from medaug_plugins.inpaint.settings import Settings
from medaug_plugins.inpaint.training import Batch, Lesions, hole, painted

SMALL = {"patch": 16, "latent": 4, "width": 4, "max_maps": 8, "batch": 4, "r1_every": 2}


@pytest.fixture(scope="module")
def data():
    return constructed(ImageSpec(1, (32, 32), ("lesion",)))


@pytest.fixture(scope="module")
def fitted(data):
    plugin = Inpaint(**SMALL)
    plugin.fit(data, TrialRun(32))
    return plugin


def lesions_of(data):
    return Lesions(data, Bank.read(data), size=Architecture(Settings(patch=16), 1), run=TrialRun(1))


def beyond(boxes, shape):
    outside = np.ones(shape, bool)
    for x_min, y_min, x_max, y_max in boxes:
        x, y = MARGIN * (x_max - x_min) + 2, MARGIN * (y_max - y_min) + 2
        outside[max(0, int(y_min - y)) : int(np.ceil(y_max + y)), max(0, int(x_min - x)) : int(np.ceil(x_max + x))] = 0
    return outside


def test_beyond_the_margin_a_real_slice_stays_bit_for_bit(data, fitted):
    bank = fitted._bank
    for i in (i for i in range(len(data)) if len(data.boxes[i])):
        condition = data.condition(i)
        (drawn,) = fitted.sample([condition], [9])
        assert isinstance(drawn, Drawn)
        outside = beyond(condition.boxes, condition.spatial)
        every = range(len(bank) + len(bank.normals))
        same = [k for k in every if np.array_equal(drawn.image[:, outside], bank.image(k)[:, outside])]
        assert len(same) == 1
        assert not np.array_equal(drawn.image, bank.image(same[0]))
        np.testing.assert_array_equal(drawn.boxes, np.concatenate([condition.boxes, bank.own_lesions(same[0])[0]]))


def test_the_latent_changes_what_is_painted(data, fitted):
    condition = data.condition(0)
    bank, inside = fitted._bank, ~beyond(condition.boxes, condition.spatial)
    hosts = {}
    for seed in range(40):
        (drawn,) = fitted.sample([condition], [seed])
        host = bank.host(condition.boxes, condition.labels, np.random.default_rng(seed))
        hosts.setdefault(host, []).append(drawn.image[:, inside])
    several = [paints for paints in hosts.values() if len(paints) > 1]
    assert several
    assert all(not np.array_equal(a, b) for paints in several for a, b in itertools.pairwise(paints))


@pytest.mark.parametrize(("stop", "noise"), [(4, "normal"), (12, "uniform")])
def test_a_resumed_run_equals_an_uninterrupted_one(data, stop, noise):
    whole = Inpaint(**SMALL, noise=noise)
    whole.fit(data, TrialRun(24, seed=3))

    class Killed(TrialRun):
        def fraction(self, done):
            return 1.0 if done >= stop else done / 24

    run = Killed(24, seed=3)
    Inpaint(**SMALL, noise=noise).fit(data, run)
    again = Inpaint(**SMALL, noise=noise)
    again.fit(data, TrialRun(24, seed=3, state=torch.load(io.BytesIO(run.saved[1]), weights_only=True)["state"]))
    for name, value in whole.state_dict().items():
        assert np.array_equal(np.asarray(value), np.asarray(again.state_dict()[name])), name


def test_a_folder_holds_the_painter_and_the_slices_and_no_judge(fitted):
    names = set(fitted.state_dict())
    assert {name for name in names if name.startswith("bank.")} == {
        "bank.images", "bank.boxes", "bank.labels", "bank.counts", "bank.patients", "bank.masks",
        "bank.normals",
    }  # fmt: skip
    assert {name for name in names if not name.startswith("bank.")} == set(fitted._painter.state_dict())


def test_what_does_not_fit_is_refused(data, fitted):
    state = fitted.state_dict()
    with pytest.raises(BadInput, match="expected"):
        Inpaint(**{**SMALL, "width": 6}).load_state_dict(state, data.spec)
    with pytest.raises(BadInput, match="lack"):
        Inpaint(**SMALL).load_state_dict({k: v for k, v in state.items() if k != "bank.boxes"}, data.spec)
    with pytest.raises(MedaugError, match="neither fitted nor loaded"):
        next(Inpaint().sample([data.condition(0)], [1]))
    with pytest.raises(UsageError, match="power of two"):
        Inpaint(patch=24).fit(data, TrialRun(1))
    with pytest.raises(BadInput, match="not"):
        next(fitted.sample([Condition((16, 16), np.array([[1, 1, 5, 5]]), np.array([0]))], [1]))


@given(
    st.floats(4, 28), st.floats(4, 28), st.floats(3, 14), st.floats(3, 14), st.sampled_from([16, 32, 64]), st.booleans()
)
def test_a_box_lies_in_its_patch_where_it_lies_in_the_slice(x, y, w, h, pixels, mirrored):
    box = np.array([x, y, x + w, y + h], np.float32)
    square = square_around(box)
    square = Square(square.centre, square.side, mirrored)
    inside = square.inside(box[None], pixels)[0]
    scale = pixels / square.side
    assert inside[2:] - inside[:2] == pytest.approx((box[2:] - box[:2]) * scale, rel=1e-4)
    assert (inside[:2] + inside[2:]) / 2 == pytest.approx([pixels / 2] * 2, abs=1e-3)


def test_what_is_cut_and_put_back_is_what_was_there():
    y, x = np.indices((64, 64), dtype=np.float32)
    image = (0.5 + 0.3 * np.sin(x / 9) * np.cos(y / 11))[None].astype(np.float32)
    for box in ([20, 24, 32, 36], [4, 40, 44, 60], [30, 30, 35, 34]):
        box = np.array(box, np.float32)
        square = square_around(box)
        patch = cut([image], [square], 64)[0].numpy()
        assert np.abs(put_back(image, patch, square, box) - image).max() < 0.01


@pytest.mark.parametrize("side", [16.0, 18.5, 21.4, 25.0, 30.0, 64.0])
def test_a_patch_finer_than_the_image_is_put_back_where_it_belongs(side):
    """Its pixels are averaged by whole numbers, of which 64 is no multiple."""
    at = (np.arange(64) + 0.5) / 64 * side - side / 2
    patch = np.exp(-(at[:, None] ** 2 + at**2) / (2 * (side / 8) ** 2)).astype(np.float32)[None]
    box = np.array([48 - side / 4, 48 - side / 4, 48 + side / 4, 48 + side / 4], np.float32)
    drawn = put_back(np.zeros((1, 96, 96), np.float32), patch, Square((48.0, 48.0), side), box)[0]
    rows, columns = np.indices(drawn.shape) + 0.5
    middle = [float((drawn * places).sum() / drawn.sum()) for places in (rows, columns)]
    assert middle == pytest.approx([48, 48], abs=0.01)


def test_paint_shows_in_the_box_and_not_beyond(data):
    lesions = lesions_of(data)
    batch = lesions.places(np.random.default_rng(0), 6)
    assert batch.patches.shape == (6, 1, 16, 16)
    drawn = painted(batch, torch.full_like(batch.patches, 3.0))
    share = batch.where[:, :1]
    assert (drawn[share == 1] == 3).all()
    assert (drawn[share == 0] == batch.patches[share == 0]).all()
    assert (hole(batch)[share == 1] == 0).all()


def test_lesion_free_places_are_of_other_slices(data):
    lesions = lesions_of(data)
    for image, which in lesions.every:
        chosen = {lesions._host(image, which, turn) for turn in range(4)}
        assert image not in chosen or len(lesions.bank) == 1


def test_it_learns_to_paint_lesions_as_light_as_real_ones(training_seed):
    data = constructed(ImageSpec(1, (32, 32), ("lesion",)), n=24)
    plugin = Inpaint(**{**SMALL, "width": 8, "max_maps": 16, "batch": 8, "r1_every": 4, "lr": 0.01})
    plugin.fit(data, TrialRun(8 * 50, seed=training_seed))
    standing_out = []
    for i in range(12):
        condition = data.condition(i)
        for drawn in plugin.sample([condition] * bool(len(condition.boxes)), [i]):
            box = condition.boxes[0].round().astype(int)
            inside = drawn.image[0, box[1] : box[3], box[0] : box[2]].mean()
            standing_out.append(inside - np.median(drawn.image))
    assert np.median(standing_out) > 0.25  # real ones: 0.6


def test_masks_and_classes_are_told_in_the_patch():
    box, mask = np.array([8, 8, 16, 16], np.float32), np.zeros((32, 32), np.uint8)
    mask[8:16, 8:12] = 2
    squares = [square_around(box)] * 2
    told = told_maps(
        boxes=[box, box], squares=squares, told=[Told(mask, 1), Told()], pixels=16, by_mask=True, classes=2
    ).numpy()
    assert told.shape == (2, 4, 16, 16)
    assert told[0, 1, 4:12, 4:8].min() == 1
    assert told[0, 1].sum() == 32
    assert told[0, 2:].mean((1, 2)).tolist() == [0, 1]
    assert told[1, 2:].max() == 0
    assert 32 < told[1, 1].sum() < 64  # an ellipse in the box


def test_patches_in_training_are_of_the_wanted_range(data):
    real = lesions_of(data).real(np.random.default_rng(1), 8)
    assert isinstance(real, Batch)
    assert real.patches.min() >= -1
    assert real.patches.max() <= 1
