"""Several boxes in a row of a CSV: tight ones and rough ones, of which training may take the rough alone."""

import pytest
from support.tiny_scans import BOX, made, picture, rows

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import sha256_file

ROUGH = (6, 5, 20, 18)
HEADER = "image,patient,split,x_min,y_min,x_max,y_max,rough_x_min,rough_y_min,rough_x_max,rough_y_max"


def scans(folder, header=HEADER):
    lines = []
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        picture(folder / f"scans/{name}.png", BOX)
        lines.append(f"{name}.png,{name},{split},{','.join(map(str, (*BOX, *ROUGH)))}")
    return rows(folder, lines, header)


def halved(box):
    return [[value / 2 for value in box]]  # 32 pixels become 16


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (None, [BOX, BOX, BOX]),
        ("rough", [ROUGH, ROUGH, ROUGH]),
        ("rough_", [ROUGH, ROUGH, ROUGH]),
        ("Rough", [ROUGH, ROUGH, ROUGH]),
        ("train:rough", [ROUGH, BOX, BOX]),
    ],
)
def test_the_columns_that_are_asked_for_are_taken(tmp_path, columns, expected):
    store = made(tmp_path, boxes=scans(tmp_path), box_columns=columns)
    assert [boxes.tolist() for boxes in store.boxes] == [halved(box) for box in expected]
    assert store.info.settings.get("box_columns") == columns


@pytest.mark.parametrize(
    "header",
    [
        "image,patient,split,x1,y1,x2,y2,quick_x1,quick_y1,quick_x2,quick_y2",
        "filename,patient,split,left,top,right,bottom,quick left,quick top,quick right,quick bottom",
    ],
)
def test_other_names_of_columns_have_the_prefix_too(tmp_path, header):
    store = made(tmp_path, boxes=scans(tmp_path, header), box_columns="quick")
    assert [boxes.tolist() for boxes in store.boxes] == [halved(ROUGH)] * 3


def test_what_is_not_there_is_named(tmp_path):
    boxes = scans(tmp_path)
    with pytest.raises(BadInput, match=r"lacks the columns loose_x_min, .*; it has image, .*rough_x_min"):
        made(tmp_path, boxes=boxes, box_columns="loose")
    with pytest.raises(UsageError, match="--box-columns names columns of the CSV"):
        made(tmp_path, unannotated=True, box_columns="rough")
    coco = tmp_path / "coco.json"
    coco.write_text('{"images": [], "annotations": [], "categories": []}', encoding="utf-8")
    with pytest.raises(UsageError, match="--box-columns is for CSV files"):
        made(tmp_path, boxes=coco, box_columns="rough")


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    boxes, split = scans(tmp_path), tmp_path / "deal/boxes.csv"
    split.parent.mkdir()
    split.write_text("patient,split\na,train\nb,val\nc,test\n", encoding="utf-8")
    boxes.write_text(boxes.read_text(encoding="utf-8").replace("split", "note"), encoding="utf-8")
    store = made(tmp_path, boxes=boxes, split=str(split))
    expected = {f"{tmp_path.name}/boxes.csv": sha256_file(boxes), "deal/boxes.csv": sha256_file(split)}
    assert store.info.inputs == expected
