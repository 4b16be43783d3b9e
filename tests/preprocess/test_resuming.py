"""A resumed run goes on only where scans are annotated as they were: no store mixes what was said before and after."""

import numpy as np
import pytest
from support.tiny_scans import BOX, made, mask, picture

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store.writing import StoreWriter

NAMES = ("a", "b", "c", "d")
LINE = "0 0.5 0.5 0.5 0.5\n"


def yolo(folder, lines=None):
    for name in NAMES:
        (folder / "marks").mkdir(exist_ok=True)
        (folder / f"marks/{name}.txt").write_text((lines or {}).get(name, LINE), encoding="utf-8")
    (folder / "marks/classes.txt").write_text("mass\n", encoding="utf-8")


def masks(folder, boxes=None):
    for name in NAMES:
        mask(folder / f"marks/{name}.png", (boxes or {}).get(name, BOX))


def voc(folder, corner=10):
    for name in NAMES:
        ends = f"<xmin>3</xmin><ymin>3</ymin><xmax>{corner if name == 'a' else 9}</xmax><ymax>9</ymax>"
        text = f"<annotation><object><name>x</name><bndbox>{ends}</bndbox></object></annotation>"
        (folder / "marks").mkdir(exist_ok=True)
        (folder / f"marks/{name}.xml").write_text(text, encoding="utf-8")


def write(name, text):
    return lambda folder: (folder / f"marks/{name}").write_text(text, encoding="utf-8")


CHANGES = {  # how scans are annotated, and what of the first, which is finished, is changed
    "YOLO, another place": (yolo, write("a.txt", "0 0.4 0.5 0.5 0.5\n")),
    "YOLO, one more": (yolo, write("a.txt", LINE + "0 0.2 0.2 0.1 0.1\n")),
    "YOLO, none left": (yolo, write("a.txt", "")),
    "YOLO, another class": (yolo, write("classes.txt", "cyst\n")),
    "VOC, another place": (voc, lambda folder: voc(folder, 11)),
    "VOC, another label": (voc, lambda folder: [
        file.write_text(file.read_text(encoding="utf-8").replace("x</name>", "y</name>"), encoding="utf-8")
        for file in (folder / "marks").iterdir()]),
    "a mask, another place": (masks, lambda folder: masks(folder, {"a": (9, 6, 19, 16)})),
    "a mask, smaller": (masks, lambda folder: masks(folder, {"a": (8, 6, 18, 15)})),
    "a mask, gone": (masks, lambda folder: (folder / "marks/a.png").unlink()),
}  # fmt: skip


def given(folder, how):
    return {"masks" if how is masks else "boxes": folder / "marks"}


@pytest.fixture
def scans(tmp_path):
    for name in NAMES:
        picture(tmp_path / f"scans/{name}.png", BOX)
    return tmp_path


def stopped(folder, monkeypatch, **options):
    """Run until two scans are on the disk, and a third is reached."""
    add = StoreWriter.add

    def adding(writer, unit, records, note):
        if unit == 2:
            writer.flush()
            raise KeyboardInterrupt
        add(writer, unit, records, note)

    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "add", adding)
        with pytest.raises(KeyboardInterrupt):
            made(folder, split="1,0,0", **options)


@pytest.mark.parametrize("case", CHANGES)
def test_what_was_annotated_otherwise_is_not_mixed(scans, monkeypatch, case):
    how, change = CHANGES[case]
    how(scans)
    options = given(scans, how)
    stopped(scans, monkeypatch, **options)
    change(scans)
    with pytest.raises(UsageError, match=r"unfinished work in .* was begun with other settings .*--overwrite"):
        made(scans, split="1,0,0", resume=True, **options)
    store = made(scans, split="1,0,0", overwrite=True, **options)
    assert made(scans, split="1,0,0", resume=True, **options).hash == store.hash


@pytest.mark.parametrize("case", CHANGES)
def test_a_finished_store_of_other_annotations_is_not_taken_for_done(scans, case):
    how, change = CHANGES[case]
    how(scans)
    options = given(scans, how)
    store = made(scans, split="1,0,0", **options)
    assert made(scans, split="1,0,0", resume=True, **options).hash == store.hash
    change(scans)
    with pytest.raises(UsageError, match=r"real\.h5 was made with other settings .*annotated otherwise|label_names"):
        made(scans, split="1,0,0", resume=True, **options)


def test_a_mask_that_stopped_a_run_may_be_mended(scans, monkeypatch):
    masks(scans)
    (scans / "marks/d.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"d\.png"):
        made(scans, masks=scans / "marks", split="1,0,0")
    stopped(scans, monkeypatch, masks=scans / "marks", overwrite=True)
    masks(scans)
    store = made(scans, masks=scans / "marks", split="1,0,0", resume=True)
    assert [np.asarray(boxes).tolist() for boxes in store.boxes] == [store.boxes[0].tolist()] * 4
