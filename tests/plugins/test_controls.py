"""The controls: real images repeated, real lesions pasted, lesions painted, each in the asked box and nowhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug_cli.plugin import MARGIN, BadInput, Condition, ImageSpec, faded
from medaug_cli.registry import build
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.controls import CopyPaste, Duplicate, Procedural
from medaug_plugins.controls.lesions import pasted
from medaug_plugins.hosts import Bank, aligned, healed

CONTROLS = (Duplicate, CopyPaste, Procedural)


def fitted(cls, data, **settings):
    plugin = cls(**settings)
    plugin.fit(data, TrialRun(1))
    return plugin


@pytest.fixture(scope="module")
def data():
    return constructed(ImageSpec(1, (32, 32), ("lesion",)))


def beyond(boxes, shape, grow):
    """Return the pixels farther from every box than `grow` of its sides (and a pixel)."""
    outside = np.ones(shape, bool)
    for x_min, y_min, x_max, y_max in boxes:
        x, y = grow * (x_max - x_min) + 2, grow * (y_max - y_min) + 2
        rows = slice(max(0, int(y_min - y)), int(np.ceil(y_max + y)))
        outside[rows, max(0, int(x_min - x)) : int(np.ceil(x_max + x))] = False
    return outside


def test_a_duplicate_of_unchanged_boxes_is_the_image_itself(data):
    plugin = fitted(Duplicate, data, contrast=0.0, brightness=0.0)
    indices = [i for i in range(len(data)) if len(data.boxes[i])][:4]
    drawn = plugin.sample([data.condition(i) for i in indices], range(4))
    for i, each in zip(indices, drawn, strict=True):
        np.testing.assert_allclose(each.image, data.read([i])[0], atol=1e-6)


@pytest.mark.parametrize("cls", [CopyPaste, Procedural])
def test_outside_a_soft_margin_a_real_slice_stays_bit_for_bit_with_its_own_lesions(data, cls):
    plugin = fitted(cls, data)
    bank = plugin._bank
    for i in (i for i in range(len(data)) if len(data.boxes[i])):
        condition = data.condition(i)
        (drawn,) = plugin.sample([condition], [5])
        outside, inside = (beyond(condition.boxes, condition.spatial, grow) for grow in (MARGIN, 0))
        every = range(len(bank) + len(bank.normals))
        same = [k for k in every if np.array_equal(drawn.image[:, outside], bank.image(k)[:, outside])]
        assert len(same) == 1
        assert not np.array_equal(drawn.image[:, ~inside], bank.image(same[0])[:, ~inside])
        boxes, labels = bank.own_lesions(same[0])
        np.testing.assert_array_equal(drawn.boxes, np.concatenate([condition.boxes, boxes]))
        np.testing.assert_array_equal(drawn.labels, np.concatenate([condition.labels, labels]))


def heads(n=12, size=64):
    """Return `n` slices with a round head in the left or the right half and a lesion in its upper part."""
    y, x = np.indices((size, size)) + 0.5
    images, boxes = np.zeros((n, 1, size, size), np.uint8), []
    for i in range(n):
        centre = size * (0.3 if i % 2 else 0.7)
        images[i, 0][(x - centre) ** 2 + (y - size / 2) ** 2 < (size * 0.28) ** 2] = 100
        boxes.append(np.array([[centre - 6, 18, centre + 2, 26]], np.float32))
        images[i, 0, 18:26, int(centre - 6) : int(centre + 2)] = 200
    labels = [np.zeros(1, np.int64)] * n
    return Bank(images, boxes, labels, np.arange(n) // 2)


def test_a_host_holds_the_box_in_its_head_clear_of_its_own_lesion_and_is_another_patient():
    bank, rng = heads(), np.random.default_rng(0)
    low = np.array([[14, 34, 24, 44]], np.float32)  # in the left heads, below their lesion
    found = {bank.host(low, np.zeros(1, np.int64), rng) for _ in range(60)}
    assert len(found) > 2
    assert all(i % 2 == 1 for i in found)
    on_lesion = bank.boxes[1]
    like = bank.nearest(on_lesion, np.zeros(1, np.int64), 1)[0]
    assert bank.patients[bank.host(low, np.zeros(1, np.int64), rng)] != bank.patients[like]
    nowhere = np.array([[0, 0, 4, 4]], np.float32)
    assert 0 <= bank.host(nowhere, np.zeros(1, np.int64), rng) < len(bank)


def middles(normals):
    """Return regions that each have a lesion in the middle, as `preprocess --regions` cuts them, and some without."""
    images = np.full((6, 1, 16, 16), 90, np.uint8)
    images[:, 0, 5:11, 5:11] = 200 + np.arange(6)[:, None, None]
    masks = np.zeros((6, 16, 16), np.uint8)
    masks[:, 5:11, 5:11] = 1
    boxes = [np.array([[5, 5, 11, 11]], np.float32)] * 6
    free = np.full((normals, 1, 16, 16), 90, np.uint8) + np.arange(normals, dtype=np.uint8)[:, None, None, None]
    return Bank(
        images, boxes, [np.zeros(1, np.int64)] * 6, np.arange(6), masks=masks, normals=free if normals else None
    )


ASKED = Condition((16, 16), np.array([[4, 5, 11, 12]], np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize("control", [CopyPaste, Procedural])
@pytest.mark.parametrize("normals", [0, 4])
def test_where_every_image_has_a_lesion_in_the_way_it_is_not_named_twice(control, normals):
    """A host without a lesion is taken; where there is none, that which is hidden is not named."""
    bank, gan = middles(normals), control()
    gan._bank = bank
    drawn = list(gan.sample([ASKED] * 8, range(8)))
    for each in drawn:
        np.testing.assert_array_equal(each.boxes, ASKED.boxes)
        assert each.labels.tolist() == [0]
        outside = np.ones((16, 16), bool)
        outside[3:14, 2:13] = False
        assert (each.image[0][outside] * 255 >= 90 - 1e-3).all()
        if normals:
            assert not each.mask[outside].any()
    hosts = {round(float(each.image[0, 0, 0]) * 255) for each in drawn}
    assert (len(hosts) > 1) == (normals > 0)


def test_an_image_without_a_lesion_is_a_host_of_its_class_alone():
    bank = middles(4)
    bank.classes, bank.normal_classes = np.ones(6, np.int64), np.array([0, 0, 1, 0])
    rng = np.random.default_rng(0)
    assert {bank.host(ASKED.boxes, ASKED.labels, rng, 1) for _ in range(20)} == {len(bank) + 2}
    bank.normal_classes = np.zeros(4, np.int64)
    assert bank.host(ASKED.boxes, ASKED.labels, rng, 1) < len(bank)
    assert len({bank.host(ASKED.boxes, ASKED.labels, rng) for _ in range(40)}) == 4


def test_a_donor_is_not_stretched_far_while_there_are_lesions_like_it():
    bank = heads(40)
    bank.boxes[::2] = [np.array([[2, 2, 30, 30]], np.float32)] * 20
    rng = np.random.default_rng(0)
    for _ in range(40):
        i, k = bank.donor(np.array([0, 0, 9, 9], np.float32), 0, rng)
        assert np.ptp(bank.boxes[i][k][[0, 2]]) == pytest.approx(8)


def test_a_donor_is_of_another_patient_than_the_host_while_there_is_one():
    bank, rng, box = heads(8), np.random.default_rng(0), np.array([0, 0, 8, 8], np.float32)
    for host in range(8):
        assert all(bank.donor(box, 0, rng, host=host)[0] // 2 != host // 2 for _ in range(20))
    alone = heads(2)  # of one patient
    assert alone.donor(box, 0, rng, host=0)[0] in (0, 1)


def test_copy_paste_tells_whom_the_lesion_is_for(data, monkeypatch):
    hosts, told, donor, host = [], [], Bank.donor, Bank.host
    monkeypatch.setattr(Bank, "host", lambda *given: hosts.append(host(*given)) or hosts[-1])
    monkeypatch.setattr(Bank, "donor", lambda *given: told.append(given[-1]) or donor(*given))
    list(fitted(CopyPaste, data).sample([data.condition(0)] * 4, range(4)))
    assert len(hosts) == 4
    assert told == hosts


def test_with_a_mask_only_the_lesion_is_pasted():
    donor, host = np.full((1, 48, 48), 0.3, np.float32), np.full((1, 48, 48), 0.3, np.float32)
    mask = np.zeros((48, 48), np.float32)
    mask[10:30, 10:20] = 1  # the left half of its box
    donor[:, 10:30, 10:20] = 0.5
    donor[:, 10:30, 20:30] = 0.9  # another structure beside it
    own = box = np.array([10, 10, 30, 30], np.float32)
    image = pasted(host, box, donor, own, mask)
    assert image[0, 12:28, 12:17].mean() > 0.45
    assert image[0, 12:28, 25:29].max() < 0.32


def test_a_duplicate_of_mirrored_boxes_is_the_mirrored_image(data):
    plugin = fitted(Duplicate, data, contrast=0.0, brightness=0.0)
    for i in (i for i in range(len(data)) if len(data.boxes[i])):
        x_min, y_min, x_max, y_max = data.boxes[i].T
        mirrored = Condition((32, 32), np.stack([32 - x_max, y_min, 32 - x_min, y_max], 1), data.labels[i])
        (drawn,) = plugin.sample([mirrored], [1])
        np.testing.assert_allclose(drawn.image, data.read([i])[0][..., ::-1], atol=1e-6)


def test_aligning_puts_the_lesion_into_the_box():
    image = np.zeros((1, 64, 64), np.float32)
    own, asked = np.array([[10, 20, 18, 32]], np.float32), np.array([[30, 12, 46, 24]], np.float32)
    image[:, 20:32, 10:18] = 1
    moved = aligned(image, own, asked)
    assert moved[0, 13:23, 32:44].min() > 0.9
    assert moved[0, beyond(asked, (64, 64), 0)].max() < 0.1
    assert aligned(image, own, own) is image


def test_healing_removes_a_lesion_and_nothing_else():
    rows = np.linspace(0.2, 0.6, 40, dtype=np.float32)
    image = np.broadcast_to(rows[:, None], (1, 40, 40)).copy()
    plain, box = image.copy(), np.array([12, 14, 22, 26], np.float32)
    image[:, 14:26, 12:22] += 0.3
    filled = healed(image, box)
    assert np.abs(filled - plain).max() < 1e-5  # a ramp is filled exactly
    assert np.array_equal(filled[:, :11], image[:, :11])


def test_a_pasted_lesion_keeps_its_shape_and_takes_its_surroundings_brightness():
    donor, host = np.full((1, 48, 48), 0.7, np.float32), np.full((1, 48, 48), 0.3, np.float32)
    donor[:, 10:20, 10:20] = 0.9
    box = np.array([20, 22, 30, 32], np.float32)
    image = pasted(host, box, donor, np.array([10, 10, 20, 20], np.float32))
    assert image[0, 23:31, 21:29].mean() == pytest.approx(0.3 + 0.2, abs=0.05)
    assert np.array_equal(image[:, beyond([box], (48, 48), MARGIN)], host[:, beyond([box], (48, 48), MARGIN)])


@given(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(2, 14), st.integers(2, 14)))
def test_what_fades_is_whole_in_its_box_and_gone_beyond(corner):
    x, y, w, h = corner
    share = faded(np.array([x, y, x + w, y + h], np.float32), (64, 64))
    assert share[y : y + h, x : x + w].min() == 1
    assert share[beyond([(x, y, x + w, y + h)], (64, 64), MARGIN)].max(initial=0) == 0
    assert ((share >= 0) & (share <= 1)).all()


def test_lesions_come_from_other_images_and_of_the_asked_label():
    spec = ImageSpec(1, (32, 32), ("dark", "light"))
    two = constructed(spec)
    bank = Bank.read(two)
    for label in (0, 1):
        assert all(bank.labels[i][k] == label for i, k in bank.lesions(label))
    plugin = fitted(CopyPaste, two)
    condition = Condition((32, 32), np.array([[8, 8, 20, 20]], np.float32), np.array([1]))
    drawn = [drawn.image.tobytes() for drawn in plugin.sample([condition] * 6, range(6))]
    assert len(set(drawn)) >= 3


@pytest.mark.parametrize("cls", CONTROLS)
def test_weights_that_do_not_fit_are_refused(data, cls):
    state = fitted(cls, data).state_dict()
    with pytest.raises(BadInput, match=r"\(1, 32, 32\), expected \(1, 64, 64\)"):
        cls().load_state_dict(state, ImageSpec(1, (64, 64), ("lesion",)))
    with pytest.raises(BadInput, match="boxes"):
        cls().load_state_dict({k: v for k, v in state.items() if k != "boxes"}, data.spec)
    with pytest.raises(BadInput, match="not fit their images"):
        cls().load_state_dict(state | {"counts": state["counts"] + 1}, data.spec)


def test_eight_bits_are_kept_as_eight_bits():
    spec = ImageSpec(1, (16, 16), ("lesion",))
    data = constructed(spec)
    bank = Bank.read(data)
    again = Bank.from_state(bank.state_dict(), spec)
    boxed = [i for i in range(len(data)) if len(data.boxes[i])]
    for k, i in enumerate(boxed):
        np.testing.assert_allclose(again.image(k), data.read([i])[0], atol=1e-6)


def test_settings_are_checked():
    assert build("generator", "procedural", {"contrast": 0.5}).contrast == 0.5
    assert not build("generator", "copy-paste", {"flip": False}).flip


@pytest.mark.parametrize("rare", [9, 30, 77, 118])
def test_a_normal_image_of_a_rare_class_can_be_drawn_however_many_others_there_are(rare):
    data = constructed(ImageSpec(1, (16, 16), ("lesion",), class_names=("a", "b")), 120)
    for i in range(8, 120):
        data.boxes[i], data.labels[i] = data.boxes[i][:0], data.labels[i][:0]
    data.classes = (np.arange(120) == rare).astype(np.int64)
    plugin = fitted(CopyPaste, data)
    assert 64 <= len(plugin._bank.normals) <= 65
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    drawn = list(plugin.sample([Condition((16, 16), *nothing, None, kind) for kind in (0, 1)], [3, 4]))
    assert [each.image_class for each in drawn] == [0, 1]
    (host,) = np.flatnonzero(plugin._bank.normal_classes == 1)
    assert abs(plugin._bank.normals[host] - data.images[rare]).max() < 1e-6
