"""Backbones come by the names of architectures alone, and their weights from files that can run no code."""

import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from medaug_cli.plugin import ImageSpec, UsageError
from medaug_plugins.detection.backbones import timm_features
from medaug_plugins.supervised.encoders import TimmEncoder
from medaug_plugins.torchvision import RetinaNet
from medaug_plugins.yolov3 import YOLOv3

NAME, STRIDES = "mobilenetv3_small_050", (8, 16, 32)


class Bomb:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize(
    "name",
    ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18", "local-dir:{folder}", "local-dir:/tmp/resnet18", "", ".",
     "resnet18/../x", "resnet18.a1.b", "hf-hub:resnet18", "no_such", "resnet18 ", "resnet18.tag:{folder}",
     "file:{folder}/resnet18", "https://example.org/resnet18", "timm/resnet18", "RESNET18"],
)  # fmt: skip
def test_a_backbone_is_the_name_of_an_architecture(tmp_path, monkeypatch, name):
    def unasked(*arguments, **options):
        raise AssertionError(f"timm was asked for {arguments}")

    monkeypatch.setattr(timm, "create_model", unasked)
    name = name.format(folder=tmp_path)
    with pytest.raises(UsageError, match="timm has no such backbone"):
        timm_features(name, 1, STRIDES)
    with pytest.raises(UsageError, match="no such network"):
        TimmEncoder(name, 1, "", 0)
    for detector in (YOLOv3(backbone=name), RetinaNet(backbone=name)):
        with pytest.raises(UsageError, match="no such backbone"):
            detector.load_state_dict({}, ImageSpec(1, (64, 64), ("lesion",)))


@pytest.fixture(scope="module")
def weights():
    return timm.create_model(NAME).state_dict()


def packed(path, weights, form):
    if form == "safetensors":
        save_file(weights, path)
    else:
        nested = {"plain": weights, "state_dict": {"state_dict": weights, "epoch": 3}, "model": {"model": weights},
                  "ema": {"state_dict": {}, "state_dict_ema": weights},
                  "parallel": {f"module.{name}": value for name, value in weights.items()}}  # fmt: skip
        torch.save(nested[form], path)


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "ema", "parallel", "safetensors"])
def test_weights_of_a_file_are_those_of_the_backbone(tmp_path, weights, form):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    packed(path, weights, form)
    loaded = timm_features(NAME, 3, STRIDES, str(path)).state_dict()
    assert torch.equal(loaded["conv_stem.weight"], weights["conv_stem.weight"])
    grey = timm_features(NAME, 1, STRIDES, str(path)).state_dict()
    torch.testing.assert_close(grey["conv_stem.weight"], weights["conv_stem.weight"].sum(1, keepdim=True))


def wrapped(bomb, weights):
    return {
        "alone": bomb, "in a list": [bomb], "as a weight": {"conv_stem.weight": bomb},
        "among weights": {**weights, "more": bomb}, "beside weights": {"state_dict": weights, "args": bomb},
        "as averages": {"state_dict": weights, "state_dict_ema": bomb}, "as a key": {"state_dict": {bomb: 1}},
    }  # fmt: skip


@pytest.mark.parametrize("how", wrapped(None, {}))
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_file_of_weights_runs_no_code(tmp_path, weights, how, save):
    mark, path = tmp_path / "mark", tmp_path / "w.pth"
    save(wrapped(Bomb(mark), weights)[how], path)
    with pytest.raises(UsageError, match="cannot be loaded"):
        timm_features(NAME, 3, STRIDES, str(path))
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"weights", b"\x80\x04N."])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.npz", "folder/w.bin"])
def test_what_holds_no_weights_is_refused(tmp_path, content, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be loaded"):
        timm_features(NAME, 3, STRIDES, str(path))


@pytest.mark.parametrize("stored", [{}, {"state_dict": {}}, {"a": 1}, [torch.zeros(2)], {"epoch": 3, "w": "x"}])
def test_a_file_without_weights_never_leads_to_a_hub(tmp_path, stored):
    torch.save(stored, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="it holds no weights by name"):
        timm_features(NAME, 3, STRIDES, str(tmp_path / "w.pth"))
