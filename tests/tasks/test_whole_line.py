"""Classification and segmentation from a store to the page, at toy size, and what is refused on the way."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.store import GeneratorOrigin, Record, StoreInfo, StoreWriter, digest_patient

pytestmark = pytest.mark.usefixtures("undrawn")
NAMES = ["bright", "dark"]
FAST = {
    "classifier": ["--set", "width=4", "--set", "batch=8", "--set", "lr=0.01", "--set", "ema=0.8"],
    "segmenter": ["--set", "width=4", "--set", "levels=3", "--set", "batch=8", "--set", "lr=0.01", "--set", "ema=0.8"],
}
INFO = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=NAMES)


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    said = str(result.exception) if result.exception else result.output
    assert result.exit_code == code or (code and result.exception), said
    return result.output if not code else said


def write(path, records, info=INFO):
    writer = StoreWriter(path, info, {})
    for unit, record in enumerate(records):
        writer.add(unit, [record])
    return writer.publish()


def classed(n=48, seed=0, **changes):
    """Return images with a bright or a dark lesion, six patients over three splits, with masks and classes."""
    for i, record in enumerate(make_records(n, 32, seed=seed, masks=True)):
        number = (i // 6) % 2
        image = record.image.copy()
        if number:
            inside = record.mask[None] > 0
            image[inside] = 5
        yield replace(record, image=image, image_class=NAMES[number], spacing=(0.5, 0.5), **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tasks")
    write(place / "real.h5", classed())
    origin = GeneratorOrigin(
        name="g", version="1", hash="h", training_store="t", training_patients=[digest_patient("p0")]
    )
    drawn = [
        replace(record, id=f"s{i:03d}", patient="synthetic-g", split="train", source="g", seed=i)
        for i, record in enumerate(classed(24, seed=5))
    ]
    write(place / "synthetic.h5", drawn, INFO.model_copy(update={"generators": [origin]}))
    for kind in FAST:
        for name, more in (("real", []), ("both", ["--synthetic", place / "synthetic.h5", "--ratio", "1"])):
            invoke(
                f"train-{kind}", place / "real.h5", "--out", place / f"{kind}-{name}", "--steps", 12, *FAST[kind], *more
            )
    return place


@pytest.mark.parametrize(
    ("kind", "task", "headline"),
    [("classifier", "classification", "balanced_accuracy"), ("segmenter", "segmentation", "dice")],
)
def test_the_whole_line(folder, kind, task, headline):
    out = folder / f"{kind}-evaluation"
    systems = [folder / f"{kind}-real", folder / f"{kind}-both"]
    shown = invoke("evaluate", folder / "real.h5", *systems, "--out", out, "--resamples", 100, "--split", "test")
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["task"] == task
    assert metrics["images"] == 8
    first, second = metrics["rows"]
    assert 0 <= first["values"][headline]["value"] <= 1
    assert set(second["against_first"]) == set(first["values"]) or second["against_first"] == {}
    page = (out / "evaluation.html").read_text(encoding="utf-8")
    assert page.count("data:image") >= 2
    assert f"{task.capitalize()} results" in page
    assert "Results" in shown
    metadata = json.loads((folder / f"{kind}-both/{kind}.json").read_text(encoding="utf-8"))
    assert metadata["synthetic"][0]["images"] == 24
    assert metadata["ratio"] == 1
    assert metadata["validation"]


def test_a_stored_report_keeps_to_its_schema(folder):
    from jsonschema import Draft202012Validator

    import data_schemas

    out = folder / "again"
    invoke("evaluate", folder / "real.h5", folder / "classifier-real", "--out", out, "--resamples", 100)
    schema = Draft202012Validator(data_schemas.load("task-metrics"))
    assert not list(schema.iter_errors(json.loads((out / "metrics.json").read_text(encoding="utf-8"))))


def test_the_general_command_is_the_same(folder):
    arguments = ["--steps", 12, *FAST["segmenter"]]
    invoke("train", folder / "real.h5", "--task", "segmentation", "--out", folder / "general", *arguments)
    one, two = (folder / name / "segmenter.safetensors" for name in ("general", "segmenter-real"))
    assert one.read_bytes() == two.read_bytes()
    assert "choose one of classification, detection, segmentation" in invoke(
        "train", folder / "real.h5", "--task", "counting", code=2
    )


def test_resume_ends_in_the_same_weights(folder, monkeypatch):
    """A run that is stopped after a checkpoint and goes on ends as one that was never stopped."""
    from medaug_cli.runs import training

    for kind in FAST:
        out = folder / f"{kind}-resumed"
        arguments = [f"train-{kind}", folder / "real.h5", "--out", out, "--steps", 12, *FAST[kind]]
        whole = training.TrainingRun.checkpoint

        def stop(run, done, state, force=False, whole=whole):
            if done == 6:
                whole(run, done, state, force=True)
                raise KeyboardInterrupt
            return whole(run, done, state, force)

        with monkeypatch.context() as patched:
            patched.setattr(training.TrainingRun, "checkpoint", stop)
            assert CliRunner().invoke(app, list(map(str, arguments))).exit_code != 0
        invoke(*arguments, "--resume")
        one, two = (folder / name / f"{kind}.safetensors" for name in (f"{kind}-resumed", f"{kind}-real"))
        assert one.read_bytes() == two.read_bytes()


def without(records, **changes):
    return [replace(record, **changes) for record in records]


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("classifier", {"image_class": None}, "names no class of its images"),
        ("classifier", {"image_class": "bright"}, "no training image of the class 'dark'"),
        ("segmenter", {"mask": None}, "holds no masks"),
        ("segmenter", {"mask": np.zeros((32, 32), np.uint8)}, "no mask that marks anything in every box"),
    ],
)
def test_stores_that_do_not_serve_a_task(tmp_path, kind, change, words):
    write(tmp_path / "real.h5", without(classed(12), **change))
    said = invoke(f"train-{kind}", tmp_path / "real.h5", "--out", tmp_path / "out", "--steps", 1, code=3)
    assert words in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("classifier", {"image_class": None}, "holds images without a class"),
        ("segmenter", {"mask": None}, "holds no masks"),
    ],
)
def test_synthetic_images_that_do_not_serve_a_task(folder, tmp_path, kind, change, words):
    origin = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
    drawn = without(classed(6), patient="synthetic-g", split="train", source="g", **change)
    write(tmp_path / "drawn.h5", drawn, INFO.model_copy(update={"generators": [origin]}))
    said = invoke(
        f"train-{kind}", folder / "real.h5", "--synthetic", tmp_path / "drawn.h5", "--out", tmp_path / "out",
        "--steps", 1, code=3,
    )  # fmt: skip
    assert words in said


@pytest.mark.parametrize(
    ("kind", "info", "size", "words"),
    [
        ("classifier", {"class_names": [*NAMES, "grey"]}, 32, "has the class 'grey'; "),
        ("segmenter", {"mask_names": ["oedema"]}, 32, "stand for oedema, those of"),
        ("classifier", {}, 16, "has 16x16 pixels, 1 channels, labels lesion, but"),
        ("segmenter", {}, 16, "has 16x16 pixels, 1 channels, labels lesion, but"),
        ("segmenter", {"generators": []}, 32, "does not say which generator made it, so it cannot be used"),
    ],
)
def test_synthetic_images_of_other_names_sizes_or_unknown_origin(folder, tmp_path, kind, info, size, words):
    origin = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
    changes = {"patient": "synthetic-g", "split": "train", "source": "g", "image_class": NAMES[0]}
    drawn = [replace(record, **changes) for record in make_records(4, size, masks=True)]
    write(tmp_path / "drawn.h5", drawn, INFO.model_copy(update={"generators": [origin], **info}))
    said = invoke(
        f"train-{kind}", folder / "real.h5", "--synthetic", tmp_path / "drawn.h5", "--out", tmp_path / "out",
        "--steps", 1, code=3,
    )  # fmt: skip
    assert words in said
    assert not (tmp_path / "out").exists()


def test_networks_of_two_kinds_are_not_compared(folder):
    said = invoke(
        "evaluate", folder / "real.h5", folder / "classifier-real", folder / "segmenter-real", "--out",
        folder / "mixed", code=2,
    )  # fmt: skip
    assert "classifier and segmenter" in said


def test_a_classifier_of_other_classes_is_refused(folder, tmp_path):
    other = INFO.model_copy(update={"class_names": ["bright", "dark", "grey"]})
    write(tmp_path / "real.h5", classed(12), other)
    said = invoke("evaluate", tmp_path / "real.h5", folder / "classifier-real", "--out", tmp_path / "e", code=3)
    assert "knows bright, dark" in said


def test_patients_that_a_network_has_seen_are_refused(folder, tmp_path):
    write(tmp_path / "real.h5", without(classed(12), split="test"))
    said = invoke("evaluate", tmp_path / "real.h5", folder / "segmenter-real", "--out", tmp_path / "e", code=3)
    assert "was fitted on 4 of the patients" in said


def test_a_classifier_shows_its_features_without_and_with_synthetic_images(folder, monkeypatch):
    """One map a classifier, coloured by class, with marks for real and synthetic (Han et al., 2.5)."""
    monkeypatch.setattr("medaug_cli.embedding.layout.ITERATIONS", 250)
    stores, names = (folder / "real.h5", folder / "synthetic.h5"), ("classifier-real", "classifier-both")
    features = [part for name in names for part in ("--features", folder / name)]
    invoke("tsne", *stores, *features, "--colour", "class", "--perplexity", 5, "--max", 20, "--out", folder / "map.png")
    report = json.loads((folder / "map.json").read_text(encoding="utf-8"))
    assert report["features"] == "classifier classifier-real"
    panels = [(each["features"], each["synthetic"], len(each["points"])) for each in report["panels"]]
    assert panels == [(name, synthetic, 20 + 20 * synthetic) for name in names for synthetic in (False, True)]
    assert report["panels"][1]["points"] == report["points"]
    assert {point["set"] for point in report["panels"][3]["points"]} == {"real", "synthetic"}


@pytest.mark.parametrize(("features", "words"), [
    (("classifier-real", "pixels"), "--features pixels: several maps can be drawn for trained classifiers only"),
    (("segmenter-real",), "holds no trained classifier"),
    (("nowhere",), "the choices are pixels, texture"),
])  # fmt: skip
def test_features_of_what_is_no_classifier(folder, features, words):
    given = [part for name in features for part in ("--features", name if name == "pixels" else folder / name)]
    stores = (folder / "real.h5", folder / "synthetic.h5")
    out = folder / "no.png"
    assert words in str(CliRunner().invoke(app, list(map(str, ("tsne", *stores, *given, "--out", out)))).exception)
    assert not out.exists()


def test_a_classifier_as_onnx_answers_as_itself(folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    from medaug_cli.runs import load_network
    from medaug_cli.store import open_store

    invoke("export", folder / "classifier-real", "--out", folder / "onnx")
    said = json.loads((folder / "onnx/classifier.json").read_text(encoding="utf-8"))
    assert said["form"]["class_names"] == NAMES
    assert said["differences"]["probabilities"] < 1e-3
    images = open_store(folder / "real.h5").read(range(5))
    session = onnxruntime.InferenceSession(folder / "onnx/classifier.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": images})
    network, _ = load_network(folder / "classifier-real", "classifier")
    assert np.abs(found - np.stack(list(network.predict(images)))).max() < 1e-3


def test_a_segmenter_of_volumes_as_onnx_answers_as_itself(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from medaug_cli.runs import load_network
    from medaug_cli.store import open_store

    rng, box = np.random.default_rng(0), np.array([[2, 2, 2, 6, 6, 6]], np.float32)
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    records = [
        Record(f"v{i}", (rng.integers(0, 60, (1, 8, 8, 8)) + 120 * mask).astype(np.uint8), box, ["lesion"], f"p{i}",
               "train", mask=mask)
        for i in range(4)
    ]  # fmt: skip
    write(tmp_path / "real.h5", records)
    small = ("--steps", 2, "--set", "width=4", "--set", "levels=2", "--set", "batch=2", "--set", "mirror=false")
    invoke("train-segmenter", tmp_path / "real.h5", "--out", tmp_path / "net", *small)
    invoke("export", tmp_path / "net", "--format", "onnx", "--out", tmp_path / "onnx")
    images = open_store(tmp_path / "real.h5").read(range(3))
    session = onnxruntime.InferenceSession(tmp_path / "onnx/segmenter.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": images})
    assert found.shape == (3, 2, 8, 8, 8)
    network, _ = load_network(tmp_path / "net", "segmenter")
    marked = 1 - found[:, 0] >= network.threshold
    assert (marked == np.stack(list(network.predict(images)))).mean() > 0.99


def test_what_an_evaluation_keeps_is_evaluated_alike_without_the_store(folder):
    out, again = folder / "kept", folder / "kept-again"
    systems = [folder / "classifier-real", folder / "classifier-both"]
    invoke("evaluate", folder / "real.h5", *systems, "--out", out, "--resamples", 100)
    kept = [part for each in systems for part in ("--predictions", out / f"predictions/{each.name}.csv")]
    invoke("evaluate", "--truth", out / "truth.csv", *kept, "--out", again, "--resamples", 100)
    one, two = (json.loads((each / "metrics.json").read_text(encoding="utf-8"))["rows"] for each in (out, again))
    assert [row["values"] for row in one] == [row["values"] for row in two]
    assert one[1]["against_first"] == two[1]["against_first"]


@pytest.mark.parametrize("option", [("--iou", 0.5), ("--rule", "voc"), ("--sizes", "10"), ("--threshold", 0.1),
                                    ("--write", "csv"), ("--images", "."), ("--patients", "p.csv")])  # fmt: skip
def test_options_of_detections_are_not_passed_over(folder, option):
    said = invoke("evaluate", folder / "real.h5", folder / "classifier-real", *option, "--out", folder / "o", code=2)
    assert f"{option[0]} is not used" in said
    assert not (folder / "o").exists()
