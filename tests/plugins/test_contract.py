"""Every installed plugin keeps the contract; and each way to break it is named in words."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny import TinyDetector, TinyGenerator

from medaug_cli import registry
from medaug_cli.answers import drawn_image
from medaug_cli.errors import BadInput, BrokenContract, UsageError
from medaug_cli.plugin import Capabilities, Condition, Drawn, GeneratorCapabilities, ImageSpec, setting
from medaug_cli.testing import check_detector, check_generator, check_plugin

GROWING = {"base": 64, "latent": 16, "max_maps": 16, "batches": "4:4"}
QUICK = {  # settings that suit a test; a plugin that is not listed is checked as it comes
    ("generator", "cpggan"): GROWING,
    ("generator", "pggan"): GROWING,
    ("generator", "pggan-class"): GROWING,
    ("generator", "regions"): {"base": 64, "latent": 8, "max_maps": 16, "batch": 4, "side": 16},
    ("generator", "boxgan"): {"base": 64, "latent": 8, "max_maps": 16, "embedding": 8, "batch": 4},
    ("detector", "yolov3"): {"backbone": "small", "width": 4, "head_width": 16, "batch": 4},
    ("detector", "retinanet"): {"backbone": "small", "width": 4, "pyramid": 64, "batch": 2},
    ("detector", "fcos"): {"backbone": "small", "width": 4, "pyramid": 64, "batch": 2},
    ("detector", "fasterrcnn"): {"backbone": "small", "width": 4, "pyramid": 64, "batch": 2},
}
QUICK["generator", "inpaint"] = {"patch": 16, "latent": 4, "width": 4, "max_maps": 8, "batch": 4, "r1_every": 2}
QUICK["classifier", "classifier"] = {"width": 4, "batch": 4}
QUICK["segmenter", "segmenter"] = {"width": 4, "batch": 4, "levels": 3}
INSTALLED = [(kind, name) for kind in registry.GROUPS for name in registry.names(kind)]


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep small networks from waiting for threads that a busy machine does not run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def words(results):
    return "\n".join(f"{'ok' if one.ok else 'FAILED'} {one.name}: {one.sentence}" for one in results)


@pytest.mark.parametrize(("kind", "name"), INSTALLED, ids=lambda value: value)
def test_every_installed_plugin_keeps_the_contract(kind, name):
    results = check_plugin(kind, name, QUICK.get((kind, name)))
    if any("has no weights" in one.sentence for one in results):
        pytest.skip(f"{name} has no weights here")
    assert all(one.ok for one in results), words(results)
    trained = {"fit", "resume", "reloaded", "batches", "channels", "sizes"}
    if kind == "stripper":
        assert any(one.name.endswith("blank") for one in results)
        return
    assert {"reader": {"suffixes", "nonsense"}}.get(kind, trained) <= {one.name for one in results}


@pytest.mark.parametrize(("check", "plugin"), [(check_generator, TinyGenerator), (check_detector, TinyDetector)])
def test_the_smallest_plugins_pass(check, plugin):
    results = check(plugin)
    assert all(one.ok for one in results), words(results)
    assert len({one.name for one in results}) == len(results) >= 14


def test_settings_reach_the_plugin(tiny_plugins):
    assert all(one.ok for one in check_plugin("generator", "tiny", {"amount": "0.5"}))
    results = check_plugin("generator", "tiny", {"amont": "0.5"})
    assert not results[-1].ok
    assert "amount" in results[-1].sentence
    with pytest.raises(UsageError, match="generator, detector, classifier, segmenter, reader, stripper"):
        check_plugin("painter", "tiny")


def failures(check, plugin):
    """Return {name of the check: sentence} of what a plugin breaks."""
    return {one.name: one.sentence for one in check(plugin) if not one.ok}


class NoDataclass:
    capabilities: ClassVar[Capabilities] = Capabilities()
    fit = state_dict = load_state_dict = sample = lambda self: None


@dataclass
class NoHelp(TinyGenerator):
    rate: float = 0.1


@dataclass
class NoDefault:
    rate: float = field(metadata={"help": "Step size"})
    capabilities: ClassVar[Capabilities] = Capabilities()
    fit = state_dict = load_state_dict = sample = lambda self: None


@dataclass
class AnyType(TinyGenerator):
    rate: Any = field(default=0.1, metadata={"help": "Step size"})


@dataclass
class NoSample:
    capabilities: ClassVar[Capabilities] = Capabilities()
    fit = state_dict = load_state_dict = lambda self: None


@dataclass
class FourD(TinyGenerator):
    capabilities: ClassVar[Capabilities] = Capabilities(dims=(4,))


@dataclass
class OddCondition(TinyGenerator):
    capabilities: ClassVar[Capabilities] = GeneratorCapabilities(condition="words")


@dataclass
class NoJson(TinyGenerator):
    ending: bytes = setting(b"x", help="Cannot be JSON")


@dataclass
class Silent(TinyGenerator):
    def fit(self, data, run):
        self.spec, self.mean, done = data.spec, data.read(range(4)).mean(0), 0
        while run.fraction(done) < 1:
            done += 4


@dataclass
class NoCheckpoint(TinyGenerator):
    def fit(self, data, run):
        self.spec, self.mean, done = data.spec, data.read(range(4)).mean(0), 0
        while run.fraction(done) < 1:
            done += 4
            run.log(done, loss=0.5)


@dataclass
class Endless(TinyGenerator):
    def fit(self, data, run):
        while run.fraction(0) < 1:
            pass


@dataclass
class TooLong(NoCheckpoint):
    def fit(self, data, run):
        super().fit(data, run)
        run.log(10_000, loss=0.5)


@dataclass
class TooShort(TinyGenerator):
    def fit(self, data, run):
        self.spec, self.mean = data.spec, data.read(range(4)).mean(0)
        run.log(1, loss=0.5)


@dataclass
class BadLoss(TinyGenerator):
    def fit(self, data, run):
        run.log(4, loss=float("nan"))


@dataclass
class Chatty(TinyGenerator):
    def fit(self, data, run):
        print("hello")
        super().fit(data, run)


@dataclass
class ArrayInCheckpoint(TinyGenerator):
    def _state(self, total, done):
        return {"total": total, "done": done}


@dataclass
class Forgetful(TinyGenerator):
    """Begins anew, and so ends with the same weights as an uninterrupted run."""

    def fit(self, data, run):
        run.state = None
        super().fit(data, run)


@dataclass
class Unseeded(TinyGenerator):
    def fit(self, data, run):
        super().fit(data, run)
        self.mean = self.mean + np.random.default_rng().random()


@dataclass
class CountsInTensors(TinyGenerator):
    def fit(self, data, run):
        self.spec, self.mean = data.spec, data.read(range(4)).mean(0)
        run.log(torch.tensor(4), loss=0.5)


@dataclass
class NamesInWeights(TinyGenerator):
    def state_dict(self):
        return {**super().state_dict(), "name": "tiny"}


@dataclass
class NotANumber(TinyGenerator):
    def state_dict(self):
        return {"mean": np.full_like(self.mean, np.nan)}


@dataclass
class AnyWeights(TinyGenerator):
    def load_state_dict(self, state, spec, device="cpu"):
        self.mean, self.spec = np.asarray(state.get("mean", 0.5)), spec


@dataclass
class LosesWeights(TinyGenerator):
    def load_state_dict(self, state, spec, device="cpu"):
        super().load_state_dict(state, spec, device)
        self.mean = np.zeros_like(self.mean)


@dataclass
class KeepsImages(TinyGenerator):
    """Keeps training images, in bytes, and does not say so."""

    def fit(self, data, run):
        super().fit(data, run)
        self.kept = np.rint(data.read([0, 3]) * 255).astype(np.uint8)

    def state_dict(self):
        return {**super().state_dict(), "kept": self.kept}

    def load_state_dict(self, state, spec, device="cpu"):
        super().load_state_dict(state, spec, device)
        self.kept = np.asarray(state["kept"])


class KeepsRows(KeepsImages):
    def fit(self, data, run):
        super().fit(data, run)
        self.kept = data.read([0, 3]).reshape(2, -1)


class KeepsChannelsLast(KeepsImages):
    capabilities = GeneratorCapabilities(channels=(3,))

    def fit(self, data, run):
        super().fit(data, run)
        self.kept = np.moveaxis(data.read([0, 3]), 1, -1)


@dataclass
class Changed(TinyGenerator):
    """Changes each image that a tiny generator draws."""

    def sample(self, conditions, seeds):
        for i, image in enumerate(super().sample(conditions, seeds)):
            yield self.change(image, i)


class Double(Changed):
    def change(self, image, i):
        return image.astype(np.float64)


class OneTooSmall(Changed):
    def change(self, image, i):
        return image[:, 1:]


class Signed(Changed):
    def change(self, image, i):
        return image * 2 - 1


class ByPlace(Changed):
    def change(self, image, i):
        return image * np.float32(1 - 0.1 * i)


class GlobalNoise(Changed):
    def change(self, image, i):
        return (image * np.random.random()).astype(np.float32)  # noqa: NPY002


class AlwaysGrey(Changed):
    def change(self, image, i):
        return np.full_like(image, 0.5)


class OneChannel(Changed):
    def change(self, image, i):
        return image[:1]


@dataclass
class BlindToBoxes(TinyGenerator):
    amount: float = setting(0.0, help="No box is drawn")


@dataclass
class Fewer(TinyGenerator):
    def sample(self, conditions, seeds):
        yield from list(super().sample(conditions, seeds))[:-1]


@dataclass
class SquareOnly(TinyGenerator):
    def fit(self, data, run):
        if len(set(data.spec.spatial)) > 1:
            raise ValueError("not square")
        super().fit(data, run)


@dataclass
class AsksAfterAll(TinyGenerator):
    """Says that it learns from images without annotation, and asks for the conditions of all."""

    capabilities: ClassVar[Capabilities] = GeneratorCapabilities(dims=(2,), channels=(1,), unannotated=True)

    def fit(self, data, run):
        assert all(data.condition(i) for i in range(len(data)))
        super().fit(data, run)


@dataclass
class CannotBegin(TinyGenerator):
    capabilities: ClassVar[Capabilities] = GeneratorCapabilities(dims=(2,), channels=(1,), continues=True)


@dataclass
class BeginsAnew(CannotBegin):
    def begin_with(self, other, spec, checkpoint):
        return ["everything"]


@dataclass
class RefusesOdd(TinyGenerator):
    def fit(self, data, run):
        if len(set(data.spec.spatial)) > 1:
            raise BadInput("squares only")
        super().fit(data, run)


@pytest.mark.parametrize(("plugin", "check", "said"), [
    (NoDataclass, "dataclass", "put @dataclass"),
    (NoDefault, "dataclass", "rate has no default"),
    (NoHelp, "dataclass", "rate has no help"),
    (AnyType, "dataclass", "of type Any"),
    (NoSample, "loads", "no method sample"),
    (FourD, "capabilities", "dims"),
    (OddCondition, "capabilities", "'words'"),
    (NoJson, "settings", "JSON"),
    (Silent, "fit", "never calls run.log"),
    (NoCheckpoint, "fit", "never calls run.checkpoint"),
    (Endless, "one step", "must grow"),
    (TooLong, "one step", "goes on to 10000"),
    (TooShort, "fit", "of what was asked for"),
    (BadLoss, "one step", "loss = nan"),
    (Chatty, "one step", "prints to stdout ('hello')"),
    (ArrayInCheckpoint, "one step", "no numpy arrays"),
    (Forgetful, "resume", "begins again at 4: fit must go on from run.state"),
    (Unseeded, "resume", "ends with other weights (mean)"),
    (CountsInTensors, "one step", "with a Tensor; `done` is an int"),
    (NamesInWeights, "weights", "'name': str"),
    (NotANumber, "weights", "not finite numbers in 'mean'"),
    (AnyWeights, "wrong weights", "takes a state without"),
    (KeepsImages, "sharing", "'kept' holds a training image; leave it out, or declare keeps_images"),
    (KeepsRows, "sharing", "'kept' holds a training image"),
    (KeepsChannelsLast, "sharing", "'kept' holds a training image"),
    (LosesWeights, "reloaded", "draw other images"),
    (Double, "fit", "float64; expected float32"),
    (OneTooSmall, "fit", "shape (1, 31, 32)"),
    (Signed, "fit", "expected 0 to 1"),
    (ByPlace, "batches", "its own seed"),
    (GlobalNoise, "batches", "its own seed"),
    (AlwaysGrey, "seeds", "6 of 6 images are the same"),
    (OneChannel, "channels", "expected (3, 32, 32)"),
    (BlindToBoxes, "conditions", "stay the same with other boxes"),
    (Fewer, "fit", "5 results for 6 inputs"),
    (SquareOnly, "sizes", "ValueError: not square"),
    (AsksAfterAll, "unannotated", "asks for the condition of an image that nobody annotated"),
    (CannotBegin, "continues", "no method begin_with"),
    (BeginsAnew, "continues", "everything is begun anew for equal images"),
])  # fmt: skip
def test_a_broken_generator_is_told_what_is_wrong(plugin, check, said):
    found = failures(check_generator, plugin)
    assert check in found, found
    assert said in found[check]


@pytest.mark.parametrize("name", ["early-stopped", "real-only", "x/slash", "tiny@2"])
def test_a_generator_has_a_name_that_a_study_can_say(name):
    assert "no study can name a generator" in failures(check_generator, name)["loads"]


def test_a_refusal_in_a_sentence_is_fine():
    results = check_generator(RefusesOdd)
    assert all(one.ok for one in results), words(results)
    assert "squares only" in results[-1].sentence


BOX = np.array([[2, 3, 10, 12]], np.float32)


def test_an_image_that_lacks_the_mask_which_others_have_is_refused():
    spec, image, label = ImageSpec(1, (16, 16), ("a",), masks=True), np.zeros((1, 16, 16), np.float32), np.zeros(1, int)
    condition = Condition((16, 16), BOX, label, np.ones((16, 16), np.uint8))
    with pytest.raises(BrokenContract, match="it says that it knows masks, and Drawn holds none"):
        drawn_image(Drawn(image, BOX, label), condition, spec, {"boxes", "mask"})
    assert drawn_image(Drawn(image, BOX, label), replace(condition, mask=None), spec, {"boxes", "mask"}).mask is None


def detecting(*found):
    """Return a detector class that finds the same on every image."""

    @dataclass
    class Detecting(TinyDetector):
        def predict(self, images):
            for _ in images:
                yield found

    return Detecting


@pytest.mark.parametrize(("found", "said"), [
    ((BOX, np.array([0.5], np.float32)), "(boxes, scores, labels)"),
    ((BOX.tolist(), np.array([0.5]), np.array([0])), "numpy arrays"),
    ((np.zeros(0, np.float32), np.zeros(0), np.zeros(0, int)), "also for 0"),
    ((BOX, np.array([0.5, 0.4]), np.array([0])), "expected (2, 4)"),
    ((BOX, np.array([0.5]), np.array([0, 0])), "with scores (1,) and labels (2,)"),
    ((BOX.astype(int), np.array([0.5]), np.array([0])), "expected floats"),
    ((BOX, np.array([0.5]), np.array([0.0])), "integers"),
    ((BOX * np.nan, np.array([0.5]), np.array([0])), "not finite"),
    ((BOX + 25, np.array([0.5]), np.array([0])), "outside the image"),
    ((BOX[:, [2, 1, 0, 3]], np.array([0.5]), np.array([0])), "high corner"),
    ((BOX, np.array([1.5]), np.array([0])), "outside 0 to 1"),
    ((BOX.repeat(2, 0), np.array([0.4, 0.5]), np.array([0, 0])), "best score first"),
    ((BOX, np.array([0.5]), np.array([2])), "0 to 1"),
])  # fmt: skip
def test_malformed_detections_are_named(found, said):
    broken = failures(check_detector, detecting(*found))
    assert said in "\n".join(broken.values()), broken


@dataclass
class InTrainingMode(TinyDetector):
    def predict(self, images):
        images = list(images)
        for boxes, scores, labels in super().predict(images):
            yield boxes, scores * np.float32(0.5 ** (len(images) > 1)), labels


@dataclass
class NeverEmpty(TinyDetector):
    def predict(self, images):
        for boxes, scores, labels in super().predict(images):
            if not len(boxes):
                raise IndexError("no box")
            yield boxes, scores, labels


@pytest.mark.parametrize(("plugin", "check", "said"), [
    (InTrainingMode, "batches", "evaluation mode"),
    (NeverEmpty, "detections", "IndexError: no box"),
    (TinyGenerator, "loads", "no method predict"),
])  # fmt: skip
def test_a_broken_detector_is_told_what_is_wrong(plugin, check, said):
    found = failures(check_detector, plugin)
    assert check in found, found
    assert said in found[check]


def test_detecting_nothing_at_all_is_allowed():
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    results = check_detector(detecting(*nothing))
    assert all(one.ok for one in results), words(results)
