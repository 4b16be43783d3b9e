"""`medaug export`: ONNX that ONNX Runtime agrees with, darknet's files, and what is said where there is neither."""

import json

import numpy as np
import pytest
from conftest import make_store
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import UsageError
from medaug_cli.runs import RunOptions, export_detector, load_detector, train_detector
from medaug_cli.store import open_store

SMALL = {"backbone": "small", "width": 4, "head_width": 16, "batch": 2}


def trained(tmp_path, name="yolov3", **settings):
    make_store(tmp_path / "real.h5", size=32, labels=("cyst", "lesion"))
    train_detector(tmp_path / "real.h5", name, RunOptions(tmp_path / "detector", settings), steps=2)
    return tmp_path / "detector"


def test_onnx_runtime_gives_the_detections(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = trained(tmp_path, **SMALL, assignment="aligned", zoom_input=2)
    done = CliRunner().invoke(app, ["export", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["files"] == ["detector.json", "detector.onnx"]
    assert max(said["differences"].values()) < 0.05
    store, (plugin, _) = open_store(tmp_path / "real.h5"), load_detector(folder)
    images = store.read([0, 1, 2, 3, 4])
    session = onnxruntime.InferenceSession(tmp_path / "detector-onnx" / "detector.onnx")
    boxes, scores = session.run(None, {"images": images})
    assert boxes.shape == (5, boxes.shape[1], 4)
    assert scores.shape == (5, boxes.shape[1], 2)
    for i, (found, values, labels) in enumerate(plugin.predict(images)):
        at, label = np.unravel_index(scores[i].argmax(), scores[i].shape)
        assert np.allclose(boxes[i, at], found[0], atol=0.05)
        assert scores[i, at, label] == pytest.approx(float(values[0]), abs=1e-3)
        assert label == labels[0]


def test_darknet_files_of_a_trained_detector(tmp_path):
    from darknet_cfg import Darknet

    folder = trained(tmp_path, backbone="tiny", batch=2, assignment="aligned", zoom_input=2)
    said = export_detector(folder, "darknet", tmp_path / "out")
    assert said["files"] == ["detector.cfg", "detector.weights"]
    text = (tmp_path / "out" / "detector.cfg").read_text(encoding="utf-8")
    other = Darknet(text)
    other.load(np.frombuffer((tmp_path / "out" / "detector.weights").read_bytes()[20:], np.float32))
    assert "width=64\nheight=64\nchannels=1" in text
    assert text.count("scale_x_y=2.0") == text.count("classes=2") == 2
    with pytest.raises(UsageError, match="overwrite"):
        export_detector(folder, "darknet", tmp_path / "out")


def test_a_form_that_there_is_not_is_said(tmp_path, tiny_plugins):
    with pytest.raises(UsageError, match="tflite: a yolov3 has no such form; its choices are onnx, darknet"):
        export_detector(trained(tmp_path, **SMALL), "tflite", tmp_path / "out")
    with pytest.raises(UsageError, match="darknet53 or backbone=tiny"):
        export_detector(tmp_path / "detector", "darknet", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    train_detector(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "other"), steps=1)
    with pytest.raises(UsageError, match="a tiny has no such form; its choices are none"):
        export_detector(tmp_path / "other", "onnx", tmp_path / "out")
