"""Synthesis: image i depends on (seed, i) alone, and every image says where it comes from."""

import numpy as np
import pytest
from conftest import make_store
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, write_boxes
from medaug_cli.conditions import Template, choose, condition_of
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import ImageSpec, box_map, image_seed
from medaug_cli.runs import RunOptions, train_detector, train_generator
from medaug_cli.store import open_store
from medaug_cli.synthesis import SynthesisOptions, drawing, images_of_part, synthesize

pytestmark = pytest.mark.usefixtures("tiny_plugins")


@pytest.fixture
def gan(real, tmp_path):
    train_generator(real, "tiny", RunOptions(tmp_path / "gan", device="cpu", precision="32"), kimg=0.02)
    return tmp_path / "gan"


def run(gan, name, n=30, **changed):
    return synthesize(SynthesisOptions(n, gan, gan.parent / name, device="cpu", **changed))


def test_the_short_form_needs_nothing_else(gan, real):
    store = run(gan, "s.h5")
    assert len(store) == 30
    assert set(store.splits) == {"train"}
    assert set(store.sources) == {"tiny"}
    assert store.info.generators[0].training_store == open_store(real).hash
    assert {detail["condition"] for detail in store.details} <= set(open_store(real).ids)
    assert (store.seeds == [image_seed(0, i) for i in range(30)]).all()


def test_where_there_are_no_boxes_the_other_way_is_named(gan, real):
    """As of a store that nobody annotated, from which a generator that is told nothing learns."""
    image = ImageBoxes(id="a", width=16, height=16, boxes=[])
    write_boxes(real.with_name("boxes.json"), BoxesFile(version=1, images=[image]))
    with pytest.raises(BadInput, match="no boxes to draw images for; to draw images like those of a store give --like"):
        run(gan, "s.h5")
    real.with_name("boxes.json").unlink()
    with pytest.raises(UsageError, match=r"real.h5, which has no boxes.json beside it; .*--boxes, or a store .*--like"):
        run(gan, "s.h5")
    real.rename(real.with_name("other.h5"))
    with pytest.raises(UsageError, match=r"real.h5, which is no longer where it was; .*--boxes, or a store .*--like"):
        run(gan, "s.h5")


def test_parts_batches_and_longer_runs_give_the_same_images(gan, monkeypatch):
    whole = run(gan, "whole.h5")
    monkeypatch.setattr(drawing, "BLOCK", 7)
    for part in (2, 0, 1):
        joined = run(gan, "joined.h5", num_parts=3, part_id=part, batch=5)
    assert joined.hash == whole.hash
    longer = run(gan, "longer.h5", n=45, batch=1)
    assert (longer.images[:30] == whole.images).all()
    assert run(gan, "joined.h5", num_parts=3, part_id=1).hash == whole.hash
    other = run(gan, "other.h5", seed=1)
    assert (other.images != whole.images).any()


def test_a_finished_store_is_kept_by_resume(gan):
    first = run(gan, "s.h5").path.stat().st_mtime_ns
    assert run(gan, "s.h5", resume=True).path.stat().st_mtime_ns == first
    with pytest.raises(UsageError, match="--overwrite"):
        run(gan, "s.h5")
    with pytest.raises(UsageError, match="other settings"):
        run(gan, "s.h5", resume=True, jitter=0.2)
    assert len(run(gan, "s.h5", n=5, overwrite=True)) == 5


def test_boxes_of_another_size_are_scaled(gan, tmp_path):
    image = ImageBoxes(id="a", width=32, height=32, split="train", boxes=[LabelledBox(box=[8, 8, 16, 16])])
    write_boxes(tmp_path / "b.json", BoxesFile(version=1, images=[image]))
    store = run(gan, "s.h5", n=3, boxes=tmp_path / "b.json", jitter=0)
    assert all(np.array_equal(box, [[4, 4, 8, 8]]) for box in store.boxes)


