"""The whole pipeline as a shell script would chain it, on a few of the slices that ship."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from forking import spoken

from medaug_cli.store import open_store

DATA = Path(__file__).parents[2] / "examples/data"
TAKEN = {"train": 24, "val": 6, "test": 8}
DETECTOR = "--steps 6 --set backbone=small --set head_width=16 --set batch=4"
STEPS = (  # and the file that takes what a step prints
    ("preprocess scans --boxes scans.json --size 32 --strip none --label tumour", None),
    ("train-gan real.h5 --generator boxgan --kimg 0.064 --set max_maps=16 --set latent=8", None),
    ("synthesize --n 40 --boxes boxes.json", None),
    ("filter synthetic.h5 --by none", None),
    (f"train-detector real.h5 {DETECTOR} --out real-only", None),
    (f"train-detector real.h5 --synthetic kept.h5 --ratio 1 {DETECTOR} --out with-synthetic", None),
    ("tsne real.h5 kept.h5 --perplexity 5 --json", "tsne.said"),
    ("evaluate real.h5 real-only with-synthetic --resamples 100 --overlays 2 --json", "evaluate.said"),
    ("store verify kept.h5", None),
)


def run(line, folder):
    """Run a command line of the script; return what it prints."""
    code, printed, said = spoken(line.split(), folder)
    assert code == 0, said
    return printed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the script once; return its folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    whole = json.loads((DATA / "boxes.json").read_text(encoding="utf-8"))
    chosen = []
    for split, count in TAKEN.items():
        of_split = [image for image in whole["images"] if image["split"] == split]
        chosen += of_split[:: len(of_split) // count][:count]
    (folder / "scans.json").write_text(json.dumps(whole | {"images": chosen}), encoding="utf-8")
    (folder / "scans/images").mkdir(parents=True)
    for image in chosen:
        shutil.copy(DATA / image["file"], folder / "scans" / image["file"])
    for line, told in STEPS:
        printed = run(line, folder)
        if told:
            (folder / told).write_text(printed, encoding="utf-8")
    return folder


def test_every_step_leaves_what_it_promises(finished):
    promised = {
        "real.h5", "boxes.json", "preprocess.json", "preprocess.html", "gan", "synthetic.h5", "kept.h5", "filter.json",
        "filter.html", "real-only", "with-synthetic", "tsne.png", "tsne.json", "evaluation",
    }  # fmt: skip
    assert promised <= {path.name for path in finished.iterdir()}
    assert not list(finished.rglob("*.parts"))
    assert not list(finished.rglob(".*.tmp"))


def test_synthetic_images_come_from_training_patients_alone(finished):
    real, kept = open_store(finished / "real.h5"), open_store(finished / "kept.h5")
    assert len(kept) == 40
    trained = {real.patients[i] for i in real.indices("train")}
    held_out = {real.patients[i] for i in real.indices("test")} | {real.patients[i] for i in real.indices("val")}
    assert not trained & held_out
    assert set(kept.splits) == {"train"}
    assert {detail["condition"] for detail in kept.details} <= {real.ids[i] for i in real.indices("train")}
    assert np.asarray(kept.images).std() > 0


def test_both_detectors_took_as_many_steps(finished):
    for name in ("real-only", "with-synthetic"):
        assert json.loads((finished / name / "detector.json").read_text(encoding="utf-8"))["steps"] == 6


def test_standard_output_is_one_json_object(finished):
    said = json.loads((finished / "evaluate.said").read_text(encoding="utf-8"))
    assert [row["detector"] for row in said["rows"]] == ["real-only", "with-synthetic"]
    assert json.loads((finished / "evaluation/metrics.json").read_text(encoding="utf-8")) == said
    assert json.loads((finished / "tsne.said").read_text(encoding="utf-8"))["sets"]


def test_the_pictures_are_there(finished):
    from PIL import Image

    for path in (finished / "tsne.png", *(finished / "evaluation/overlays").glob("*.png")):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 1
    assert "<svg" in (finished / "evaluation/froc.svg").read_text(encoding="utf-8")
    for page in ("preprocess.html", "filter.html", "evaluation/evaluation.html"):
        text = (finished / page).read_text(encoding="utf-8")
        assert "</html>" in text
        assert 'src="http' not in text


def test_a_finished_step_is_not_repeated(finished):
    def times():  # pages are drawn again
        return {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.suffix not in ("", ".html")}

    before = times()
    for line, _ in STEPS[:6]:
        run(f"{line} --resume", finished)
    assert times() == before
