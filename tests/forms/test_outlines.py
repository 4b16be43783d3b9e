"""The outlines of COCO: polygons and run lengths as pixels, and what of them is refused, dropped or said."""

import json

import numpy as np
import pytest
from pycocotools import mask as tool
from support.tiny_scans import PLAIN, made, picture, reported

from medaug_cli.errors import BadInput
from medaug_cli.forms.coco import run_lengths
from medaug_cli.forms.outlines import label_map, read_outline

SIDE = 32
WAYS = {
    "a triangle": [[4, 4, 26, 6, 10, 25]],
    "a rectangle": [[4, 5, 20, 5, 20, 18, 4, 18]],
    "corners between pixels": [[4.5, 5.25, 20.75, 6, 17.5, 19.5, 3, 15]],
    "a star": [[16, 2, 20, 12, 30, 12, 22, 19, 25, 29, 16, 23, 7, 29, 10, 19, 2, 12, 12, 12]],
    "two parts": [[2, 2, 10, 2, 10, 10, 2, 10], [18, 18, 29, 20, 20, 29]],
    "over the border": [[-3, 10, 12, -2, 20, 20, 8, 40]],
    "closed by its first corner": [[4, 4, 26, 6, 10, 25, 4, 4]],
    "the other way round": [[10, 25, 26, 6, 4, 4]],
    "one list": [4, 4, 26, 6, 10, 25],
    "a sliver": [[2, 2, 28, 2.4, 28, 2.6, 2, 2.5]],
}


@pytest.mark.parametrize("way", WAYS)
def test_polygons_hold_the_pixels_whose_middle_lies_inside(way):
    outline = read_outline("here", WAYS[way])
    found = outline.pixels((SIDE, SIDE))
    lists = WAYS[way] if isinstance(WAYS[way][0], list) else [WAYS[way]]
    expected = tool.decode(tool.merge(tool.frPyObjects(lists, SIDE, SIDE))).astype(bool)
    off = found != expected  # pycocotools rounds the rim to its own finer grid
    near = np.zeros_like(off)
    for polygon in lists:
        corners = np.array(polygon, float).reshape(-1, 2)
        for one, two in zip(corners, np.roll(corners, -1, 0), strict=True):
            for point in one + np.linspace(0, 1, 200)[:, None] * (two - one):
                x, y = np.floor(point).astype(int)
                near[max(0, y - 1) : max(0, y + 2), max(0, x - 1) : max(0, x + 2)] = True
    assert not (off & ~near).any()


SMALL = {  # polygons that hold the middle of no pixel -> the pixel that is marked, x first; None where there is none
    "a square within a pixel": ([[5.6, 5.6, 5.9, 5.6, 5.9, 5.9, 5.6, 5.9]], (5, 5)),
    "a square between four": ([[5.6, 5.6, 6.4, 5.6, 6.4, 6.4, 5.6, 6.4]], (6, 6)),
    "a row": ([[5, 5.6, 9, 5.6, 9, 6.4, 5, 6.4]], (7, 6)),
    "a column": ([[5.6, 5, 6.4, 5, 6.4, 8, 5.6, 8]], (6, 6)),
    "a corner of the picture": ([[31.6, 31.6, 32, 31.6, 32, 32]], (31, 31)),
    "its first pixel": ([[0, 0, 0.4, 0, 0.4, 0.4]], (0, 0)),
    "two specks": ([[2.6, 2.6, 2.9, 2.6, 2.9, 2.9], [4.6, 4.6, 4.9, 4.6, 4.9, 4.9]], (3, 3)),
    "a speck beside a square": ([[2.6, 2.6, 2.9, 2.6, 2.9, 2.9], [4, 4, 5, 4, 5, 5, 4, 5]], (4, 4)),
    "over the border": ([[31.8, 5.6, 32.4, 5.6, 32.4, 5.9]], (31, 5)),
    "beside the picture": ([[40.6, 5.6, 40.9, 5.6, 40.9, 5.9]], None),
    "a line": ([[5.6, 5.6, 9, 5.6]], None),
    "a point": ([[5.6, 5.6]], None),
}


@pytest.mark.parametrize("way", SMALL)
def test_a_polygon_too_small_for_a_pixel_marks_one(way):
    polygons, expected = SMALL[way]
    found = np.argwhere(read_outline("here", polygons).pixels((SIDE, SIDE)))[:, ::-1]
    assert [tuple(pixel) for pixel in found.tolist()] == ([] if expected is None else [expected])


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_are_read_as_they_were_written(seed):
    drawn = np.random.default_rng(seed).random((9, 13)) < (0.02, 0.1, 0.5, 0.9, 1.0, 0.0)[seed]
    runs = {"size": [9, 13], "counts": run_lengths(drawn)}
    outline = read_outline("here", runs)
    np.testing.assert_array_equal(outline.pixels((9, 13)), drawn)
    y, x = np.nonzero(drawn)
    assert outline.box == ((x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0))


