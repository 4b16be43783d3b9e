"""data_schemas: what the schemas say is what medaug checks."""

import copy
import json
import shutil
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import make_store
from jsonschema import Draft202012Validator

import data_schemas
from data_schemas import __main__ as generation
from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput
from medaug_cli.files import read_json
from medaug_cli.forms import coco
from medaug_cli.forms.form import Finds
from medaug_cli.metrics.annotations import FoundBoxes
from medaug_cli.metrics.coco_files import read_detections, read_truth

BOXES = {
    "version": 1,
    "images": [
        {"id": "0001", "width": 256, "height": 200, "patient": "100360", "split": "train",
         "boxes": [{"box": [120.5, 80.0, 164.0, 118.0], "label": "meningioma"}]},
        {"id": "0002", "width": 64, "height": 64, "depth": 32, "boxes": [{"box": [1, 2, 3, 4, 5, 6]}]},
        {"id": "0003", "width": 256, "height": 256},
    ],
}  # fmt: skip
PLUGIN = {
    "version": 1, "tool_version": "0.1.0", "name": "blobs", "distribution": "medaug-blobs",
    "distribution_version": "1.0", "settings": {"lr": 0.1}, "weights": "00ff", "seed": 0, "precision": "32",
    "form": {"channels": 1, "spatial": [64, 64], "label_names": ["lesion"], "bits": 8},
    "training_store": "00ff", "training_images": 2, "training_patients": ["aa", "bb"],
}  # fmt: skip
AT_IOU = {
    "sensitivity": 0.67, "fps_per_slice": 4.11, "at_fps": {"0.5": 0.41, "1": None}, "cpm": 0.5, "mAP": 0.4,
    "interval": {"sensitivity": [0.6, 0.74]}, "thresholds": {"1": 0.3}, "curve_ends_at": 9.0,
}  # fmt: skip
DIFFERENCE = {"difference": 0.08, "interval": [0.01, 0.15], "p": 0.03, "p_bootstrap": 0.02, "p_holm": 0.03}
METRICS = {
    "rule": "coco", "threshold": 0.001, "split": "test", "slices": 151, "slices_without_boxes": 0, "boxes": 151,
    "boxes_by_label": {"lesion": 151}, "patients": 27, "resamples": 2000, "seed": 0,
    "rows": [{"detector": "real-only", "mAP": 0.51, "ap": {"lesion": 0.51}, "iou": {"0.5": AT_IOU}, "coco": None,
              "against_first": {"0.5": {"sensitivity_at_1": DIFFERENCE, "cpm": None}}}],
}  # fmt: skip
NETWORK = {**PLUGIN, "steps": 10, "ratio": 0.5, "validation": {"score": 0.3},
           "synthetic": [{"hash": "00ff", "images": 4, "generators": ["blobs"]}]}  # fmt: skip
