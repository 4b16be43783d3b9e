"""A result replaces its own kind alone: no folder of somebody's, no input of the command, by no name of it."""

import json
import os
import shutil

import pytest
from conftest import make_store
from forking import medaug

pytestmark = pytest.mark.usefixtures("tiny_plugins")
FAST = ("--device", "cpu", "--precision", "32")
GAN = ("train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.01", *FAST)
DETECTOR = ("train-detector", "real.h5", "--detector", "tiny", "--steps", "2", *FAST)
COCO = ("evaluate", "--truth", "truth.json", "--detections", "found.json", "--resamples", "100")
FOLDERS = {
    "train-gan": GAN,
    "train-detector": DETECTOR,
    "detect": ("detect", "real.h5", "det"),
    "evaluate": COCO,
    "export": ("export", "gan"),
    "store export": ("store", "export", "real.h5", "--format", "csv"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a folder with a store, a generator, a detector and files in COCO format."""
    from importlib.metadata import EntryPoint

    from medaug_cli import registry
    from medaug_cli.runs import RunOptions, train_detector, train_generator

    folder, found = tmp_path_factory.mktemp("project"), registry.entry_points
    own = [EntryPoint("tiny", f"tiny:Tiny{kind.title()}", f"medaug.{kind}s") for kind in ("generator", "detector")]
    registry.entry_points = lambda group: [*found(group=group), *(one for one in own if one.group == group)]
    try:
        make_store(folder / "real.h5")
        fast = {"device": "cpu", "precision": "32"}
        train_generator(folder / "real.h5", "tiny", RunOptions(folder / "gan", **fast), kimg=0.01)
        train_detector(folder / "real.h5", "tiny", RunOptions(folder / "det", **fast), steps=2)
    finally:
        registry.entry_points = found
    image = {"id": 1, "width": 16, "height": 16, "file_name": "1.png"}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 5, 5], "area": 25, "iscrowd": 0}
    truth = {"images": [image], "categories": [{"id": 1, "name": "lesion"}], "annotations": [box]}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    (folder / "found.json").write_text(json.dumps([box | {"score": 0.9}]), encoding="utf-8")
    return folder


@pytest.fixture
def place(project, tmp_path):
    """Return a copy of the project that a test may change."""
    shutil.copytree(project, tmp_path / "p")
    return tmp_path / "p"


def everything(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != "said.txt"
    }


def refused(arguments, folder, word):
    """Fail unless a command is refused in one sentence and leaves every file as it was."""
    before = everything(folder)
    code = medaug(arguments, folder)
    said = (folder / "said.txt").read_text(encoding="utf-8")
    assert code in (1, 2), said
    assert word in said.strip().splitlines()[-1]
    assert said.strip().splitlines()[-1].startswith("medaug: ")
    assert "Traceback" not in said
    assert everything(folder) == before


def somebodys(folder):
    (folder / "thesis").mkdir()
    (folder / "thesis/notes.txt").write_text("three years of reading", encoding="utf-8")


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_of_somebody_is_kept(place, command):
    somebodys(place)
    refused([*FOLDERS[command], "--out", "thesis", "--overwrite"], place, "thesis exists and is not")
    refused([*FOLDERS[command], "--out", ".", "--overwrite"], place, ". exists; choose another --out")
    refused([*FOLDERS[command], "--out", "..", "--overwrite"], place, ".. exists; choose another --out")
    refused([*FOLDERS[command], "--out", "real.h5/x"], place, "is a file")
    refused([*FOLDERS[command], "--out", "x" * 250], place, "too long")
    (place / "linked").symlink_to(place / "thesis")
    refused([*FOLDERS[command], "--out", "linked", "--overwrite"], place, "exists and is not")


@pytest.mark.parametrize("command", [name for name in FOLDERS if name != "detect"])  # of scans, which this store lacks
def test_a_result_is_replaced_by_its_own_kind_unless_something_was_put_into_it(place, command):
    arguments = [*FOLDERS[command], "--out", "made", "--overwrite"]
    for _ in range(2):
        assert medaug(arguments, place) == 0, (place / "said.txt").read_text(encoding="utf-8")
    (place / "made/mine.txt").write_text("mine", encoding="utf-8")
    refused(arguments, place, "mine.txt")
    (place / "made/mine.txt").unlink()
    for name, other in FOLDERS.items():
        if name != command:
            refused([*other, "--out", "made", "--overwrite"], place, "made")


@pytest.mark.parametrize("command", ["train-gan", "train-detector"])
def test_a_parts_folder_of_somebody_is_kept(place, command):
    somebodys(place)
    (place / "thesis").rename(place / "new.parts")
    for more in ([], ["--overwrite"], ["--resume"]):
        refused([*FOLDERS[command], "--out", "new", *more], place, "new.parts exists and is not")


STORES = {
    "synthesize": ("synthesize", "--n", "4"),
    "filter": ("filter", "drawn.h5", "--by", "none"),
}


@pytest.mark.parametrize("command", STORES)
def test_a_store_is_replaced_by_a_store_of_the_same_command(place, command):
    assert medaug(["synthesize", "--n", "4", "--out", "drawn.h5"], place) == 0
    arguments = [*STORES[command], "--out", "made.h5", "--overwrite"]
    somebodys(place)
    refused([*STORES[command], "--out", "real.h5", "--overwrite"], place, "real.h5")
    refused([*STORES[command], "--out", "truth.json", "--overwrite"], place, "truth.json exists and is not a store")
    refused([*STORES[command], "--out", "thesis", "--overwrite"], place, "thesis is a folder")
    (place / "made.h5.parts").mkdir()
    (place / "made.h5.parts/keep.txt").write_text("mine", encoding="utf-8")
    refused(arguments, place, "made.h5.parts exists and is not")


def test_an_input_is_known_by_every_name(place):
    assert medaug(["synthesize", "--n", "4", "--out", "drawn.h5"], place) == 0
    assert medaug(["filter", "drawn.h5", "--by", "none", "--out", "kept.h5"], place) == 0
    os.link(place / "kept.h5", place / "hard.h5")
    (place / "soft.h5").symlink_to("kept.h5")
    (place / "here").symlink_to(place)
    (place / "filter.json").unlink()
    for name in ("kept.h5", "hard.h5", "soft.h5", "here/kept.h5", "../p/kept.h5"):
        refused(["filter", "kept.h5", "--by", "none", "--out", name, "--overwrite"], place, "which this command reads")
    for name in ("real.h5", "here/real.h5"):
        refused(["store", "preview", "real.h5", "--out", name, "--overwrite"], place, "which this command reads")


def test_a_report_of_another_result_is_kept(place):
    for name, more in (("a", ()), ("b", ("--seed", "5"))):
        assert medaug(["synthesize", "--n", "6", *more, "--out", f"{name}.h5"], place) == 0
    assert medaug(["filter", "a.h5", "--by", "none", "--out", "kept-a.h5"], place) == 0
    for more in ([], ["--overwrite"], ["--resume"]):
        refused(["filter", "b.h5", "--by", "none", "--out", "kept-b.h5", *more], place, "the report of kept-a.h5")
    assert medaug(["filter", "a.h5", "--by", "none", "--out", "kept-a.h5", "--resume"], place) == 0
    for name in ("filter.json", "filter.html"):
        refused(["filter", "b.h5", "--by", "none", "--out", name, "--overwrite"], place, "choose another one")


def test_a_map_and_its_numbers_keep_others(place):
    def tsne(out, *more):
        return ["tsne", "real.h5", "drawn.h5", "--perplexity", "5", "--out", out, *more]

    make_store(place / "real.h5", n=36)
    assert medaug(["synthesize", "--n", "24", "--boxes", "boxes.json", "--out", "drawn.h5"], place) == 0
    (place / "own.png").write_text("not a picture", encoding="utf-8")
    (place / "mine.json").write_text('{"mine": 1}', encoding="utf-8")
    refused(tsne("map.json"), place, "the numbers go there")
    refused(tsne("MAP.JSON"), place, "the numbers go there")
    refused(tsne("own.png", "--overwrite"), place, "is not a picture")
    refused(tsne("mine.png", "--overwrite"), place, "mine.json exists and is not")
