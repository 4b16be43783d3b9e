"""Names, links and folders that are awkward: every scan has an id, and what cannot be read is named, never a crash."""

import json
import os
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nifti_bytes import write_nifti
from PIL import Image
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput
from medaug_cli.scans.naming import LONGEST, plain_ids
from medaug_cli.scans.reading import read_pixels
from medaug_cli.scans.survey import find_scans, survey
from medaug_cli.store import open_store

PLAIN = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST}}}")
UID = "1.3.6.1.4.1.14519.5.2.1.9999.6001." + "2" * 30
SETS = [
    ["Schädel", "Schadel"],
    ["頭部", "頸部"],
    ["Ärzte", "Ürzte"],
    ["мозг", "mozg", "МОЗГ"],
    ["a b", "a-b", "a/b"],
    ["a%b", "a%%b", "a#b"],
    ["β1", "γ1"],
    [UID * 2, UID * 2 + "1"],
    ["x" * 130, "x" * 131, "x" * 120],
    [unicodedata.normalize("NFC", "é1"), unicodedata.normalize("NFD", "é1")],
    ["😀", "😁"],
    ["P1", "p1"],
    ["(1)", "[1]"],
    ["a\udcff", "a\udcfe"],
]


@pytest.mark.parametrize("names", SETS, ids=[ascii(some[0])[:20] for some in SETS])
def test_each_name_has_an_id_of_its_own_that_does_not_depend_on_the_order(names):
    ids = plain_ids(names)
    assert len(set(ids)) == len(ids)
    assert all(PLAIN.fullmatch(one) for one in ids)
    assert plain_ids(names[::-1]) == ids[::-1]


@given(st.lists(st.text(min_size=1, max_size=150), unique=True, max_size=6))
def test_any_names_have_ids(names):
    ids = plain_ids(names)
    assert len(set(ids)) == len(ids)
    assert all(PLAIN.fullmatch(one) for one in ids)


def test_a_name_that_is_an_id_keeps_it_and_a_foreign_one_has_the_same_alone_and_among_others():
    plain = ["sub-01_T1w", "a.b", "x" * LONGEST, "a-b"]
    assert plain_ids([*plain, "a b"])[:4] == plain
    assert plain_ids(["Schädel"]) == plain_ids(["Schadel", "Schädel"])[1:]
    assert plain_ids([UID * 2]) == plain_ids([UID * 2, UID * 2 + "1"])[:1]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 50, (40, 40)).astype(np.uint8)
    pixels[10:20, 12:24] = 250
    Image.fromarray(pixels).save(path)


def rows(folder, *names):
    lines = ["image,x_min,y_min,x_max,y_max", *(f"{name},12,10,24,20" for name in names)]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "boxes.csv"


def preprocess(folder, *more, marks=None):
    arguments = [
        "preprocess", folder / "scans", "--boxes", marks or folder / "boxes.csv", "--strip", "none", "--size", "32",
        "--denoise", "none", "--split", "1,0,0", "--workers", "1", "--out", folder / "out/real.h5", *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, [str(one) for one in arguments])


def broken(folder, kind):
    """Put what is not there, or is no file, beside a picture."""
    path = folder / "scans/b.png"
    if kind == "broken link":
        path.symlink_to("nowhere.png")
    elif kind == "annex":
        path.symlink_to("../.git/annex/objects/Xx/9z/SHA256E-s9--ab.png/SHA256E-s9--ab.png")
    elif kind == "loop":
        path.symlink_to("c.png")
        (folder / "scans/c.png").symlink_to("b.png")
    elif kind == "loop of itself":
        path.symlink_to("b.png")
    elif kind == "annex pointer":
        path.write_text("/annex/objects/SHA256E-s9--ab.png\n", encoding="utf-8")
    elif kind == "lfs pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", encoding="utf-8")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to its own folder":
        (folder / "scans/again").symlink_to(folder / "scans")
    elif kind == "empty":
        path.touch()


KINDS = {
    "broken link": "link to nowhere.png, which is not there",
    "annex": "git annex get",
    "loop": "link to c.png, which is not there",
    "loop of itself": "link to b.png, which is not there",
    "annex pointer": "git annex get",
    "lfs pointer": "git lfs pull",
    "pipe": "not among the scans",
    "folder": "not among the scans",
    "empty": "cannot be read",
}


@pytest.mark.parametrize("kind", [*KINDS, "link to its own folder"])
def test_what_is_not_there_and_not_annotated_harms_nothing(tmp_path, kind):
    picture(tmp_path / "scans/a.png")
    broken(tmp_path, kind)
    rows(tmp_path, "a.png")
    result = preprocess(tmp_path)
    assert result.exit_code == 0, result.output
    assert list(open_store(tmp_path / "out/real.h5").ids) == ["a"]
    if "link" in kind or "loop" in kind:
        assert re.search("link", result.output), result.output


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_and_annotated_is_named_in_one_sentence(tmp_path, kind):
    picture(tmp_path / "scans/a.png")
    broken(tmp_path, kind)
    rows(tmp_path, "a.png", "b.png")
    result = preprocess(tmp_path)
    assert isinstance(result.exception, BadInput), result.exception
    assert re.search(rf"b\.png.*({KINDS[kind]})", str(result.exception))