SHARE = {"hits": 60, "of": 100, "value": 0.6, "interval": [0.5, 0.7]}
EXAMPLES = {
    "boxes": BOXES,
    "classifier": {**NETWORK, "form": {**PLUGIN["form"], "class_names": ["benign", "malignant"]}},
    "segmenter": NETWORK,
    "folds": {"version": 1, "folds": 2, "seed": 0, "store": "00ff", "patients": {"100360": 1, "101016": 2}},
    "task-metrics": {
        "version": 1, "task": "classification", "tool_version": "0.1.0", "split": "test", "images": 151, "patients": 27,
        "counts": {"benign": 100, "malignant": 51}, "resamples": 2000, "seed": 0, "data": {"real.h5": "00ff"},
        "rows": [{"name": "real-only", "values": {"auc": {"value": 0.9, "interval": [0.8, 0.95]}},
                  "against_first": {"auc": DIFFERENCE, "brier": None}}],
    },
    "turing-key": {
        "version": 1, "tool_version": "0.1.0", "study": "00ff", "salt": "00ff", "title": "Real?", "seed": 0,
        "by": "class", "pairs": False, "classes": ["glioma"], "asks_class": False, "asks_lesion": True,
        "stores": [{"path": "real.h5", "hash": "00ff"}],
        "images": [{"kind": "real", "store": 0, "id": "0001", "image_class": "glioma"}],
        "readers": [{"name": "reader-1", "trials": {"00ff": {"images": [0], "practice": True}}}],
    },
    "turing-answers": {
        "version": 1, "study": "00ff", "seal": "00ff", "reader": "reader-1", "finished": True,
        "saved": "2026-01-01T00:00:00Z",
        "answers": [{"trial": "00ff", "says": "real", "confidence": 3, "lesion": "yes", "seconds": 4.5}],
    },
    "turing": {
        "version": 1, "tool_version": "0.1.0", "study": "00ff", "title": "Real?", "pairs": False, "margin": 0.1,
        "resamples": 2000, "seed": 0, "images": 100, "accuracy": 0.6, "interval": [0.5, 0.7], "fleiss_kappa": None,
        "by_class": {}, "with_evidence": None, "fooled_all": ["s1"], "fooled_none": [], "real_taken_for_synthetic": [],
        "readers": [{"name": "reader-1", "answers": 100, "repeats": 10, "median_seconds": 4.0,
                     "numbers": {"accuracy": SHARE, "p": 0.05, "p_equivalence": 0.5}}],
    },
    "store": {
        "version": 1, "tool_version": "0.1.0", "command": "synthesize", "settings": {"n": 4000}, "seed": 0,
        "label_names": ["lesion"], "inputs": {"boxes.json": "00ff"},
        "generators": [{"name": "blobs", "version": "1.0", "hash": "00ff", "training_store": "00ff",
                        "training_patients": ["aa"]}],
    },
    "generator": {**PLUGIN, "condition": "boxes", "images_shown": 100},
    "weights-card": {"draws": "brain slices", "data": "a public set", "licence": "CC BY 4.0", "source": "a DOI",
                     "hours": 5.0, "measures": {"recall": 0.8}, "copies": 0.01, "not_for": "diagnosis"},
    "detector": NETWORK,
    "metrics": METRICS,
    "coco": {
        "images": [{"id": 7, "file_name": "0001.png", "width": 256, "height": 256, "patient": "100360"}],
        "categories": [{"id": 1, "name": "lesion", "supercategory": "disease"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2.5, 3, 4], "area": 9, "iscrowd": 0}],
    },
    "filter": {
        "version": 1, "tool_version": "0.1.0", "synthetic": {"synthetic.h5": "00ff"}, "by": "lesion",
        "threshold": 0.1, "calibration": "on 100 real images",
        "images": [{"id": "s0000001", "keep": False, "reason": "no lesion", "evidence": [0.01]}],
    },
    "preprocess": {
        "version": 1, "tool_version": "0.1.0", "settings": {"size": 256}, "split_by": "patient",
        "slices": [{"id": "0001-12", "file": "0001.nii.gz", "slice": 12, "state": "kept", "patient": "0001",
                    "split": "train", "boxes": 1, "dropped_boxes": ["outside"], "strip": "auto", "doubtful": True,
                    "reason": "no contour", "measures": {"share": 0.4}}],
    },
    "tsne": {
        "version": 1, "tool_version": "0.1.0", "features": "pixels", "region": "image", "perplexity": 30.0,
        "trustworthiness": 0.99, "real": {"real.h5": "00ff"}, "reference": None,
        "sets": [{"name": "kept", "hash": "00ff", "images": 20, "one_nn_accuracy": 0.9, "kid": 0.1, "kid_error": 0.01,
                  "precision": 0.9, "recall": 0.4, "density": 1.0, "coverage": 0.7, "spread": 0.1,
                  "memorisation_ratio": None, "suspicious": None,
                  "nearest": [{"synthetic": "s1", "real": "0001", "distance": 0.5}]}],
        "points": [{"set": "real", "id": "0001", "at": [0.5, 1.5]}],
    },
    "study": {
        "version": 1, "tool_version": "0.1.0", "settings": {"arms": ["real-only", "blobs"], "seeds": 1, "n": None},
        "data": {"real.h5": "00ff"}, "split": "test", "opened": 1, "slices": 151, "boxes": 151, "patients": 27,
        "fractions": [{"fraction": 0.25, "patients": 18, "images": 110, "arms": [
            {"arm": "blobs", "seeds": {"0": {"mAP": 0.5}}, "mean": {"mAP": 0.5}, "against": {"real-only": {
                "mAP": {"difference": 0.1, "interval": [0.02, 0.2], "p": 0.01, "p_bootstrap": 0.01, "p_holm": 0.02,
                        "verdict": "better"}}}},
        ]}],
    },
    "detections": [{"image_id": 7, "category_id": 1, "bbox": [1, 2.5, 3, 4], "score": 0.5}],
}  # fmt: skip
MISSING = object()
FAULTS = [  # schema, where, value, whether the schema itself can tell, the reason medaug gives
    ("boxes", "version", 2, True, "Input should be 1"),
    ("boxes", "images", MISSING, True, "Field required"),
    ("boxes", "extra", 1, True, "Extra inputs are not permitted"),
    ("boxes", "images.0.id", "a/../b", True, "should match pattern"),
    ("boxes", "images.0.id", "x" * 129, True, "should match pattern"),
    ("boxes", "images.0.width", 0, True, "greater than or equal to 1"),
    ("boxes", "images.0.width", "wide", True, "valid integer"),
    ("boxes", "images.1.depth", 1 << 20, True, "less than or equal to 65536"),
    ("boxes", "images.0.split", "dev", True, "'train', 'val' or 'test'"),
    ("boxes", "images.0.boxes.0.box", [1, 2, 3], True, "at least 4 items"),
    ("boxes", "images.0.boxes.0.box", [1, 2, 3, "x"], True, "valid number"),
    ("boxes", "images.0.boxes.0.box", [1, 2, 3, 4, 5], False, "4 numbers, or 6 in 3D"),
    ("boxes", "images.0.boxes.0.box", [9, 2, 3, 4], False, "is empty"),
    ("boxes", "images.0.boxes.0.box", [1, 2, 300, 4], False, "reaches outside image '0001'"),
    ("boxes", "images.0.boxes.0.box", [1, 2, 3, 4, 5, 6], False, "must have 4 numbers"),
    ("turing-answers", "answers.0.confidence", 6, True, "less than or equal to 5"),
    ("turing-key", "images.0.kind", "drawn", True, "'real' or 'synthetic'"),
    ("task-metrics", "rows.0.against_first.auc.p", 2, True, "less than or equal to 1"),
    ("boxes", "images.1.id", "0001", False, "'0001' appears twice"),
    ("study", "fractions.0.arms.0.against.real-only.mAP.verdict", "great", True, "'better'"),
    ("tsne", "points", MISSING, True, "Field required"),
    ("store", "label_names", "lesion", True, "valid list"),
    ("store", "generators.0.training_patients", MISSING, True, "Field required"),
    ("store", "seed", None, True, "valid integer"),
    ("generator", "condition", "words", True, "'none', 'boxes', 'mask' or 'label'"),
    ("generator", "form.spatial", [64], True, "at least 2 items"),
    ("generator", "form.bits", 12, True, "8 or 16"),
    ("weights-card", "hours", -1, True, "greater than or equal to 0"),
    ("weights-card", "licence", MISSING, True, "Field required"),
    ("detector", "steps", 0.5, True, "valid integer"),
    ("detector", "synthetic.0.images", MISSING, True, "Field required"),
    ("metrics", "rows.0.iou.0.5.sensitivity", "high", True, "valid number"),
    ("metrics", "rows", MISSING, True, "Field required"),
    ("filter", "images.0.keep", "perhaps", True, "valid boolean"),
    ("filter", "by", "beauty", True, "'lesion'"),
    ("preprocess", "slices.0.state", "lost", True, "'kept', 'skipped'"),
    ("preprocess", "slices.0.measures.share", "half", True, "valid number"),
    ("coco", "categories", MISSING, True, "Field required"),
    ("coco", "annotations.0.iscrowd", 2, True, "less than or equal to 1"),
    ("coco", "annotations.0.bbox", [1, 2, 3], False, "a bbox has 4 numbers"),
    ("coco", "annotations.0.bbox", [1, 2, -3, 4], False, "negative size"),
    ("coco", "annotations.0.image_id", 8, False, "8"),
    ("detections", "0.score", MISSING, True, "Field required"),
    ("detections", "0.category_id", "lesion", True, "valid integer"),
    ("detections", "0.bbox", [], False, "a bbox has 4 numbers"),
]


