"""Bad input through the command line: one clear sentence, the documented code, nothing half-written."""

import json
import shutil
import signal
import sys

import inside
import numpy as np
import pytest
from conftest import make_records, make_store, tiny_installed
from PIL import Image

from medaug_cli.cli import main
from medaug_cli.errors import BadInput

pytestmark = pytest.mark.usefixtures("tiny_plugins")


@pytest.fixture
def medaug(monkeypatch, capsys):
    """Return a function that runs the command line in this process: (exit code, standard output, standard error)."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medaug", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    yield run
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", ["as it is", "a library's error of its own", "taken for a fault of a file"])
def test_a_command_that_is_stopped_says_so_wherever_it_was(monkeypatch, medaug, number, way):
    def stopped():
        try:
            signal.raise_signal(number)
        except Exception:  # what stops a command is none, so that a reader does not take it for a damaged file
            raise BadInput("a.png cannot be read") from None
        finally:
            if way != "as it is":  # as torch does at the end of an archive that it could not finish
                raise (RuntimeError if way.startswith("a library") else BadInput)("unexpected pos 128 vs 64")

    monkeypatch.setattr("medaug_cli.cli.app", stopped)
    code, out, said = medaug("store", "info", "a.h5")
    assert (code, out) == (130, "")
    assert said == (
        "medaug: interrupted; published results are unchanged; --resume (of a study the same command) continues long "
        "work\n"
    )
    assert signal.getsignal(number) is signal.SIG_DFL  # a second one ends it without a traceback


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a folder with real.h5, boxes.json, gan/, detector/ and synthetic.h5."""
    folder = tmp_path_factory.mktemp("project")
    make_store(folder / "real.h5")
    with tiny_installed():
        for line in (
            "train-gan real.h5 --generator tiny --kimg 0.02 --device cpu",
            "synthesize --n 30",
            "train-detector real.h5 --detector tiny --steps 4 --device cpu",
        ):
            assert inside.medaug(line.split(), folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
    (folder / "said.txt").unlink()
    return folder


@pytest.fixture
def trained(project, tmp_path, monkeypatch):
    """Go to a copy of the project that a test may damage."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_json(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def change_text(path, change):
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


COCO = json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 16}],
    "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1}],
    "categories": [{"id": 1, "name": "tumour"}],
})  # fmt: skip
DRAW = ["synthesize", "--n", "5", "--out", "new.h5"]
JUDGE = ["evaluate", "real.h5", "detector"]
DETECT = ["train-detector", "real.h5", "--detector", "tiny", "--steps", "2", "--out", "new"]
MIX = [*DETECT, "--synthetic", "synthetic.h5"]
FIT = ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.01", "--out", "new"]
CASES = {
    "truncated store": (FIT, 3, "real.h5", lambda f: truncate(f / "real.h5")),
    "empty store": (FIT, 3, "real.h5", lambda f: (f / "real.h5").write_bytes(b"")),
    "folder for a store": (["train-gan", "gan", "--out", "new"], 3, "gan", lambda f: None),
    "text for a store": (["store", "info", "boxes.json"], 3, "boxes.json", lambda f: None),
    "truncated weights": (DRAW, 3, "generator.safetensors", lambda f: truncate(f / "gan/generator.safetensors")),
    "truncated detector": (JUDGE, 3, "detector.safetensors", lambda f: truncate(f / "detector/detector.safetensors")),
    "generator of a newer version": (
        DRAW, 3, "generator.json", lambda f: change_json(f / "gan/generator.json", lambda v: v.update(version=9)),
    ),
    "boxes of a newer version": (
        DRAW, 3, "version", lambda f: change_json(f / "boxes.json", lambda v: v.update(version=9)),
    ),
    "box outside the image": (
        DRAW, 3, "box",
        lambda f: change_json(f / "boxes.json", lambda v: v["images"][0]["boxes"][0].update(box=[4, 4, 99, 9])),
    ),
    "box that is no number": (
        DRAW, 3, "NaN",
        lambda f: change_text(f / "boxes.json", lambda text: text.replace("[", "[NaN,", 3)),
    ),
    "no boxes at all": (
        DRAW, 3, "box", lambda f: change_json(f / "boxes.json", lambda v: [i.update(boxes=[]) for i in v["images"]]),
    ),
    "boxes in another form": (
        DRAW, 3, "boxes.json is COCO JSON, not a boxes.json; `medaug boxes",
        lambda f: (f / "boxes.json").write_text(COCO, encoding="utf-8"),
    ),
    "boxes that are cut short": (DRAW, 3, "is not JSON", lambda f: truncate(f / "boxes.json")),
    "another image size in the mix": (MIX, 3, "pixels", lambda f: make_store(f / "real.h5", make_records(size=32))),
    "detector of another image size": (JUDGE, 3, "16", lambda f: make_store(f / "real.h5", make_records(size=32))),
    "real images in place of synthetic": (
        [*DETECT, "--synthetic", "real.h5"], 3, "real images", lambda f: None,
    ),
    "filter of real images": (["filter", "real.h5", "--out", "new.h5"], 2, "real images", lambda f: None),
    "existing result": (["synthesize", "--n", "5"], 2, "--overwrite", lambda f: None),
    "unknown detector": (
        ["train-detector", "real.h5", "--detector", "yolo3", "--out", "new"], 4, "yolov3", lambda f: None,
    ),
    "unknown setting": ([*FIT, "--set", "pauze=1"], 2, "did you mean 'pause'", lambda f: None),
    "tsne without a store": (["tsne", "nothing.h5", "synthetic.h5"], 3, "nothing.h5", lambda f: None),
    "decisions that are missing": (
        ["filter", "synthetic.h5", "--out", "new.h5", "--decisions", "d.csv"], 3, "d.csv", lambda f: None,
    ),
    "evaluation of an empty split": (
        [*JUDGE, "--split", "val"], 3, "val",
        lambda f: make_store(f / "real.h5", [r for r in make_records() if r.split != "val"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_half_written(trained, medaug, case):
    arguments, code, word, damage = CASES[case]
    damage(trained)
    before = everything(trained)
    found, out, said = medaug(*arguments)
    assert found == code, said
    assert out == ""
    last = said.strip().splitlines()[-1]
    assert last.startswith("medaug: ")
    assert word in last
    assert everything(trained) == before


def test_a_patient_in_two_splits(tmp_path, medaug):
    (tmp_path / "scans").mkdir()
    rows = ["image,x_min,y_min,x_max,y_max,label,patient,split"]
    for i in range(4):
        Image.fromarray(np.full((32, 32), 40 + i, np.uint8)).save(tmp_path / f"scans/{i}.png")
        rows.append(f"{i}.png,2,2,9,9,lesion,p{i // 3},{'train' if i % 2 else 'test'}")
    (tmp_path / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    before = everything(tmp_path)
    arguments = ["preprocess", tmp_path / "scans", "--boxes", tmp_path / "boxes.csv", "--out", tmp_path / "real.h5"]
    code, _, said = medaug(*arguments)
    assert code == 3, said
    assert "p0" in said.strip().splitlines()[-1]
    assert everything(tmp_path) == before
