"""A result replaces its own kind alone: no folder of somebody's, no input of the command, by no name of it."""

import contextlib
import json
import os
import shutil

import pytest
from conftest import make_store, tiny_installed
from forking import together
from inside import medaug
from typer.testing import CliRunner
from writing_commands import write_scans

from medaug_cli.boxes import read_boxes
from medaug_cli.cli import app
from medaug_cli.errors import MedaugError
from medaug_cli.runs import RunOptions, train_detector, train_generator
from medaug_cli.store import open_store

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")
FAST = ("--device", "cpu", "--precision", "32")
GAN = ("train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.01", *FAST)
DETECTOR = ("train-detector", "real.h5", "--detector", "tiny", "--steps", "2", *FAST)
COCO = ("evaluate", "--truth", "truth.json", "--detections", "found.json", "--resamples", "100")
BY_HAND = json.dumps({"version": 1, "images": [{"id": "a", "width": 9, "height": 9, "boxes": []}]})
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
    folder, fast = tmp_path_factory.mktemp("project"), {"device": "cpu", "precision": "32"}
    make_store(folder / "real.h5")
    with tiny_installed():
        train_generator(folder / "real.h5", "tiny", RunOptions(folder / "gan", **fast), kimg=0.01)
        train_detector(folder / "real.h5", "tiny", RunOptions(folder / "det", **fast), steps=2)
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
    """Fail unless a command is refused in a sentence and leaves every file as it was."""
    before = everything(folder)
    with contextlib.chdir(folder):
        error = CliRunner().invoke(app, [str(each) for each in arguments]).exception
    assert isinstance(error, MedaugError), repr(error)
    assert error.exit_code in (1, 2)
    assert word in str(error)
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
    refused([*FOLDERS[command], "--out", "x.parts"], place, "for unfinished work; choose another")
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
        refused(
            ["filter", "b.h5", "--by", "none", "--out", name, "--overwrite"], place, "use that name; choose another"
        )


def test_a_map_and_its_numbers_keep_others(place):
    def tsne(out, *more):
        return ["tsne", "real.h5", "drawn.h5", "--perplexity", "5", "--out", out, *more]

    make_store(place / "real.h5", n=36)
    assert medaug(["synthesize", "--n", "24", "--boxes", "boxes.json", "--out", "drawn.h5"], place) == 0
    (place / "own.png").write_text("not a picture", encoding="utf-8")
    (place / "mine.json").write_text('{"mine": 1}', encoding="utf-8")
    refused(tsne("map.json"), place, "the numbers are written there")
    refused(tsne("MAP.JSON"), place, "the numbers are written there")
    refused(tsne("own.png", "--overwrite"), place, "is not a picture")
    refused(tsne("mine.png", "--overwrite"), place, "mine.json exists and is not")
    (place / "page.html").write_text("somebody's", encoding="utf-8")
    refused(tsne("page.png", "--overwrite"), place, "page.html exists and is not part of a report")
    refused(tsne("new.html"), place, "the page is written there")


PREPROCESS = ("preprocess", "scans", "--boxes", "boxes.csv", "--size", "16", "--strip", "none")


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    """Return a folder with scans, their boxes, and a store of them with what belongs to it."""
    folder = tmp_path_factory.mktemp("scanned")
    write_scans(folder)
    assert medaug([*PREPROCESS, "--out", "made/real.h5"], folder) == 0
    return folder


@pytest.fixture
def scanned(preprocessed, tmp_path):
    """Return a copy that a test may change."""
    return shutil.copytree(preprocessed, tmp_path / "p")


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--resume",)])
def test_what_belongs_to_another_store_is_kept(scanned, more):
    refused([*PREPROCESS, "--seed", "3", "--out", "made/other.h5", *more], scanned, "is of real.h5")
    (scanned / "made/preprocess.json").unlink()
    (scanned / "made/preprocess.html").unlink()
    refused([*PREPROCESS, "--seed", "3", "--out", "made/other.h5", *more], scanned, "boxes.json is of real.h5")


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--resume",)])
@pytest.mark.parametrize(
    ("name", "text"),
    [("boxes.json", "mine"), ("boxes.json", BY_HAND), ("preprocess.json", '{"mine": 1}'), ("preprocess.html", "mine")],
)
def test_a_file_of_somebody_beside_a_store_is_kept(name, text, more, scanned):
    (scanned / "mine").mkdir()
    (scanned / "mine" / name).write_text(text, encoding="utf-8")
    refused([*PREPROCESS, "--out", "mine/real.h5", *more], scanned, f"{name} exists and ")


@pytest.mark.parametrize("name", ["boxes.json", "preprocess.json", "preprocess.html"])
def test_a_store_has_no_name_of_what_stands_beside_it(scanned, name):
    refused([*PREPROCESS, "--out", f"new/{name}"], scanned, "choose another, such as real.h5")


def test_two_stores_at_once_do_not_mix_their_boxes(scanned):
    lines = [[*PREPROCESS, "--seed", seed, "--out", f"both/{seed}.h5"] for seed in range(2)]
    codes, said = together(*lines, scanned)
    assert sorted(codes)[0] == 0
    assert sorted(codes)[1] in (1, 2), said
    (store,) = (scanned / "both").glob("*.h5")
    assert read_boxes(scanned / "both/boxes.json").store == open_store(store).hash