def test_boxes_that_cannot_be_asked_for(gan, tmp_path):
    normal = ImageBoxes(id="a", width=16, height=16)
    write_boxes(tmp_path / "none.json", BoxesFile(version=1, images=[normal]))
    with pytest.raises(BadInput, match="has no boxes to draw images for"):
        run(gan, "s.h5", boxes=tmp_path / "none.json")
    (gan.parent / "boxes.json").unlink()
    with pytest.raises(UsageError, match="--boxes"):
        run(gan, "s.h5")
    assert not (tmp_path / "s.h5").exists()


def test_a_label_that_the_generator_does_not_know_is_named(tmp_path):
    make_store(tmp_path / "real.h5", labels=("glioma", "meningioma"))
    train_generator(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "gan", device="cpu", precision="32"), kimg=0.01)
    boxes = [LabelledBox(box=[1, 1, 5, 5], label="cyst")]
    image = ImageBoxes(id="a", width=16, height=16, split="train", boxes=boxes)
    write_boxes(tmp_path / "b.json", BoxesFile(version=1, images=[image]))
    with pytest.raises(BadInput, match=r"cyst.*glioma, meningioma"):
        run(tmp_path / "gan", "s.h5", boxes=tmp_path / "b.json")


corners = st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(2, 14), st.floats(2, 14))


@examples(80, deadline=None)
@given(boxes=st.lists(corners, min_size=1, max_size=4), jitter=st.floats(0.01, 0.5), index=st.integers(0, 10**6))
def test_changed_boxes_stay_inside_and_near(boxes, jitter, index):
    spec = ImageSpec(1, (64, 64), ("lesion",))
    own = np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], np.float32)
    template = Template("a", own, np.zeros(len(own), np.int64))
    condition = condition_of(template, spec, jitter, 3, index)
    again = condition_of(template, spec, jitter, 3, index)
    assert np.array_equal(condition.boxes, again.boxes)
    assert 1 <= len(condition.boxes) <= len(own)
    assert (condition.boxes >= 0).all()
    assert (condition.boxes <= 64).all()
    assert (condition.boxes[:, 2:] > condition.boxes[:, :2]).all()
    mirrored = own.copy()
    mirrored[:, [0, 2]] = 64 - own[:, [2, 0]]
    near = np.stack([own, mirrored])[:, None]
    sides = np.tile(own[:, 2:] - own[:, :2], 2)[None, None]
    moved = np.abs(condition.boxes[:, None, None] - near[:, 0])
    assert (moved <= 1.5 * jitter * sides[0] + 1e-3).all(-1).any((1, 2)).all()


def test_every_template_is_used_equally_often():
    choices = [Template(str(i), np.zeros((1, 4)), np.zeros(1)) for i in range(7)]
    used = [choose(choices, 0, i).id for i in range(21)]
    assert sorted(used) == sorted([str(i) for i in range(7)] * 3)
    assert used[:7] != used[7:14]


def test_box_map_covers_pixels_by_their_share():
    drawn = box_map(np.array([[1.5, 0, 3, 1]]), (2, 4))
    assert np.allclose(drawn, [[0, 0.5, 1, 0], [0, 0, 0, 0]])
    assert box_map(np.array([[0, 0, 1, 2, 1, 2]]), (2, 2, 2)).sum() == 2


def image(id, split=None, patient=None, size=(16, 16), box=(2, 2, 8, 8)):
    width, height = size
    boxes = [LabelledBox(box=list(box))] if box else []
    return ImageBoxes(id=id, width=width, height=height, split=split, patient=patient, boxes=boxes)


