"""`medaug export`: ONNX that ONNX Runtime agrees with, darknet's files, and what is said where there is neither."""

import json

import numpy as np
import pytest
from conftest import make_store
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import UsageError
from medaug_cli.runs import RunOptions, export_network, load_detector, train_detector, train_generator
from medaug_cli.store import digest_patient, open_store

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
    said = export_network(folder, "darknet", tmp_path / "out")
    assert said["files"] == ["detector.cfg", "detector.weights"]
    text = (tmp_path / "out" / "detector.cfg").read_text(encoding="utf-8")
    other = Darknet(text)
    other.load(np.frombuffer((tmp_path / "out" / "detector.weights").read_bytes()[20:], np.float32))
    assert "width=64\nheight=64\nchannels=1" in text
    assert text.count("scale_x_y=2.0") == text.count("classes=2") == 2
    with pytest.raises(UsageError, match="overwrite"):
        export_network(folder, "darknet", tmp_path / "out")


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--json"])


def test_what_is_shared_of_a_generator_draws_alone_and_tells_of_no_patient(tmp_path):
    store, gan = make_store(tmp_path / "real.h5"), tmp_path / "gan"
    small = {"latent": 8, "base": 64, "max_maps": 8, "embedding": 4, "batch": 4}
    train_generator(store.path, "boxgan", RunOptions(gan, small, 0, "cpu", "32"), kimg=0.008)
    assert (gan / "checkpoints").is_dir()
    done = invoke("export", gan)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said == {"out": f"{gan}-shared", "files": ["generator.json", "generator.safetensors"]}
    shared = (tmp_path / "gan-shared").rename(tmp_path / "elsewhere")
    asked = ("synthesize", "--n", 3, "--boxes", tmp_path / "boxes.json", "--device", "cpu")
    for name, out in (("gan", "own.h5"), ("elsewhere", "theirs.h5")):
        drawn = invoke(*asked, "--gan", tmp_path / name, "--out", tmp_path / out)
        assert drawn.exit_code == 0, drawn.output
    assert np.array_equal(open_store(tmp_path / "own.h5").images[:], open_store(tmp_path / "theirs.h5").images[:])
    content = b"".join(each.read_bytes() for each in shared.iterdir())
    assert not any(word in content for word in (b"discriminator", b"score", str(tmp_path).encode()))
    assert not any(digest_patient(patient).encode() in content for patient in store.patients)
    without_boxes = invoke("synthesize", "--n", 3, "--gan", shared, "--out", tmp_path / "other.h5")
    assert "name the boxes with --boxes" in str(without_boxes.exception)


def test_a_generator_that_holds_training_images_is_not_shared(tmp_path):
    store, told = make_store(tmp_path / "real.h5"), []
    for name in ("copy-paste", "inpaint", "regions"):
        settings = {"inpaint": {"patch": 16}, "regions": {"side": 16}}.get(name, {})
        options = RunOptions(tmp_path / name, settings, 0, "cpu", "32", announce=told.append)
        train_generator(store.path, name, options, kimg=0.001)
        assert "share them only where you may share the scans" in told[-1]
        done = invoke("export", tmp_path / name)
        assert f"the weights of {name} contain the training images" in str(done.exception)
        assert not (tmp_path / f"{name}-shared").exists()
    wrong = invoke("export", tmp_path / "inpaint", "--format", "onnx")
    assert "--format onnx is for detectors" in str(wrong.exception)


def test_a_form_that_there_is_not_is_said(tmp_path, tiny_plugins):
    with pytest.raises(UsageError, match="tflite: a yolov3 has no such form; its choices are onnx, darknet"):
        export_network(trained(tmp_path, **SMALL), "tflite", tmp_path / "out")
    with pytest.raises(UsageError, match="darknet53 or backbone=tiny"):
        export_network(tmp_path / "detector", "darknet", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    train_detector(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "other"), steps=1)
    with pytest.raises(UsageError, match="tiny has no form in which its networks can be exported"):
        export_network(tmp_path / "other", "onnx", tmp_path / "out")
