"""The writing commands that benchmarks/kills.py tries beyond those of the tests: every kind of plugin and form."""

import json
from dataclasses import replace

from conftest import make_records, make_store
from writing_commands import DETECTOR, DRAWN, GAN, WRITING, Writing, write_scans

from medaug_cli.store import StoreInfo, StoreWriter

RUN = ("--checkpoint-seconds", "0", "--device", "cpu", "--precision", "32")
SEED = ("--seed", "3")
GROWN = ("base=64", "latent=8", "max_maps=8", "batches=4:4")
GENERATORS = {
    "copy-paste": ("0.001", ()),
    "procedural": ("0.001", ()),
    "duplicate": ("0.001", ()),
    "boxgan": ("0.016", ("base=64", "latent=8", "max_maps=8", "embedding=8", "batch=4")),
    "cpggan": ("0.016", GROWN),
    "pggan": ("0.016", GROWN),
    "pggan-class": ("0.016", GROWN),
    "inpaint": ("0.016", ("patch=16", "latent=8", "width=4", "max_maps=8", "batch=4")),
    "regions": ("0.016", ("base=64", "latent=8", "max_maps=8", "batch=4", "side=16")),
}
SMALL = ("backbone=small", "width=4", "batch=2")
DETECTORS = {
    "yolov3": (*SMALL, "head_width=16"),
    **dict.fromkeys(("fcos", "retinanet", "fasterrcnn"), (*SMALL, "pyramid=64")),
}
CLASSES = ["bright", "dark"]


def write_large_store(place):
    """Write real.h5 of images of 32 x 32, as networks need them."""
    make_store(place / "real.h5", n=18, size=32)