REFUSED = {  # images of a boxes.json -> what is said of them
    "of the test split": ([image("a", "train", "p0"), image("b", "test", "p5")], "image b is of the test split"),
    "of the validation split": ([image("v", "val", "p4")], "image v is of the val split"),
    "a test patient, no split": ([image("b", None, "p5")], "image b is of patient p5, which the generator was not"),
    "one of many": ([*(image(f"t{i}", "train") for i in range(9)), image("z", "test")], "image z is of the test split"),
    "a stranger": ([image("s", None, "somebody")], "patient somebody, which"),
    "of nobody, no split": ([image("n")], 'image n has neither a split nor .* the image "split": "train"'),
    "twice as wide": ([image("w", "train", size=(32, 16))], "image w is 32x16 pixels, the generator draws 16x16"),
    "a little higher": ([image("h", "train", "p0", (64, 66))], "the boxes would be stretched"),
    "turned": ([image("o", "train", size=(16, 16)), image("q", "train", size=(24, 48))], "image q is 24x48 pixels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_boxes_of_held_out_patients_and_of_other_shapes_are_refused(gan, tmp_path, case):
    images, said = REFUSED[case]
    write_boxes(tmp_path / "own.json", BoxesFile(version=1, images=images))
    with pytest.raises(BadInput, match=said):
        run(gan, "s.h5", boxes=tmp_path / "own.json")
    assert not (tmp_path / "s.h5").exists()


TAKEN = {
    "of the training split": [image("a", "train", "p0")],
    "said to be of the training split": [image("a", "train", "somebody")],
    "nobody's, said to be of the training split": [image("a", "train")],
    "a training patient's": [image("a", None, "p1")],
    "four times as large": [image("a", "train", size=(64, 64))],
    "a test image without a box": [image("a", "train", "p0"), image("b", "test", "p5", box=None)],
}


@pytest.mark.parametrize("case", TAKEN)
def test_boxes_that_nobody_holds_out_are_taken(gan, tmp_path, case):
    write_boxes(tmp_path / "own.json", BoxesFile(version=1, images=TAKEN[case]))
    assert len(run(gan, "s.h5", n=2, boxes=tmp_path / "own.json")) == 2


def test_a_detector_is_not_trained_on_boxes_of_patients_that_are_held_out(gan, real, tmp_path):
    write_boxes(tmp_path / "own.json", BoxesFile(version=1, images=[image("a", "train", "p5")]))
    drawn = run(gan, "s.h5", n=2, boxes=tmp_path / "own.json")
    with pytest.raises(BadInput, match=r"on 1 patients that .* holds out"):
        train_detector(
            real, "tiny", RunOptions(tmp_path / "d", device="cpu", precision="32"), synthetic=[drawn.path], steps=2
        )


@pytest.mark.parametrize("way", ["boxes", "like"])
def test_labels_that_are_drawn_by_another_name_are_said(gan, tmp_path, way):
    other = make_store(tmp_path / "other/real.h5", labels=("cyst", "mass"))
    told = []
    run(
        gan,
        "s.h5",
        n=2,
        announce=told.append,
        **{way: other.path.with_name("boxes.json") if way == "boxes" else other.path},
    )
    assert [line for line in told if "drawn and called" in line] == [
        "the generator knows lesions as lesion, and cyst, mass are drawn and called so; networks learn from them "
        "beside scans of preprocess --label lesion"
    ]


def test_boxes_below_a_pixel_are_said(gan, tmp_path):
    boxes = {"a": (0, 0, 4, 40), "b": (0, 0, 40, 40)}
    small = [image(name, "train", size=(128, 128), box=box) for name, box in boxes.items()]
    write_boxes(tmp_path / "own.json", BoxesFile(version=1, images=small))
    told = []
    run(gan, "s.h5", n=2, boxes=tmp_path / "own.json", announce=told.append)
    assert any("1 of 2 boxes are narrower than a pixel" in sentence for sentence in told)


@pytest.mark.parametrize(("n", "parts"), [(20, 2), (129, 2), (1000, 3), (128, 1)])
def test_what_parts_draw_adds_up(n, parts):
    each = [images_of_part(n, part, parts) for part in range(parts)]
    assert sum(each) == n
    assert max(each) - min(each) <= drawing.BLOCK
