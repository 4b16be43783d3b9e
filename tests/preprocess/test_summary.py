"""What preprocess says at its end: five lines that fit a terminal, the same as JSON, and --strict."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.tiny_scans import BOX, PLAIN, made, mask, picture, reported, rows, summed
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.preprocess.report import PreprocessReport, SliceReport
from medaug_cli.preprocess.strip import Stripped
from medaug_cli.preprocess.summary import WIDTH, summary_of
from medaug_cli.preprocess.treatment import treat
from medaug_cli.scans.survey import find_scans

COUNTS = st.integers(0, 12_345)
PLAIN_OPTIONS = ["--strip", "none", "--denoise", "none", "--size", "16", "--workers", "1", "--split", "1,0,0"]


def run(folder, *more, monkeypatch):
    """Run the command in a folder, so that paths are short; return how it ended."""
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["preprocess", "scans", "--out", "out/real.h5", *PLAIN_OPTIONS, *more])


def draw(folder):
    """Draw six scans: two lesions, one of several, one too small, a normal and one that nobody annotated."""
    several, tiny = (20, 20, 31, 31), (1, 1, 3, 3)
    for name, boxes in {"a": [BOX], "b": [BOX, several], "c": [BOX, tiny], "d": [tiny]}.items():
        picture(folder / f"scans/{name}.png", *boxes)
        mask(folder / f"masks/{name}.png", *boxes)
    mask(folder / "masks/e.png")
    for name in "ef":
        picture(folder / f"scans/{name}.png")


def test_five_lines_say_what_a_person_must_know(tmp_path, monkeypatch):
    draw(tmp_path)
    (tmp_path / "scans/notes.txt").write_text("no scan", encoding="utf-8")
    done = run(tmp_path, "--masks", "masks", monkeypatch=monkeypatch)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "out/real.h5: 4 images (4 train, 0 val, 0 test) of 4 patients",
        "in: 4 scans, 4 lesions in 3 images, 1 normal",
        "dropped: 2 lesions: smaller than --min-area 10 (2)",
        "doubted: no images; repaired: no annotations",
        "left out: 2: 1 image of dropped lesions, and 1 more; see preprocess.html",
    ]
    assert "split by image" in done.stderr


def test_json_says_the_same(tmp_path, monkeypatch):
    draw(tmp_path)
    done = run(tmp_path, "--masks", "masks", "--json", monkeypatch=monkeypatch)
    said = json.loads(done.stdout)
    counts = {"images": 4, "train": 4, "val": 0, "test": 0, "scans": 4, "patients": 4, "lesions": 4, "normals": 1}
    assert said.items() >= counts.items()
    assert said["dropped"] == {"smaller than --min-area 10": 2}
    assert said["left_out"] == {"images of dropped lesions": 1, "scans without annotation": 1}
    assert (said["unannotated"], said["doubted"], said["repaired"]) == (0, 0, {})
    assert said["page"] == "out/preprocess.html"


def test_a_finished_run_says_the_same_again(tmp_path, monkeypatch):
    draw(tmp_path)
    first = run(tmp_path, "--masks", "masks", monkeypatch=monkeypatch)
    again = run(tmp_path, "--masks", "masks", "--resume", monkeypatch=monkeypatch)
    assert first.stdout == again.stdout


REASONS = ("smaller than --min-area 10", "cut off by the crop, less than 30% left", "a box without extent, left out",
           "a crowd region, left out", "left out with its scan or slice",
           "its scan or its mask cannot be read")  # fmt: skip


@given(counts=st.lists(COUNTS, min_size=8, max_size=8), reasons=st.lists(st.sampled_from(REASONS), max_size=60))
def test_lines_fit_a_terminal_whatever_is_counted(counts, reasons):
    report = PreprocessReport(tool_version="0", settings={}, split_by="patient", slices=[])
    found = summary_of(report)
    train, val, test, scans, lesions, images, normals, unannotated = counts
    kinds = {reason: reasons.count(reason) * 17 for reason in dict.fromkeys(reasons)}
    found = replace(
        found, images={"train": train, "val": val, "test": test}, patients=scans, scans=scans, lesions=lesions,
        lesion_images=images, normals=normals, unannotated=unannotated, dropped=kinds, repaired=kinds, doubted=images,
        left_out={"scans without annotation": scans, "images of dropped lesions": lesions, "files": images},
    )  # fmt: skip
    lines = found.lines(Path("real.h5"), Path("preprocess.html"))
    assert len(lines) == 5
    assert max(map(len, lines)) <= WIDTH == 80
    assert f"dropped: {sum(kinds.values()) or 'no'} lesion" in lines[2]


def test_every_dropped_lesion_is_counted_once_and_stands_on_the_page(tmp_path):
    draw(tmp_path)
    store = made(tmp_path, masks=tmp_path / "masks", split="1,0,0")
    slices = reported(store)["slices"]
    texts = [text for each in slices for text in each.get("dropped_boxes", ())]
    assert len(texts) == sum(summed(store).dropped.values()) == 2
    page = store.path.with_name("preprocess.html").read_text(encoding="utf-8")
    assert page.count("smaller than --min-area 10 (4 pixels)") >= 2


def test_of_a_scan_that_is_left_out_every_lesion_is_counted(tmp_path, monkeypatch):
    for name, boxes in (("a", [BOX, (1, 1, 3, 3)]), ("b", [(1, 1, 3, 3)]), ("c", [BOX])):
        picture(tmp_path / f"scans/{name}.png", BOX)
        mask(tmp_path / f"masks/{name}.png", *boxes)
    refused = Stripped(None, "brain2d", doubtful=True, reason="no brain was found", refused=True)
    monkeypatch.setattr("medaug_cli.preprocess.treatment.strip", lambda *given: refused)
    outcomes = [_treated(tmp_path, name) for name in "abc"]
    assert [len(each.dropped_boxes) for (each,) in outcomes] == [2, 1, 1]
    assert "smaller than --min-area 10 (4 pixels)" in outcomes[1][0].dropped_boxes


def _treated(folder, name):
    (scan,) = find_scans(folder / f"scans/{name}.png")
    return treat(scan, Annotation(mask=folder / f"masks/{name}.png"), PLAIN).reports


def test_a_note_on_a_file_is_said_and_is_no_file_that_is_left_out(tmp_path):
    picture(tmp_path / "scans/a.png", BOX)
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks/a.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    (tmp_path / "marks/notes.txt").write_text("of last week\n", encoding="utf-8")
    store = made(tmp_path, boxes=tmp_path / "marks")
    assert summed(store).left_out == {"files": 1}
    page = store.path.with_name("preprocess.html").read_text(encoding="utf-8")
    assert "marks: no name of the classes class0 was found" in page
    assert "<td>notes.txt</td>" in page


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_colours_that_are_given_up_are_said(tmp_path, first):
    for name, kind in (("a", first), ("b", "colour"), ("c", "grey")):
        picture(tmp_path / f"scans/{name}.png", BOX)
        if kind == "colour":
            with Image.open(tmp_path / f"scans/{name}.png") as grey:
                Image.merge("RGB", [grey, grey.point(lambda value: value // 2), grey]).save(grey.filename)
    said = []
    store = made(tmp_path, boxes=rows(tmp_path, [f"{name}.png,8,6,18,16" for name in "abc"]), said=said)
    assert store.spec.channels == (1 if first == "grey" else 3)
    assert [text for text in said if "as grey values" in text] == (
        ["b.png: its colours are stored as grey values, since the first scan has none"] if first == "grey" else []
    )


def test_channels_that_are_averaged_are_said(tmp_path):
    values = np.stack([60 + np.indices((4, 16, 16)).sum(0)] * 2, -1).astype(np.int16)
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / "scans/a.nii.gz"))
    said = []
    made(tmp_path, normals=True, said=said)
    assert "a.nii.gz: its 2 channels are averaged" in said


def test_every_reason_is_counted_by_what_it_is(tmp_path):
    texts = [f"{reason} (a.csv, line {line}: box [1, 2])" for line, reason in enumerate(REASONS)]
    mended = ["swapped (b)", "swapped (c)"]
    each = SliceReport(id="a", file="a.png", state="skipped", dropped_boxes=texts, repaired=mended)
    found = summary_of(PreprocessReport(tool_version="0", settings={}, split_by="patient", slices=[each]))
    assert found.dropped == dict.fromkeys(REASONS, 1)
    assert found.repaired == {"swapped": 2}
    complaint = "6 lesions that are annotated would be dropped: smaller than --min-area 10 (1), "
    assert found.complaint().startswith(complaint)
    assert "2 annotations would be repaired: swapped (2); the first is a: smaller" in found.complaint()


SWAPPED = "a.png,18,16,8,6"
STRICT = {  # rows of a.png and b.png, and what is complained of; nothing where all is well
    "whole": (["a.png,8,6,18,16", "b.png,8,6,18,16"], None),
    "a normal": (["a.png,8,6,18,16", "b.png,,,,"], None),
    "swapped corners": ([SWAPPED, "b.png,8,6,18,16"], "1 annotation would be repaired"),
    "an empty box": (["a.png,8,6,8,16", "b.png,8,6,18,16"], "1 lesion that is annotated would be dropped"),
    "both": ([SWAPPED, "b.png,8,6,8,16"], "dropped: .*; 1 annotation would be repaired"),
    "beyond the border": (["a.png,8,6,32.5,16", "b.png,8,6,18,16"], "repaired"),
}


@pytest.mark.parametrize("case", STRICT)
def test_strict_writes_nothing_where_an_annotation_is_not_used_as_it_is(tmp_path, case):
    lines, complaint = STRICT[case]
    for name in "ab":
        picture(tmp_path / f"scans/{name}.png", BOX)
    boxes = rows(tmp_path, lines)
    if complaint is None:
        assert len(made(tmp_path, boxes=boxes, strict=True, split="1,0,0")) == 2
        return
    with pytest.raises(BadInput, match=f"--strict: {complaint}|--strict: .*{complaint}") as error:
        made(tmp_path, boxes=boxes, strict=True, split="1,0,0")
    assert error.value.exit_code == 3
    assert not list((tmp_path / "out").rglob("*"))
    store = made(tmp_path, boxes=boxes, split="1,0,0")
    assert len(store) + sum(summed(store).dropped.values()) >= 2
    with pytest.raises(BadInput, match="--strict"):
        made(tmp_path, boxes=boxes, split="1,0,0", strict=True, resume=True)
    assert store.path.exists(), "what was made before stays"


@pytest.mark.parametrize("how", ["tiny", "damaged", "overwrite"])
def test_strict_looks_at_masks_and_damaged_scans(tmp_path, how):
    draw(tmp_path)
    if how == "damaged":
        (tmp_path / "scans/a.png").write_bytes(b"no picture")
    before = made(tmp_path, masks=tmp_path / "masks", keep_going=True) if how == "overwrite" else None
    with pytest.raises(BadInput, match=r"--strict: .* would be dropped"):
        made(tmp_path, masks=tmp_path / "masks", strict=True, keep_going=True, overwrite=how == "overwrite")
    left = [path.name for path in (tmp_path / "out").rglob("*")]
    if before is None:
        assert not left
    else:
        assert made(tmp_path, masks=tmp_path / "masks", keep_going=True, resume=True).hash == before.hash
        assert sorted(left) == ["boxes.json", "preprocess.html", "preprocess.json", "real.h5"]


def test_a_lesion_smaller_than_a_stored_pixel_is_doubted(tmp_path):
    picture(tmp_path / "scans/a.png", BOX, side=128)
    boxes = rows(tmp_path, ["a.png,8,6,18,16", "a.png,50,50,54,90"])
    store = made(tmp_path, replace(PLAIN, size=16), boxes=boxes, split="1,0,0")
    assert summed(store).doubted == 1
    assert "less than a pixel wide" in reported(store)["slices"][0]["reason"]
