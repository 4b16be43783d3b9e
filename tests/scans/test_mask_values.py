"""What the values of a mask stand for: read where that is plain, refused by name where it is not, never lost."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medaug_cli.errors import BadInput
from medaug_cli.scans.masks import joined_parts, label_names, labelled_components, mask_values, unnamed
from medaug_cli.scans.reading import read_stored

FIRST, SECOND = (10, 4, 16, 12), (30, 20, 34, 24)  # boxes
SHAPE = (32, 40)


def marked(*values, shape=SHAPE, kind=np.uint8, outside=0):
    """Return a mask (h, w) with the boxes FIRST and SECOND filled with values."""
    mask = np.full(shape, outside, kind)
    for (x0, y0, x1, y1), value in zip((FIRST, SECOND), values, strict=False):
        mask[y0:y1, x0:x1] = value
    return mask


def palette(indices, colours, transparent=None):
    picture = Image.fromarray(indices, "P")
    picture.putpalette([channel for colour in colours for channel in colour])
    if transparent is not None:
        picture.info["transparency"] = transparent
    return picture


def with_alpha(colour, alpha, mode="RGBA"):
    picture = Image.fromarray(colour).convert(mode)
    picture.putalpha(Image.fromarray(alpha))
    return picture


def soft(radius):
    from scipy.ndimage import gaussian_filter

    return np.rint(gaussian_filter(marked(255, 255).astype(float), radius)).astype(np.uint8)


def thin(first, second):
    mask = marked(0, second)
    mask[4:12, 10], mask[4, 10:16], mask[11, 10:16] = first, first, first
    return mask


BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (200, 0, 0), (0, 200, 0)
SEEN = marked(255, 255)
PICTURES = {  # name: (suffix, picture, boxes)
    "0 and 1": ("png", Image.fromarray(marked(1, 1)), 2),
    "0 and 255": ("png", Image.fromarray(marked(255, 255)), 2),
    "a bit a pixel": ("png", Image.fromarray(marked(255, 255)).convert("1"), 2),
    "sixteen bits": ("png", Image.fromarray(marked(300, 65535, kind=np.uint16)), 2),
    "grey for each class": ("png", Image.fromarray(marked(85, 170)), 2),
    "a thin line of another grey": ("png", Image.fromarray(thin(127, 255)), 2),
    "thin lines": ("png", Image.fromarray(thin(1, 1)), 2),
    "a palette of classes": ("png", palette(marked(1, 2), [BLACK, RED, GREEN]), 2),
    "a palette whose colour 0 is white": ("png", palette(marked(1, 2), [WHITE, BLACK, GREEN]), 2),
    "a palette whose colour 1 is black": ("png", palette(marked(1, 2), [RED, BLACK, GREEN]), 2),
    "black and white in a palette": ("png", palette(marked(1, 1), [BLACK, WHITE]), 2),
    "white and black in a palette": ("png", palette(marked(0, 0, outside=1), [WHITE, BLACK]), 2),
    "a palette in a TIFF": ("tif", palette(marked(1, 2), [BLACK, RED, GREEN]), 2),
    "a transparent colour": ("png", palette(marked(1, 2, outside=3), [GREEN, RED, GREEN, BLACK], 3), 2),
    "colours": ("png", Image.fromarray(np.stack([marked(255, 0), marked(0, 0), marked(0, 255)], -1)), 2),
    "opaque": ("png", with_alpha(SEEN, np.full(SHAPE, 255, np.uint8)), 2),
    "white on nothing": ("png", with_alpha(np.full(SHAPE, 255, np.uint8), SEEN), 2),
    "black on nothing": ("png", with_alpha(np.zeros(SHAPE, np.uint8), SEEN), 2),
    "grey and alpha": ("png", with_alpha(SEEN, SEEN, "LA"), 2),
    "JPEG": ("jpg", Image.fromarray(SEEN), 2),
    "soft edges": ("png", Image.fromarray(soft(0.6)), 2),
    "softer edges": ("png", Image.fromarray(soft(0.8)), 2),
    "nothing": ("png", Image.fromarray(marked()), 0),
    "nothing in JPEG": ("jpg", Image.fromarray(marked()), 0),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_as_the_mask_that_it_is(tmp_path, name):
    suffix, picture, count = PICTURES[name]
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    boxes, _ = labelled_components(mask_values(path, read_stored((path,), labels=True).image), None, 1)
    np.testing.assert_allclose(boxes, np.reshape([FIRST, SECOND][:count], (-1, 4)), atol=1 if suffix == "jpg" else 0)


@pytest.mark.parametrize(("first", "second", "several"), [
    ((255, 0, 0), (0, 255, 0), True), ((255, 0, 0), (255, 0, 0), False), ((255, 255, 255), (255, 255, 255), False),
    ((128, 0, 0), (0, 0, 200), True), ((9, 9, 9), (255, 0, 0), True),
])  # fmt: skip
def test_several_colours_are_told_apart_and_have_no_names(tmp_path, first, second, several):
    inside = marked(1, 2)
    Image.fromarray(np.array([(0, 0, 0), first, second], np.uint8)[inside]).save(tmp_path / "a.png")
    values = mask_values(tmp_path / "a.png", read_stored((tmp_path / "a.png",), labels=True).image)
    assert ((values > 0) == (inside > 0)).all()
    assert unnamed([values], None) == several


REFUSED = {
    "white outside": ("png", Image.fromarray(marked(0, 0, outside=255)), "white outside"),
    "white outside in a palette": ("png", palette(marked(0, 0, outside=1), [BLACK, WHITE]), "white outside"),
    "an outside that is no 0": ("png", palette(marked(1, 2, outside=3), [GREEN, RED, GREEN, BLACK]), "white outside"),
    "white around a lesion": ("png", Image.fromarray(np.pad(marked()[3:-3, 3:-3], 3, constant_values=9)), "white"),
    "all of it": ("png", Image.fromarray(np.full(SHAPE, 255, np.uint8)), "white outside"),
    "a picture": ("png", Image.fromarray(np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)), "grey values"),
    "a heat map": ("png", Image.fromarray(soft(4)), "grey values|nothing lighter"),
    "0 and 1 in JPEG": ("jpg", Image.fromarray(marked(9, 9)), "nothing lighter than 127"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_that_is_no_plain_mask_is_refused_by_name(tmp_path, name):
    suffix, picture, why = REFUSED[name]
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    with pytest.raises(BadInput, match=rf"a\.{suffix}.*({why})"):
        mask_values(path, read_stored((path,), labels=True).image)


def volume(folder, values, kind, slope=1.0):
    path = folder / "c1.nii.gz"
    stack = np.zeros((5, *SHAPE))
    stack[1:4] = values
    sitk.WriteImage(sitk.GetImageFromArray((stack * slope).astype(kind)), str(path))
    return path


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, 2), (0.988, 1.992), (1.004, 1.99), (0.99998, 2), (0.96, 2.04), (1, 17.97), (3, 250), (1, 2**20)],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numbers_near_whole_ones_are_rounded(tmp_path, first, second, kind):
    path = volume(tmp_path, marked(first, second, kind=float), kind)
    values = mask_values(path, read_stored((path,), labels=True).image)
    assert set(np.unique(values)) == {0, round(first), round(second)}


@pytest.mark.parametrize("values", [(0.8, 0), (0.5, 1), (1.1, 2), (0.3, 0.6), (-1, 2), (-0.94, 1), (1, -1000)])
def test_numbers_between_whole_ones_and_below_zero_are_refused(tmp_path, values):
    path = volume(tmp_path, marked(*values, kind=float), np.float32)
    with pytest.raises(BadInput, match=r"c1\.nii\.gz holds (numbers between whole ones|-)"):
        mask_values(path, read_stored((path,), labels=True).image)


CLASSES = {  # `labels` of a dataset.json, the two values of a mask, its labels
    "names of values": ({"background": 0, "glioma": 1, "cyst": 2}, (1, 2), ["glioma", "cyst"]),
    "values of names": ({"0": "background", "1": "glioma", "2": "cyst"}, (2, 1), ["glioma", "cyst"]),
    "values as text": ({"background": "0", "glioma": "1"}, (1, 1), ["glioma", "glioma"]),
    "regions": ({"background": 0, "whole": [1, 2], "core": [2]}, (1, 2), ["whole", "whole", "core"]),
    "a region of one": ({"background": 0, "whole": [1, 2, 3], "core": 3}, (1, 2), ["whole", "whole"]),
    "a value to ignore": ({"background": 0, "glioma": 1, "ignore": 2}, (1, 2), ["glioma"]),
}


@pytest.mark.parametrize("name", CLASSES)
def test_dataset_json_names_values_and_regions(tmp_path, name):
    labels, values, wanted = CLASSES[name]
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    path = tmp_path / "labelsTr/a.png"
    Image.fromarray(marked(*values)).save(path)
    names = label_names(path)
    _, found = labelled_components(mask_values(path, read_stored((path,), labels=True).image, names), names, 1)
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize(
    ("labels", "value", "why"),
    [
        ({"background": 0, "glioma": 1}, 255, r"a\.png holds 255, which has no name; .* are 1 \(glioma\)"),
        ({"background": 0, "glioma": [1, 2]}, 3, "holds 3, which has no name"),
        ({"background": 0, "whole": [1, 2], "core": [2, 1]}, 1, "gives two labels the same values"),
        (["background", "glioma"], 1, "has no labels with their numbers"),
        ({"background": 0, "glioma": {"a": 1}}, 1, "has no labels with their numbers"),
    ],
)
def test_a_value_without_a_name_is_refused(tmp_path, labels, value, why):
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    path = tmp_path / "labelsTr/a.png"
    Image.fromarray(marked(value)).save(path)
    with pytest.raises(BadInput, match=why):
        mask_values(path, read_stored((path,), labels=True).image, label_names(path))


def test_a_side_file_lists_lesions_only_where_it_names_instances(tmp_path):
    path = tmp_path / "a.nii.gz"
    for text in ('{"EchoTime": 0.003}', "[]", '{"Type": "ROI"}'):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        assert label_names(path) is None
    (tmp_path / "a.json").write_text('{"instances": {"1": 0, "2": 0}}', encoding="utf-8")
    assert label_names(path) == {frozenset([1]): "class0", frozenset([2]): "class0"}
    (tmp_path / "a.json").write_text('{"instances": [1, 2]}', encoding="utf-8")
    with pytest.raises(BadInput, match="the number of its class"):
        label_names(path)


def test_parts_are_a_lesion_each_where_they_touch_and_where_they_overlap():
    parts = [np.zeros(SHAPE, np.int32) for _ in range(4)]
    parts[0][4:12, 10:16] = 255
    parts[1][4:12, 16:20] = 255
    parts[2][6:9, 12:18] = 1
    values, names = joined_parts(parts, None)
    boxes, labels = labelled_components(values, names, 1)
    assert labels == ["lesion"] * 3
    assert sorted(map(tuple, boxes)) == [(10, 4, 16, 12), (12, 6, 18, 9), (16, 4, 20, 12)]
    assert ((values > 0) == (sum(parts) > 0)).all()