def test_parts_are_joined_over_nothing_of_somebody(scanned):
    parts = [f"part{i}/real.h5" for i in range(2)]
    for i, part in enumerate(parts):
        assert medaug([*PREPROCESS, "--num-parts", "2", "--part-id", i, "--out", part], scanned) == 0
    (scanned / "boxes.json").write_text(BY_HAND, encoding="utf-8")
    for more in ([], ["--overwrite"]):
        refused(
            ["store", "join", *parts, "--out", "real.h5", *more],
            scanned,
            "boxes.json exists and is not part of a store",
        )
        refused(["store", "join", *parts, "--out", "made/all.h5", *more], scanned, "is of real.h5")
    (scanned / "boxes.json").unlink()
    for more in ([], ["--overwrite"]):
        assert medaug(["store", "join", *parts, "--out", "real.h5", *more], scanned) == 0


def test_brain_masks_go_over_no_file_that_is_there(scanned):
    for more in ([], ["--overwrite"], ["--resume"]):
        refused(
            [*PREPROCESS, "--out", "new/real.h5", "--keep-masks", "scans/../scans", *more],
            scanned,
            "which this command",
        )
    (scanned / "kept").mkdir()
    (scanned / "kept/i000.png").write_text("mine", encoding="utf-8")
    refused([*PREPROCESS, "--out", "two/real.h5", "--keep-masks", "kept"], scanned, "kept/i000.png exists")
    (scanned / "inside").symlink_to(scanned / "scans")
    refused([*PREPROCESS, "--out", "two/real.h5", "--keep-masks", "inside/masks"], scanned, "which this command reads")
    refused([*PREPROCESS, "--out", "two/real.h5", "--keep-masks", "boxes.csv"], scanned, "boxes.csv is a file")
    for out in ("scans", "scans/found", "inside/found", "made/../scans/a/b"):
        refused(
            ["predict", "network", "scans", "--out", out, "--overwrite"], scanned, "lies in scans, which this command"
        )


def test_files_of_other_kinds_are_kept(scanned):
    (scanned / "notes.txt").write_text("three years of reading, image by image", encoding="utf-8")
    (scanned / "thesis.docx").write_bytes(bytes(range(256)))
    (scanned / "study").mkdir()
    (scanned / "study/study.csv").write_text("mine", encoding="utf-8")
    for name in ("notes.txt", "thesis.docx"):
        line = ("boxes", "boxes.csv", "--scans", "scans", "--to", "csv", "--out", name, "--overwrite")
        refused(line, scanned, f"{name} exists and does not hold boxes")
        line = ("store", "preview", "made/real.h5", "--out", name, "--overwrite")
        refused(line, scanned, f"{name} exists and is not a picture")
    line = ("study", "made/real.h5", "--arm", "tiny", "--detector", "tiny", "--out", "study")
    refused(line, scanned, "study.csv exists and was not written by medaug study")
    (scanned / "study/opened.json").write_text("{}", encoding="utf-8")
    refused(line, scanned, "opened.json exists and was not written by medaug study")


OTHERS = {  # what holds images but is no file of boxes that medaug boxes wrote -> its name, content, what is said
    "a table of classes": ("mine.csv", "image,class\ni000.png,mass\n", "does not hold boxes"),
    "boxes with more of them": ("more.csv", "image,label,x_min,y_min,x_max,y_max,reader\n", "does not hold boxes"),
    "a report": (
        "report.json",
        json.dumps({"version": 1, "images": [{"id": "a", "keep": True}]}),
        "does not hold boxes",
    ),
    "boxes of a store": ("held.json", json.dumps(json.loads(BY_HAND) | {"store": "00ff"}), "belongs to a store"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_boxes_replace_no_file_that_only_looks_like_them(scanned, case):
    name, content, said = OTHERS[case]
    (scanned / name).write_text(content, encoding="utf-8")
    line = ("boxes", "boxes.csv", "--scans", "scans", "--to", "csv", "--out", name, "--overwrite")
    refused(line, scanned, f"{name} exists and {said}")
    assert (scanned / name).read_text(encoding="utf-8") == content


@pytest.mark.parametrize("form", ["boxes", "coco", "csv", "monai"])
def test_boxes_replace_their_own_files(scanned, form):
    out = "own.csv" if form == "csv" else "own.json"
    for more in ([], ["--overwrite"]):
        line = ("boxes", "boxes.csv", "--scans", "scans", "--to", form, "--out", out, *more)
        assert medaug(line, scanned) == 0


def test_the_filter_keeps_a_page_of_somebody(place):
    assert medaug(["synthesize", "--n", "4", "--out", "drawn.h5"], place) == 0
    (place / "filter.html").write_text("mine", encoding="utf-8")
    for more in ([], ["--overwrite"], ["--resume"]):
        refused(
            ["filter", "drawn.h5", "--by", "none", "--out", "kept.h5", *more], place, "filter.html exists and is not"
        )
