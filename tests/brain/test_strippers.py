"""Strippers as plugins: a stranger's through the whole command line, its faults, and published networks' layouts."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from distributions import medaug as run_plugins
from distributions import write_distribution
from PIL import Image

from medaug_cli import registry
from medaug_cli.brain import extraction as brain
from medaug_cli.brain.extraction import extract_brain
from medaug_cli.errors import BadInput, MissingPlugin
from medaug_cli.plugin import Capabilities, Extracted
from medaug_cli.testing import check_stripper
from medaug_cli.testing.strippers import head
from medaug_plugins.strippers import deepbet, hdbet, synthstrip

GOOD = """
from dataclasses import dataclass
from typing import ClassVar
from medaug_cli.plugin import Capabilities, setting

@dataclass
class Threshold:
    \"\"\"Take what is brighter than a level.\"\"\"
    level: float = setting(30.0, help="Grey value", minimum=0.0)
    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2, 3))

    def extract(self, image, spacing, plane):
        from scipy import ndimage
        return ndimage.binary_opening(image > self.level, iterations=3)
"""


def test_a_strangers_stripper_is_listed_checked_and_used(tmp_path):
    entries = {"threshold": "Threshold"}
    site = write_distribution(tmp_path / "site", "medaug-threshold", GOOD, entries, "medaug.strippers")
    listed = json.loads(run_plugins(tmp_path, "plugins", "--json", plugins=[site]))["plugins"]
    assert ("stripper", "threshold") in {(row["kind"], row["name"]) for row in listed}
    assert "meets the contract" in run_plugins(tmp_path, "plugins", "check", "threshold", plugins=[site])
    (tmp_path / "scans").mkdir()
    image, _, _ = head(2)
    for name in "abc":
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / f"scans/{name}.png")
    rows = "".join(f"{name},{name},60,80,90,110\n" for name in "abc")
    (tmp_path / "boxes.csv").write_text("image,patient,x_min,y_min,x_max,y_max\n" + rows, encoding="utf-8")
    run_plugins(
        tmp_path, "preprocess", "scans", "--boxes", "boxes.csv", "--size", "64", "--split", "1,0,0", "--strip",
        "threshold", "--set", "level=60", "--keep-masks", "kept", plugins=[site],
    )  # fmt: skip
    report = json.loads((tmp_path / "preprocess.json").read_text(encoding="utf-8"))
    assert {each["strip"] for each in report["slices"]} == {"threshold"}
    kept = np.asarray(Image.open(tmp_path / "kept/a.png")) > 0
    assert 0.2 < kept.mean() < 0.7


@dataclass
class Small:
    """Make a mask that does not fit."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2, 3))

    def extract(self, image, spacing, plane):
        return np.ones((2,) * image.ndim)


@dataclass
class Fails(Small):
    """Fail."""

    def extract(self, image, spacing, plane):
        raise ValueError("no luck")


@dataclass
class Unsure(Small):
    """Find the brain, and say that it may be wrong."""

    def extract(self, image, spacing, plane):
        return Extracted(image > 90, {"agreement": 0.3})


@dataclass
class Immeasurable(Small):
    """Give a measure that is no number."""

    def extract(self, image, spacing, plane):
        return Extracted(image > 90, {"volume_ml": float("nan")})


@dataclass
class Nowhere(Small):
    """Give a mask that holds no numbers."""

    def extract(self, image, spacing, plane):
        return np.full(image.shape, np.nan, np.float32)


@dataclass
class Changes(Small):
    """Write into the image."""

    def extract(self, image, spacing, plane):
        image[:] = 0
        return image > 0


@pytest.mark.parametrize(
    ("stripper", "words"),
    [
        (Small, r"mask of shape \(2, 2\)"),
        (Fails, "ValueError: no luck"),
        (Immeasurable, "the measure volume_ml is not a finite number"),
        (Nowhere, "values that are not finite"),
    ],
)
def test_a_strippers_faults_are_named(monkeypatch, stripper, words):
    monkeypatch.setattr(brain, "_built", lambda name, settings: stripper())
    with pytest.raises(BadInput, match=words):
        extract_brain(head(2)[0], "it", (1.0, 1.0))
    failed = [one.sentence for one in check_stripper(stripper) if not one.ok]
    assert failed


def test_a_stripper_that_is_unsure_is_not_believed(monkeypatch):
    monkeypatch.setattr(brain, "_built", lambda name, settings: Unsure())
    found = extract_brain(head(2)[0], "it", (1.0, 1.0))
    assert found.doubtful
    assert "agree in 0.30" in found.reason


