"""`synthesize --into`: drawn lesions are put into whole images, and each of these says where it comes from."""

import numpy as np
import pytest
from conftest import make_records, make_store
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.pasting import NoRoom
from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.store import Record, StoreInfo, StoreWriter, digest_patient, open_store, training_examples
from medaug_cli.synthesis import SynthesisOptions, drawing, rehearse, synthesize

pytestmark = pytest.mark.usefixtures("tiny_plugins")
WHOLE = {2: (36, 40), 3: (18, 24, 22)}


def regions(dims, spacing):
    """Yield records of grey regions with a light box in the middle, and one without a lesion."""
    rng = np.random.default_rng(0)
    for i in range(6):
        image, box = rng.integers(90, 110, (1, *[16] * dims)), [5] * dims + [11] * dims
        if i < 5:
            image[(0, *[slice(5, 11)] * dims)] += 80
        boxes = np.array([box] if i < 5 else [], np.float32).reshape(-1, 2 * dims)
        yield Record(f"r{i}", image.astype(np.uint8), boxes, ["lesion"] * len(boxes), f"p{i}", "train", spacing=spacing)


def whole(path, dims, *, spacing=None, masks=True, labels=("lesion",)):
    """Publish a store of grey images in air, with a lesion each but for one; the last is held out."""
    rng, writer = (
        np.random.default_rng(1),
        StoreWriter(
            path, StoreInfo(tool_version="0", command="preprocess", settings={}, seed=0, label_names=list(labels)), {}
        ),
    )
    for i in range(4):
        image, mask = np.zeros((1, *WHOLE[dims]), np.uint8), np.zeros(WHOLE[dims], np.uint8)
        image[(0, *[slice(2, -2)] * dims)] = rng.integers(95, 105, [side - 4 for side in WHOLE[dims]])
        boxes = np.array([[3] * dims + [7] * dims] if i else [], np.float32).reshape(-1, 2 * dims)
        if i:
            image[(0, *[slice(3, 7)] * dims)], mask[(slice(3, 7),) * dims] = 180, 1
        record = Record(f"w{i}", image, boxes, [labels[0]] * len(boxes), f"q{i}", "test" if i == 3 else "train",
                        mask=mask if masks else None, spacing=spacing, details={"file": f"w{i}.nii"})  # fmt: skip
        writer.add(i, [record])
    return writer.publish()


def trained(folder, dims, spacing=None):
    make_store(folder / "real.h5", regions(dims, spacing))
    train_generator(folder / "real.h5", "tiny", RunOptions(folder / "gan", device="cpu", precision="32"), kimg=0.008)
    return folder


def run(folder, name="new.h5", n=5, **changed):
    options = {"into": folder / "whole.h5", "jitter": 0.0, "device": "cpu"} | changed
    return synthesize(SynthesisOptions(n, folder / "gan", folder / name, **options))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("blending", ["poisson", "soft"])
def test_lesions_are_put_into_the_images_of_a_store(tmp_path, dims, blending):
    spacing = (2.0,) * dims
    trained(tmp_path, dims, spacing)
    hosts = whole(tmp_path / "whole.h5", dims, spacing=(3.0,) * dims)
    store = run(tmp_path, blending=blending)
    assert store.images.shape == (5, 1, *WHOLE[dims])
    assert set(store.sources) == {"tiny"}
    assert set(store.splits) == {"train"}
    for i, details in enumerate(store.details):
        host = hosts.ids.index(details["host"])
        assert host < 3
        assert details["file"] == f"w{host}.nii"
        assert details["condition"] in {f"r{k}" for k in range(5)}
        assert len(store.boxes[i]) == len(hosts.boxes[host]) + 1
        new = store.boxes[i][-1]
        assert new[dims:] - new[:dims] == pytest.approx(4)  # 6 of 2 mm
        assert details["lesions"] == [pytest.approx(new.tolist(), abs=1e-3)]
        changed = store.images[i, 0] != hosts.images[host, 0]
        assert 0 < changed.sum() <= 8**dims
        assert np.array_equal(store.masks[i] > 0, (hosts.masks[host] > 0) | (store.masks[i] != hosts.masks[host]))
        assert store.spacing_of(i) == [3.0] * dims
    seen = set(store.info.generators[0].training_patients)
    assert {digest_patient(f"q{i}") for i in range(3)} <= seen
    assert digest_patient("q3") not in seen
    assert training_examples(hosts, [store], hosts.annotated).synthetic.sum() == 5


def test_blocks_parts_and_more_lesions(tmp_path, monkeypatch):
    trained(tmp_path, 3)
    hosts = whole(tmp_path / "whole.h5", 3)
    first, two = run(tmp_path), run(tmp_path, "two.h5", lesions=2)
    own = [len(hosts.boxes[hosts.ids.index(details["host"])]) for details in two.details]
    assert [len(boxes) for boxes in two.boxes] == [n + 2 for n in own]
    assert all(len(details["condition"]) == 2 for details in two.details)
    monkeypatch.setattr(drawing, "BLOCK", 2)
    for part in (1, 0):
        joined = run(tmp_path, "joined.h5", num_parts=2, part_id=part, batch=3)
    assert joined.hash == first.hash
    assert run(tmp_path, "joined.h5", resume=True, num_parts=1).hash == first.hash
    with pytest.raises(UsageError, match="other settings"):
        run(tmp_path, "joined.h5", resume=True, blending="soft")


