"""Darknet's networks and weight files: the published sizes, and an interpreter of cfg files that must agree."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from darknet_cfg import Darknet, tiny_cfg, written, yolov3_cfg
from timm.models import cspnet

from medaug_cli.plugin import BadInput, ImageSpec, UsageError
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.detection.backbones import LEAK, STRIDES, Shortcut
from medaug_plugins.yolov3 import YOLOv3
from medaug_plugins.yolov3.cfg import cfg
from medaug_plugins.yolov3.darknet import convolutions, read_weights, weight_bytes
from medaug_plugins.yolov3.networks import build

FORMS: dict[str, dict[str, Any]] = {"yolov3": {}, "yolov3-spp": {"spp": True}, "yolov3-tiny": {"backbone": "tiny"}}
CFGS = {"yolov3": yolov3_cfg, "yolov3-spp": partial(yolov3_cfg, spp=True), "yolov3-tiny": tiny_cfg}
FLOATS = {"yolov3": 62_001_757, "yolov3-spp": 63_052_381, "yolov3-tiny": 8_858_734}  # for 80 classes, as published


def write_weights(net, path, *options, **named):
    path.write_bytes(weight_bytes(net, *options, **named))


def network(form: str, channels: int = 3, classes: int = 80, head_width: int = 512):
    chosen = {"backbone": "darknet53", "width": 16, "head_width": head_width, **FORMS[form]}
    return build(**chosen, channels=channels, classes=classes).eval()


@pytest.mark.parametrize("form", FORMS)
def test_the_published_sizes(form):
    with torch.device("meta"):
        net = network(form)
    norms = sum(m.num_features for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters + 2 * norms == Darknet(CFGS[form]()).count() == FLOATS[form]
    net.anchors = torch.ones(net.anchors.shape)
    assert Darknet(cfg(net, (64, 96), 3)).count() == FLOATS[form]
    assert {"yolov3": 61_949_149, "yolov3-spp": 62_998_749, "yolov3-tiny": 8_852_366}[form] == parameters
    counts = {"yolov3": (75, 23), "yolov3-spp": (76, 23), "yolov3-tiny": (13, 0)}[form]
    layers = [kind for kind, _ in Darknet(CFGS[form]()).layers]
    assert (layers.count("convolutional"), layers.count("shortcut")) == counts
    assert len(convolutions(net)) == counts[0]
    slopes = {m.negative_slope for m in net.modules() if isinstance(m, torch.nn.LeakyReLU)}
    assert slopes == {LEAK} == {0.1}


NARROWER = 8  # how many times; the published widths are counted above


@pytest.fixture
def narrow(monkeypatch):
    """Let timm make a narrower darknet53: the published one is sixty million weights to draw, write and read."""
    published = cspnet.model_cfgs["darknet53"]
    assert published.stem.out_chs == 32
    stem = replace(published.stem, out_chs=32 // NARROWER)
    stages = replace(published.stages, out_chs=tuple(maps // NARROWER for maps in published.stages.out_chs))
    monkeypatch.setitem(cspnet.model_cfgs, "darknet53", replace(published, stem=stem, stages=stages))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("form", "channels", "classes"), [("yolov3", 3, 80), ("yolov3-spp", 1, 2), ("yolov3-tiny", 3, 80)]
)
def test_a_file_in_the_order_of_the_cfg_gives_the_same_heads(tmp_path, form, channels, classes):
    narrower = {} if form == "yolov3-tiny" else {"narrower": NARROWER}
    other = Darknet(CFGS[form](classes, channels, **narrower))
    numbers = other.random(0)
    other.load(numbers)
    path = written(tmp_path / "random.weights", numbers)
    mine = network(form, channels, classes, 512 // NARROWER)
    assert read_weights(mine, path) == len(convolutions(mine))
    images = torch.rand(1, channels, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for raw, asked in zip(reversed(mine(images)), other(images), strict=True):
            b, _, h, w = asked.shape
            asked = asked.view(b, 3, 5 + classes, h, w).permute(0, 1, 3, 4, 2)
            assert float(asked.std()) > 0.1
            assert torch.allclose(raw, asked, atol=1e-4, rtol=1e-4)
    write_weights(mine, tmp_path / "again.weights", seen=1234)
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()
    again = Darknet(cfg(mine, (64, 96), channels))
    assert [kind for kind, _ in again.layers] == [kind for kind, _ in other.layers]
    again.load(numbers)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(again(images), other(images), strict=True))


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5)])
def test_headers_of_old_and_new_versions(tmp_path, version):
    other = Darknet(tiny_cfg(1, 1))
    numbers, mine = other.random(1), network("yolov3-tiny", 1, 1)
    read_weights(mine, written(tmp_path / "w", numbers, version))
    write_weights(mine, tmp_path / "again")
    assert (tmp_path / "again").read_bytes()[20:] == numbers.tobytes()


def test_a_backbone_alone_and_another_number_of_classes(tmp_path):
    other, mine = Darknet(tiny_cfg(80, 1)), network("yolov3-tiny", 1, 2)
    numbers = other.random(2)
    heads = {name: value.clone() for name, value in mine.state_dict().items() if name.startswith(("heads", "lateral"))}
    write_weights(network("yolov3-tiny", 1, 2), tmp_path / "shape", backbone_only=True)
    length = ((tmp_path / "shape").stat().st_size - 20) // 4
    assert read_weights(mine, written(tmp_path / "tiny.conv.13", numbers[:length])) == 7
    assert all(torch.equal(mine.state_dict()[name], value) for name, value in heads.items())
    write_weights(mine, tmp_path / "again", 1234, backbone_only=True)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "tiny.conv.13").read_bytes()
    linear = [name for name in heads if ".out.1." in name]
    assert read_weights(mine, written(tmp_path / "coco", numbers)) == 13
    changed = {name for name, value in heads.items() if not torch.equal(mine.state_dict()[name], value)}
    assert changed == {n for n in heads if n not in linear and "num_batches" not in n}
    write_weights(mine, tmp_path / "mixed")
    assert (tmp_path / "mixed").read_bytes()[20:][: 4 * length] == numbers[:length].tobytes()


def test_darknet53_conv_74_is_the_backbone():
    with torch.device("meta"):
        mine = network("yolov3")
    layers = Darknet(yolov3_cfg()).layers[:75]
    assert sum(kind == "convolutional" for kind, _ in layers) == 52
    held = sum(
        sum(t.numel() for t in (p.weight, *((n.bias, n.weight, n.running_mean, n.running_var) if n else ())))
        for p, n in convolutions(mine)[:52]
    )
    assert 20 + 4 * held == 162_482_580  # bytes of the published file


def test_what_does_not_fit_is_said(tmp_path):
    mine, numbers = network("yolov3-tiny", 1, 1), Darknet(tiny_cfg(1, 1)).random(0)
    with pytest.raises(BadInput, match=r"short.*middle of a convolution"):
        read_weights(mine, written(tmp_path / "short", numbers[:-5]))
    (tmp_path / "text").write_text("no weights", encoding="utf-8")
    for name in ("text", "missing"):
        with pytest.raises(BadInput, match=name):
            read_weights(mine, tmp_path / name)
    with pytest.raises(UsageError, match="darknet53"):
        read_weights(build("small", channels=1, classes=1, width=4, head_width=32), tmp_path / "short")
    with pytest.raises(UsageError, match="does not go with"):
        YOLOv3(weights="x", pretrained=True).build(ImageSpec(1, (64, 64), ("lesion",)))
    spec = ImageSpec(1, (64, 64), ("lesion",))
    with pytest.raises(UsageError, match=r"the weights of mobilenetv3_small_050 cannot be loaded"):
        YOLOv3(backbone="mobilenetv3_small_050", pretrained=str(tmp_path / "none.safetensors")).build(spec)


def test_training_starts_from_a_darknet_file(tmp_path):
    spec = ImageSpec(1, (64, 64), ("lesion",))
    numbers = Darknet(tiny_cfg(1, 1)).random(3)
    path = written(tmp_path / "w.weights", numbers)
    detector = YOLOv3(backbone="tiny", weights=str(path), anchors="coco", batch=2, lr=0.0)
    detector.fit(constructed(spec), TrialRun(1))
    write_weights(detector._fitted(), tmp_path / "after")
    after = np.frombuffer((tmp_path / "after").read_bytes()[20:], np.float32)
    other, begun = Darknet(tiny_cfg(1, 1)), Darknet(tiny_cfg(1, 1))
    other.load(after)
    begun.load(numbers)
    still = [key for key in other.held if key[1] not in ("mean", "variance")]
    assert all(torch.equal(other.held[key], begun.held[key]) for key in still)
    assert detector.state_dict()["anchors"].tolist()[-1] == [344, 319]
    path.unlink()  # the folder that is shared does not need it
    YOLOv3(backbone="tiny", weights=str(path)).load_state_dict(detector.state_dict(), spec)
    found = list(detector.predict(constructed(spec).images))
    assert len(found) == 12


def test_timm_weights_out_of_a_file(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    source = timm.create_model("mobilenetv3_small_050", in_chans=3)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    detector = YOLOv3(backbone=source.default_cfg["architecture"], pretrained=str(tmp_path / "weights.safetensors"))
    net = detector.build(ImageSpec(3, (64, 64), ("lesion",)))
    assert torch.equal(net.backbone.body.conv_stem.weight, source.conv_stem.weight)  # type: ignore[union-attr]
    assert net.strides == STRIDES
    assert not any(isinstance(m, Shortcut) for m in net.modules())