def test_the_contract_refuses_a_stripper_that_changes_its_image():
    failed = [one.sentence for one in check_stripper(Changes) if not one.ok]
    assert any("changes the image" in sentence for sentence in failed)


@pytest.mark.parametrize("name", ["hd-bet", "synthstrip", "deepbet"])
def test_weights_that_are_not_there_are_named(tmp_path, name):
    with pytest.raises(MissingPlugin, match="holds no weights"):
        registry.build("stripper", name, {"weights": str(tmp_path)})
    with pytest.raises(MissingPlugin, match="SynthStrip has no weights: name their place with --set weights=PATH"):
        registry.build("stripper", "synthstrip", {})


def test_weights_of_which_some_are_not_there_are_named(tmp_path):
    for name in ("model.pt", "0.model", "1.model"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        MissingPlugin, match=r"only model\.pt of deepbet; expected a folder with bbox_model\.pt and mode"
    ):
        registry.build("stripper", "deepbet", {"weights": str(tmp_path)})
    with pytest.raises(MissingPlugin, match=r"only 0\.model, 1\.model of HD-BET; expected a folder with 3 of 0\.model"):
        registry.build("stripper", "hd-bet", {"weights": str(tmp_path), "networks": "3"})
    with pytest.raises(MissingPlugin, match=r"only 0\.model of HD-BET"):
        registry.build("stripper", "hd-bet", {"weights": str(tmp_path / "0.model"), "networks": "2"})
    assert registry.build("stripper", "hd-bet", {"weights": str(tmp_path), "networks": "2"})


def test_auto_takes_deepbet_where_it_is_ready(monkeypatch, tmp_path):
    def build(name, settings):
        if name == "deepbet":
            raise MissingPlugin("deepbet has no weights")
        return name

    monkeypatch.setattr(brain, "_built", build)
    assert brain.best_for_volumes() == "brain3d"
    monkeypatch.setattr(brain, "_built", lambda name, settings: name)
    assert brain.best_for_volumes() == "deepbet"


def random_weights(shapes, seed=0):
    """Return tensors of the given shapes, scaled so that a signal keeps its size."""
    generator = torch.Generator().manual_seed(seed)
    scale = {name: max(1, np.prod(shape[1:])) ** -0.5 for name, shape in shapes.items()}
    return {name: torch.randn(shape, generator=generator) * scale[name] for name, shape in shapes.items()}