def write_classed_store(place):
    """Write real.h5 of images with classes and masks."""
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=CLASSES)
    writer = StoreWriter(place / "real.h5", info, {})
    for i, record in enumerate(make_records(24, 16, masks=True)):
        writer.add(i, [replace(record, image_class=CLASSES[i // 6 % 2])])
    writer.publish()


def write_coco(place):
    """Write truth.json and found.json in COCO's form."""
    images = [{"id": i, "width": 32, "height": 32, "file_name": f"{i}.png", "patient": f"p{i}"} for i in range(6)]
    box = {"category_id": 1, "bbox": [4, 4, 8, 8], "area": 64, "iscrowd": 0}
    marks = [{"id": i + 1, "image_id": i, **box} for i in range(6)]
    truth = {"images": images, "categories": [{"id": 1, "name": "lesion"}], "annotations": marks}
    (place / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    found = [mark | {"score": 0.9 - 0.1 * i} for i, mark in enumerate(marks)]
    (place / "found.json").write_text(json.dumps(found), encoding="utf-8")


def write_two_stores(place):
    """Write one/real.h5 and two/real.h5, whose images are others."""
    for number, name in enumerate(("one", "two")):
        (place / name).mkdir()
        records = [
            replace(record, id=f"{name}{i:03d}", patient=f"{name}-{record.patient}")
            for i, record in enumerate(make_records(24, seed=number))
        ]
        make_store(place / name / "real.h5", records)


def write_read_study(place):
    """Write the key of a reader study, and a reader's answers."""
    from pathlib import Path

    from reader_studies import stores, write_answers

    from medaug_cli.turing import StudyOptions, make_study

    stores(place, n=36, size=16)
    key = make_study(StudyOptions(stores=[place / "real.h5", place / "synthetic.h5"], out=place / "study", n=12))
    (answers,) = write_answers(place, key, {"reader-1": 1.0})
    Path(answers).rename(place / "answers.json")


def settings(pairs):
    """Return options that set a plugin's settings."""
    return tuple(word for pair in pairs for word in ("--set", pair))


def fitted(name):
    """Return a run of a generator."""
    kimg, own = GENERATORS[name]
    command = ("train-gan", "real.h5", "--generator", name, "--kimg", kimg, *settings(own), *RUN, "--out", "gan")
    return Writing(command, (), SEED, given=write_large_store)


def found(name):
    """Return a run of a detector."""
    command = ("train-detector", "real.h5", "--detector", name, "--steps", "4", *settings(DETECTORS[name]), *RUN)
    return Writing((*command, "--out", "detector"), (), SEED, given=write_large_store)


def whole_images(kind, *own):
    """Return a run of a classifier or segmenter."""
    command = (f"train-{kind}", "real.h5", "--steps", "4", *settings(("width=4", "batch=4", *own)), *RUN, "--out", kind)
    return Writing(command, (), SEED, given=write_classed_store)


CLASSIFIER = whole_images("classifier")
ONNX = ("train-detector", "real.h5", "--detector", "yolov3", "--steps", "1", *settings(DETECTORS["yolov3"]), *RUN)
STUDY = ("study", "real.h5", "--arm", "tiny", "--detector", "tiny", "--steps", "3", "--kimg", "0.01", "--seeds", "1",
         "--resamples", "100", "--device", "cpu", "--precision", "32")  # fmt: skip
STUDIED = ("study.json", "study.csv", "differences.csv", "study.html")
PARTS = ("synthesize", "--n", "130", "--boxes", "boxes.json", "--num-parts", "2", "--out", "synthetic.h5")

EVERY = WRITING | {
    "boxes to coco": Writing(
        ("boxes", "boxes.csv", "--scans", "scans", "--to", "coco", "--out", "coco.json"), ("coco.json",), (),
        again="--overwrite", given=write_scans, folder=False,
    ),
    "boxes to yolo": Writing(
        ("boxes", "boxes.csv", "--scans", "scans", "--to", "yolo", "--out", "yolo"), (), (), again="--overwrite",
        given=write_scans,
    ),
    "store join": Writing(
        ("store", "join", "one/real.h5", "two/real.h5", "--out", "real.h5"), ("real.h5",), (), again="--overwrite",
        given=write_two_stores, folder=False,
    ),
    "store preview": Writing(
        ("store", "preview", "real.h5", "--out", "preview.png"), ("preview.png",), SEED, again="--overwrite",
        folder=False,
    ),
    **{f"store export, {form}": Writing(
        ("store", "export", "real.h5", "--format", form, "--out", "exported"), (), ("--split", "train"),
        again="--overwrite",
    ) for form in ("yolo", "voc", "csv", "nifti", "monai")},
    **{f"store export, {form}": Writing(
        ("store", "export", "real.h5", "--format", form, "--out", "exported"), (), ("--split", "train"),
        again="--overwrite", given=write_classed_store,
    ) for form in ("nnunet", "folders")},
    **{f"train-gan, {name}": fitted(name) for name in GENERATORS},
    **{f"train-detector, {name}": found(name) for name in DETECTORS},
    "train-classifier": CLASSIFIER,
    "train-segmenter": whole_images("segmenter", "levels=3"),
    "synthesize, part 1 of 2": Writing(
        (*PARTS, "--part-id", "1"), ("synthetic.h5",), (), (GAN, (*PARTS, "--part-id", "0")),
        again="", folder=False, replaces=False,
    ),
    "filter by lesion": Writing(
        ("filter", "synthetic.h5", "--by", "lesion", "--out", "kept.h5"), ("kept.h5", "filter.json", "filter.html"),
        SEED, (GAN, DRAWN), folder=False,
    ),
    "evaluate, COCO": Writing(
        ("evaluate", "--truth", "truth.json", "--detections", "found.json", "--resamples", "100", "--overlays", "0",
         "--out", "evaluation"), (), SEED, again="--overwrite", given=write_coco,
    ),
    "evaluate, classifier": Writing(
        ("evaluate", "real.h5", "classifier", "--resamples", "100", "--out", "evaluation"), (), SEED,
        (CLASSIFIER.command,), again="--overwrite", given=write_classed_store,
    ),
    "detect": Writing(
        ("detect", "real.h5", "detector", "--out", "detections"), (), ("--split", "train"),
        (WRITING["preprocess"].command, DETECTOR), again="--overwrite", given=write_scans,
    ),
    "predict": Writing(
        ("predict", "detector", "scans", "--out", "predictions"), (), ("--threshold", "0.5"),
        (WRITING["preprocess"].command, DETECTOR), again="--overwrite", given=write_scans,
    ),
    "export to ONNX": Writing(
        ("export", "detector", "--out", "onnx"), (), (), ((*ONNX, "--out", "detector"),), again="--overwrite",
        given=write_large_store,
    ),
    "study": Writing(
        (*STUDY, "--split", "val", "--out", "study"), STUDIED, (), again="", replaces=False, report="study.json",
    ),
    "study in folds": Writing(
        (*STUDY, "--folds", "2", "--out", "study"), (*STUDIED, "folds.json"), (), again="", replaces=False,
        report="study.json",
    ),
    "turing make": Writing(
        ("turing", "make", "real.h5", "synthetic.h5", "--n", "8", "--practice", "2", "--split", "all", "--out",
         "readers"), (), SEED, (GAN, DRAWN), again="--overwrite",
    ),
    "turing score": Writing(
        ("turing", "score", "study/key.json", "answers.json", "--resamples", "100", "--out", "scored"), (), SEED,
        again="--overwrite", given=write_read_study,
    ),
}  # fmt: skip
