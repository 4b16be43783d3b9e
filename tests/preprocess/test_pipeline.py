"""The whole pipeline as a shell script would chain it, on a few of the slices that ship."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medaug_cli.store import open_store

DATA = Path(__file__).parents[2] / "examples/data"
TAKEN = {"train": 24, "val": 6, "test": 8}
SCRIPT = """
set -eu
medaug preprocess scans --boxes scans.json --size 32 --strip none --label tumour
medaug train-gan real.h5 --generator boxgan --kimg 0.064 --set max_maps=16 --set latent=8
medaug synthesize --n 40 --boxes boxes.json
medaug filter synthetic.h5 --by none
detector="--steps 6 --set backbone=small --set head_width=16 --set batch=4"
medaug train-detector real.h5 $detector --out real-only
medaug train-detector real.h5 --synthetic kept.h5 --ratio 1 $detector --out with-synthetic
medaug tsne real.h5 kept.h5 --perplexity 5 --json > tsne.said
medaug evaluate real.h5 real-only with-synthetic --resamples 100 --overlays 2 --json > evaluate.said
medaug store verify kept.h5
"""


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
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", SCRIPT],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
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
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    steps = ("medaug preprocess", "medaug train-", "medaug synthesize", "medaug filter")
    lines = [line for line in SCRIPT.splitlines() if line.startswith(steps)]
    assert len(lines) == 6
    detector = next(line for line in SCRIPT.splitlines() if line.startswith("detector="))
    script = "\n".join(["set -eu", detector, *(f"{line} --resume" for line in lines)])

    def times():  # pages are drawn again
        return {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.suffix not in ("", ".html")}

    before = times()
    done = subprocess.run(
        ["sh", "-c", script], cwd=finished, env={**os.environ, "PATH": path}, capture_output=True, text=True,
        encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert times() == before