def hdbet_shapes(base=2):
    """Return the names and shapes of HD-BET's weights; the published ones have 21 maps where these have 2."""
    shapes = {"init_conv.weight": (base, 1, 3, 3, 3), "seg_layer.weight": (2, 2 * base, 1, 1, 1)}

    def norm(name, maps):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (maps,)

    def conv(name, maps, out, side=3):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, maps, side, side, side), (out,)

    for level in range(1, 6):
        maps = base * 2 ** (level - 1)
        for number in (1, 2):
            norm(f"context{level}.bn_{number}", maps)
            conv(f"context{level}.conv{number}", maps, maps)
        if level < 5:
            norm(f"down{level}.bn", maps)
            conv(f"down{level}.downsample", maps, 2 * maps)
            up = base * 2 ** (5 - level)
            conv(f"up{level}.upsample_conv", up, up // 2)
            norm(f"up{level}.bn", up // 2)
            if level < 4:
                conv(f"loc{level}.conv1", up, up)
                norm(f"loc{level}.bn_1", up)
                conv(f"loc{level}.conv2", up, up // 2, 1)
                norm(f"loc{level}.bn_2", up // 2)
    norm("bn_after_context5", 16 * base)
    for number in (1, 2):
        conv(f"end_conv_{number}", 2 * base, 2 * base)
        norm(f"end_conv_{number}_bn", 2 * base)
    shapes["init_conv.bias"] = (base,)
    return shapes


def synthstrip_shapes(levels=6, maps=2):
    """Return the names and shapes of SynthStrip's weights; the published ones have 16 to 64 maps."""
    shapes, before = {}, 1

    def conv(name, out):
        nonlocal before
        shapes[f"{name}.conv.weight"], shapes[f"{name}.conv.bias"] = (out, before, 3, 3, 3), (out,)
        before = out

    for level in range(levels):
        for number in (0, 1):
            conv(f"encoder.{level}.{number}", maps)
    for level in range(levels):
        for number in (0, 1):
            conv(f"decoder.{level}.{number}", maps)
        before += maps
    for number, out in enumerate((maps, maps, 1)):
        conv(f"remaining.{number}", out)
    return shapes


def test_hd_bet_takes_weights_of_its_layout_from_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(hdbet, "LEAST", 32)
    for fold in range(2):
        torch.save(random_weights(hdbet_shapes(), fold), tmp_path / f"{fold}.model")
    stripper = registry.build("stripper", "hd-bet", {"weights": str(tmp_path), "networks": "2"})
    image, _, spacing = head(3)
    spacing = tuple(step / 4 for step in spacing)  # a sixty-fourth of the work
    mask = stripper.extract(image, spacing, None).mask
    assert mask.shape == image.shape
    assert 0 < mask.sum() < mask.size
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "0.model")
    with pytest.raises(BadInput, match="HD-BET's first release"):
        stripper.extract(image, spacing, None)
    torch.save([print], tmp_path / "0.model")
    with pytest.raises(BadInput, match="holds no weights of HD-BET"):
        stripper.extract(image, spacing, None)


def test_hd_bet_halves_and_doubles_as_published():
    weights = random_weights(hdbet_shapes())
    logits = hdbet.network(torch.randn(1, 1, 32, 48, 32), weights)
    assert logits.shape == (1, 2, 32, 48, 32)
    changed = weights | {"context5.conv2.bias": weights["context5.conv2.bias"] + 1}  # the instance norm takes it away
    noise = torch.randn(1, 1, 32, 32, 32)
    assert torch.allclose(hdbet.network(noise, changed), hdbet.network(noise, weights), atol=1e-3)


def test_synthstrip_takes_weights_of_its_layout_from_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(synthstrip, "LEAST", 64)
    weights = {name: value * 0 for name, value in random_weights(synthstrip_shapes()).items()}
    weights["encoder.0.1.conv.weight"][0, 0, 1, 1, 1] = weights["encoder.0.0.conv.weight"][0, 0, 1, 1, 1] = 1
    weights["remaining.0.conv.weight"][0, 2, 1, 1, 1] = weights["remaining.1.conv.weight"][0, 0, 1, 1, 1] = 1
    weights["remaining.2.conv.weight"][0, 0, 1, 1, 1], weights["remaining.2.conv.bias"][0] = -10, 4
    torch.save({"model_state_dict": weights}, tmp_path / "synthstrip.1.pt")  # 4 - 10 times the grey value
    stripper = registry.build("stripper", "synthstrip", {"weights": str(tmp_path / "synthstrip.1.pt"), "border": "0"})
    image, _, spacing = head(3)
    spacing = tuple(step / 2 for step in spacing)  # an eighth of the work
    image[:20], image[:, :30] = 0, 0  # an image that would betray a flip
    mask = stripper.extract(image, spacing, None).mask
    bright = image > 0.4 * np.percentile(image[image > 0], 99)
    assert 2 * (mask & bright).sum() / (mask.sum() + bright.sum()) > 0.85
    torch.save({"model_state_dict": {"a": torch.zeros(1)}}, tmp_path / "synthstrip.1.pt")
    with pytest.raises(BadInput, match="not the weights of SynthStrip"):
        stripper.extract(image, spacing, None)


class Bright(torch.nn.Module):
    """A stand-in network that calls brain what is brighter than the mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        probability = torch.sigmoid((x - 0.449) * 40)
        return torch.cat([1 - probability, probability], 1)


def test_deepbet_runs_the_two_networks_and_finds_its_way_back(tmp_path, monkeypatch):
    monkeypatch.setattr(deepbet, "LARGE", (96, 96, 96))
    for name in deepbet.FILES:
        torch.jit.script(Bright()).save(tmp_path / name)
    stripper = registry.build("stripper", "deepbet", {"weights": str(tmp_path)})
    image = np.zeros((40, 60, 50), np.float32)
    image[8:20, 25:50, 6:30] = 100  # off the middle on every axis
    mask = stripper.extract(image, (3.0, 3.0, 3.0), None).mask
    assert 2 * (mask & (image > 0)).sum() / (mask.sum() + (image > 0).sum()) > 0.97
    (tmp_path / "model.pt").write_bytes(b"no network")
    deepbet._network.cache_clear()
    with pytest.raises(BadInput, match="not a network of deepbet"):
        stripper.extract(image, None, None)


def test_the_installed_deepbet_finds_a_brain():
    try:
        stripper = registry.build("stripper", "deepbet", {})
    except MissingPlugin:
        pytest.skip("deepbet is not installed")
    image, truth, spacing = head(3)
    mask = stripper.extract(image, spacing, None).mask
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