def test_a_lesion_without_room_gives_way_to_another(tmp_path, monkeypatch):
    trained(tmp_path, 2)
    whole(tmp_path / "whole.h5", 2)
    tried, put = [], drawing.hosted

    def hosted(hosts, regions, ids, seed, number):
        tried.append(ids)
        if len(tried) == 2:
            raise NoRoom("no room")
        return put(hosts, regions, ids, seed, number)

    monkeypatch.setattr(drawing, "hosted", hosted)
    said = []
    store = run(tmp_path, n=3, announce=said.append)
    assert len(tried) == 4
    assert "image 1: no room; another is drawn" in said
    assert [details["condition"] for details in store.details] == [tried[0][0], tried[2][0], tried[3][0]]


def test_what_is_taken_for_granted_is_said(tmp_path):
    trained(tmp_path, 2)
    whole(tmp_path / "whole.h5", 2, labels=("met",))
    said = []
    options = SynthesisOptions(2, tmp_path / "gan", tmp_path / "x.h5", into=tmp_path / "whole.h5", announce=said.append)
    assert rehearse(options)["images"] == 2
    words = "\n".join(said)
    assert "tiny draws 2 regions of 16x16" in words
    assert "put into 3 training images of" in words
    assert "a region's pixel becomes one pixel" in words
    assert "the mask of a new lesion is the ellipse or ellipsoid in its box" in words
    assert run(tmp_path, n=2).spec.label_names == ("met",)


def test_two_stores_of_one_name_are_both_remembered(tmp_path):
    trained(tmp_path, 2)
    (tmp_path / "other").mkdir()
    hosts = whole(tmp_path / "other" / "real.h5", 2)
    like = open_store(tmp_path / "real.h5")
    asked = {"into": hosts.path, "like": like.path}
    store = run(tmp_path, **asked)
    assert store.info.inputs == {"real.h5": like.hash, "real.h5 (--into)": hosts.hash}
    assert run(tmp_path, resume=True, **asked).hash == store.hash
    again = make_store(tmp_path / "again" / "real.h5", regions(2, (1.0, 1.0)))
    with pytest.raises(UsageError, match="with other settings"):
        run(tmp_path, resume=True, **asked | {"like": again.path})


def test_only_whole_images_lack_what_the_generator_does_not_know(tmp_path):
    trained(tmp_path, 2)
    whole(tmp_path / "whole.h5", 2)
    like = make_store(tmp_path / "masked" / "real.h5", make_records(masks=True)).path
    said = {into: [] for into in (None, tmp_path / "whole.h5")}
    for into, lines in said.items():
        rehearse(
            SynthesisOptions(2, tmp_path / "gan", tmp_path / "new.h5", like=like, into=into, announce=lines.append)
        )
    lacking = [any("its images go without" in line for line in lines) for lines in said.values()]
    assert lacking == [True, False]
    assert any("the mask of a new lesion is the ellipse" in line for line in lines)


def test_regions_that_are_coarser_are_said(tmp_path):
    trained(tmp_path, 2, (2.0, 2.0))
    whole(tmp_path / "whole.h5", 2, spacing=(1.0, 0.8))
    said = []
    rehearse(SynthesisOptions(2, tmp_path / "gan", tmp_path / "x.h5", into=tmp_path / "whole.h5", announce=said.append))
    assert any(
        "up to 2.5 times as wide as one of these images: new lesions are as much blurred" in line for line in said
    )


def test_the_command_line(tmp_path, monkeypatch):
    trained(tmp_path, 2)
    whole(tmp_path / "whole.h5", 2, masks=False)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["synthesize", "--n", "3", "--into", "whole.h5", "--blending", "soft", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    store = open_store(tmp_path / "synthetic.h5")
    assert store.masks is None
    assert store.info.settings["blending"] == "soft"
    assert set(store.info.inputs) == {"boxes.json", "whole.h5"}


@pytest.mark.parametrize(
    ("dims", "labels", "changed", "error", "words"),
    [
        (3, ("lesion",), {}, BadInput, "whole.h5 holds 3D images of 1 channels, tiny draws 2D images"),
        (2, ("cyst", "met"), {}, BadInput, "knows lesions called cyst, met, but tiny draws lesion"),
        (2, ("lesion",), {"classes": {"ill": 2}, "like": "real.h5", "n": None}, UsageError, "--class asks for"),
        (2, ("lesion",), {"lesions": 2, "into": None}, UsageError, "need --into"),
        (2, ("lesion",), {"into": "none.h5"}, BadInput, "none.h5 does not exist"),
        (2, ("lesion",), {"lesions": 40}, BadInput, "none of the 3 training images of .*whole.h5, 40x36 pix"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(tmp_path, dims, labels, changed, error, words):
    trained(tmp_path, 2)
    whole(tmp_path / "whole.h5", dims, labels=labels)
    named = {name: tmp_path / value for name, value in changed.items() if name in ("into", "like") and value}
    with pytest.raises(error, match=words):
        run(tmp_path, **{**changed, **named})
    assert not list(tmp_path.glob("new.h5*"))