def changed(example, place, value):
    """Return a copy of an example with one value replaced or removed."""
    found = copy.deepcopy(example)
    *way, last = place.replace("0.5", "half").split(".")
    here = found
    for key in way:
        here = here[int(key)] if isinstance(here, list) else here["0.5" if key == "half" else key]
    if value is MISSING:
        del here[last]
    else:
        here[last] = value
    return found


def read(name, file):
    """Read a file as medaug does; return what it holds as plain values."""
    if name in ("coco", "detections"):
        truth = read_truth(file if name == "coco" else _truth_beside(file))
        found = None if name == "coco" else read_detections(file, truth)
        return json.loads(file.read_text(encoding="utf-8")) if found is None or len(found[0].boxes) else None
    module, attribute, _ = generation.MODELS[name]
    return read_json(file, getattr(import_module(module), attribute)).model_dump(mode="json")


def _truth_beside(file):
    truth = file.with_name("truth.json")
    truth.write_text(json.dumps(EXAMPLES["coco"]), encoding="utf-8")
    return truth


def test_the_files_are_what_the_models_say():
    assert generation.drifted() == []
    assert data_schemas.names() == sorted(generation.MODELS)


def test_drift_is_found_and_mended(tmp_path, monkeypatch):
    for file in generation.FOLDER.glob("*.schema.json"):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(generation, "FOLDER", tmp_path)
    assert generation.main(["--check"]) == 0
    boxes = tmp_path / "boxes.schema.json"
    boxes.write_text(boxes.read_text(encoding="utf-8").replace("65536", "4096"), encoding="utf-8")
    (tmp_path / "store.schema.json").unlink()
    (tmp_path / "stray.schema.json").write_text("{}", encoding="utf-8")
    assert generation.drifted() == ["boxes.schema.json", "store.schema.json", "stray.schema.json"]
    assert generation.main(["--check"]) == 1
    assert generation.main([]) == 0
    assert generation.main(["--check"]) == 0
    assert not (tmp_path / "stray.schema.json").exists()


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "data_schemas", "--check"], capture_output=True, text=True, encoding="utf-8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-m", "data_schemas", "--chekc"], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 2