@pytest.mark.parametrize("kind", ["broken link", "loop", "annex pointer"])
def test_it_is_left_out_and_listed_by_keep_going(tmp_path, kind):
    picture(tmp_path / "scans/a.png")
    broken(tmp_path, kind)
    rows(tmp_path, "a.png", "b.png")
    result = preprocess(tmp_path, "--keep-going")
    assert result.exit_code == 0, result.output
    assert '"skipped"' in (tmp_path / "out/preprocess.json").read_text(encoding="utf-8")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    picture(tmp_path / "closed/b.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(BadInput, match=r"closed cannot be read \(Permission denied\); move it elsewhere"):
        find_scans(tmp_path)
    with pytest.raises(BadInput, match=r"closed cannot be read \(Permission denied\); --keep-going skips it"):
        survey(tmp_path, keep_going=False)
    found = survey(tmp_path, keep_going=True)
    assert [scan.id for scan in found.scans] == ["a"]
    assert [(one.shown, one.reason) for one in found.left_out] == [("closed", "cannot be read (Permission denied)")]


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "c1.nii", np.zeros((3, 4, 5), np.int16))
    (scan,) = find_scans(tmp_path)

    def refusing(self, *arguments, **more):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "open", refusing)
    with pytest.raises(BadInput, match=r"c1\.nii cannot be read \(Permission denied\)"):
        read_pixels(scan)


def test_names_that_differ_in_script_alone_give_two_images(tmp_path):
    for name in ("頭部.png", "頸部.png", "x" * 140 + ".png"):
        picture(tmp_path / "scans" / name)
    rows(tmp_path, "頭部.png", "頸部.png", "x" * 140 + ".png")
    result = preprocess(tmp_path)
    assert result.exit_code == 0, result.output
    ids = list(open_store(tmp_path / "out/real.h5").ids)
    assert len(set(ids)) == 3
    assert all(PLAIN.fullmatch(one) for one in ids)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_volume_that_is_annotated_with_no_box_is_a_normal_one(tmp_path, form):
    values = np.random.default_rng(0).integers(100, 900, (4, 40, 40)).astype(np.int16)
    for name in ("c1", "c2"):
        (tmp_path / "scans").mkdir(exist_ok=True)
        write_nifti(tmp_path / f"scans/{name}.nii", values)
    columns = "image,x_min,y_min,z_min,x_max,y_max,z_max\n"
    marks = tmp_path / f"boxes.{form}"
    marks.write_text(f"{columns}c1,5,5,1,20,20,3\nc2,,,,,,\n", encoding="utf-8")
    if form == "json":
        boxes = {"c1": [{"box": [5, 5, 1, 20, 20, 3], "label": "lesion"}], "c2": []}
        sides = {"width": 40, "height": 40, "depth": 4}
        images = [{"id": name, "boxes": own} | sides for name, own in boxes.items()]
        marks.write_text(json.dumps({"version": 1, "images": images}), encoding="utf-8")
    result = preprocess(tmp_path, marks=marks)
    assert result.exit_code == 0, result.output
    store = open_store(tmp_path / "out/real.h5")
    assert sum(len(store.boxes[i]) for i in range(len(store))) == 2
    assert all(not len(store.boxes[i]) for i, name in enumerate(store.ids) if name.startswith("c2"))


def mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((40, 40), np.uint8)
    pixels[10:20, 12:24] = 255
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("kind", ["broken link", "annex", "loop", "loop of itself", "annex pointer", "lfs pointer"])
def test_a_mask_that_is_not_there_is_named(tmp_path, kind):
    for name in "ab":
        picture(tmp_path / f"scans/{name}.png")
    (tmp_path / "masks/scans").mkdir(parents=True)
    mask(tmp_path / "masks/a.png")
    broken(tmp_path / "masks", kind)
    for file in (tmp_path / "masks/scans").iterdir():
        file.rename(tmp_path / "masks" / file.name)
    result = preprocess(tmp_path, marks=tmp_path / "masks")
    assert isinstance(result.exception, BadInput), result.output
    assert re.search(rf"masks/b\.png.*({KINDS[kind]})", str(result.exception))
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]


@pytest.mark.parametrize("form", ["masks", "yolo"])
def test_a_folder_of_annotations_that_may_not_be_read_is_named(tmp_path, monkeypatch, form):
    for name in ("p1/a", "p2/b"):
        picture(tmp_path / f"scans/{name}.png")
        mask(tmp_path / f"marks/{name}.png")
        if form == "yolo":
            (tmp_path / f"marks/{name}.png").unlink()
            (tmp_path / f"marks/{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("marks/p2"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    result = preprocess(tmp_path, marks=tmp_path / "marks")
    assert isinstance(result.exception, BadInput), result.output
    assert "marks/p2 cannot be read (Permission denied)" in str(result.exception)