def test_of_outlines_that_overlap_the_smaller_is_seen():
    large, small = read_outline("a", [[0, 0, 20, 0, 20, 20, 0, 20]]), read_outline("b", [[5, 5, 9, 5, 9, 9, 5, 9]])
    for pair, labels in (((large, small), ("lung", "nodule")), ((small, large), ("nodule", "lung"))):
        values, names = label_map(pair, labels, (SIDE, SIDE))
        assert {name: int(np.isin(values, list(own)).sum()) for own, name in names.items()} == {
            "lung": 384, "nodule": 16
        }  # fmt: skip


def coco_of(folder, *rows):
    """Write two pictures of one box each and COCO's JSON with rows of (bbox, segmentation)."""
    images = [{"id": k, "file_name": f"{k}.png", "width": SIDE, "height": SIDE} for k in range(len(rows))]
    for k in range(len(rows)):
        picture(folder / f"scans/{k}.png", (8, 6, 18, 16))
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": bbox}
        | ({} if outline is None else {"segmentation": outline})
        for k, (bbox, outline) in enumerate(rows)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "mass"}]}
    (folder / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "coco.json"


BOX = [8, 6, 10, 10]
AS_BOX = [[8, 6, 18, 6, 18, 16, 8, 16]]
TRIANGLE = [[8, 6, 18, 6, 8, 16]]


CLOSED = [[*AS_BOX[0], 8, 6]]


@pytest.mark.parametrize("outlines", [(None, None), ([], []), (AS_BOX, AS_BOX), (AS_BOX, None), (CLOSED, [])])
def test_outlines_that_are_boxes_make_no_masks(tmp_path, outlines):
    store = made(tmp_path, boxes=coco_of(tmp_path, *((BOX, one) for one in outlines)))
    assert store.masks is None
    assert [len(boxes) for boxes in store.boxes] == [1, 1]


def test_a_box_without_an_outline_is_said(tmp_path):
    said = []
    store = made(tmp_path, boxes=coco_of(tmp_path, (BOX, TRIANGLE), (BOX, None)), said=said)
    assert [bool(mask.any()) for mask in store.masks] == [True, False]
    assert [len(boxes) for boxes in store.boxes] == [1, 1]
    lines = [line for one in reported(store)["slices"] for line in one["repaired"]]
    assert len(lines) == 1
    assert "a box without an outline" in lines[0]


NEITHER = r"annotation 0: its segmentation is neither a list of polygons .* nor run lengths"


@pytest.mark.parametrize(("outline", "said"), [
    ({"size": [SIDE, SIDE], "counts": [5, 5]}, "do not fill 32x32 pixels"),
    ({"size": [16, 16], "counts": [100, 100, 56]}, r"its run lengths are of 16x16 pixels, its image has 32x32"),
    ({"size": [SIDE, SIDE], "counts": [2000, -976]}, "do not fill"),
    ({"size": [-SIDE, -SIDE], "counts": [1024]}, "do not fill"),
    ({"counts": [1024]}, NEITHER),
    ({"size": [SIDE]}, NEITHER),
    ({"size": [SIDE, SIDE], "counts": None}, NEITHER),
    ({"size": [SIDE, SIDE], "counts": "\u00e9"}, NEITHER),
    ({"size": [SIDE, SIDE], "counts": [1, "x"]}, NEITHER),
    (7, NEITHER),
    ("abc", NEITHER),
    ([{}], NEITHER),
    ([[1, 2, 3, 4, 5, 6, 7]], "an odd number of coordinates"),
    ([["a", 2, 3, 4, 5, 6]], NEITHER),
    ([[1, 2, 3, None, 5, 6]], NEITHER),
])  # fmt: skip
def test_broken_outlines_are_refused_with_their_place(tmp_path, outline, said):
    boxes = coco_of(tmp_path, (BOX, outline), (BOX, TRIANGLE))
    with pytest.raises(BadInput, match=said):
        made(tmp_path, PLAIN, boxes=boxes)
    assert not (tmp_path / "out/real.h5").exists()


def test_outlines_of_volumes_are_said_not_to_be_read(tmp_path):
    from support.tiny_scans import grey_volume, volume

    volume(tmp_path / "scans/0.nii.gz", grey_volume())
    content = {
        "images": [{"id": 1, "file_name": "0.nii.gz", "slice": 2}], "categories": [{"id": 1, "name": "mass"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "segmentation": TRIANGLE}],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    said = []
    store = made(tmp_path, boxes=tmp_path / "coco.json", said=said)
    assert store.masks is None
    assert any("outlines in slices of a volume are ignored" in line for line in said)