@pytest.mark.parametrize("name", data_schemas.names())
def test_a_schema_is_sound_and_takes_a_good_file(name, tmp_path):
    schema = data_schemas.load(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator(schema).validate(EXAMPLES[name])
    (tmp_path / "good.json").write_text(json.dumps(EXAMPLES[name]), encoding="utf-8")
    Draft202012Validator(schema).validate(read(name, tmp_path / "good.json"))


@pytest.mark.parametrize(("name", "place", "value", "by_schema", "reason"), FAULTS)
def test_a_bad_file_is_refused_with_place_and_reason(tmp_path, name, place, value, by_schema, reason):
    bad = changed(EXAMPLES[name], place, value)
    assert Draft202012Validator(data_schemas.load(name)).is_valid(bad) is not by_schema
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(bad), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        read(name, file)
    said = str(caught.value)
    assert str(file) in said
    assert reason in said
    if by_schema:
        assert place in said


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_no_number_that_is_none(tmp_path, number):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(BOXES).replace("164.0", number), encoding="utf-8")
    with pytest.raises(BadInput, match=r"NaN|Infinity|finite"):
        read_boxes(file)


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(KeyError, match="boxes, classifier, coco, detections, detector"):
        data_schemas.load("box")


def test_what_a_store_writes_of_itself_fits_its_schema(tmp_path):
    store = make_store(tmp_path / "real.h5")
    Draft202012Validator(data_schemas.load("store")).validate(store.info.model_dump(mode="json"))
    Draft202012Validator(data_schemas.load("boxes")).validate(
        json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    )


def test_what_detect_writes_fits_the_schema_of_detections(tmp_path):
    zero, one = np.zeros(1, np.int64), np.ones(1)
    found = FoundBoxes(zero, zero, np.array([[1.0, 2.5, 4.0, 6.5]]), 12 * one, 0.5 * one)
    write = coco.FORM.write_detections
    write(Finds(["0001"], found, ["lesion"], lambda i: (256, 256), {"file": ["0001.png"]}), tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    schema = Draft202012Validator(data_schemas.load("detections"))
    schema.validate(written)
    assert len(read("detections", tmp_path / "found.json")["annotations"]) == 1
    del written["annotations"][0]["score"]
    assert not schema.is_valid(written)
