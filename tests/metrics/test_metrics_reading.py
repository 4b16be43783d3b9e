"""Reading COCO's JSON as bytes: every value as `json.loads` has it, and nothing accepted that is not JSON."""

import json
import struct
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from thoroughness import drawn, examples

from medaug_cli.errors import BadInput
from medaug_cli.metrics import coco_files, coco_rows
from medaug_cli.metrics.coco_files import DETECTIONS, TRUTH
from medaug_cli.metrics.coco_rows import lookup, rows_of
from medaug_cli.metrics.json_numbers import STOP, read_number

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 700, width=32),
    st.integers(-(10**25), 10**25),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
)
EXTRAS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
IDS = st.integers(-(10**9), 10**12)
SIZES = st.floats(0, 1e6)


def number(text):
    return read_number(np.frombuffer(text.encode() + bytes(8), np.uint8), 0)


@examples(500)
@given(NUMBERS)
def test_numbers_are_those_of_json_to_the_last_bit(value):
    text = value if isinstance(value, str) else json.dumps(value)
    with suppress(ValueError):
        expected = json.loads(text)
        at, read, whole, is_whole = number(text)
        if at != STOP:
            assert at == len(text)
            assert struct.pack("d", read) == struct.pack("d", float(expected))
            assert not is_whole or whole == expected


@pytest.mark.parametrize("digits", [2, 6, 15, 17, 19, 20, 30])
def test_numbers_of_any_length_are_the_nearest_doubles(digits):
    random = np.random.default_rng(digits)
    for _ in range(3000):
        text = "".join(map(str, random.integers(0, 10, digits))).lstrip("0") or "0"
        text = f"{text[:3]}.{text[3:] or '0'}e{random.integers(-40, 40)}"
        at, read, _, _ = number(text if text[0] != "." else "0" + text)
        assert at == STOP or read == float(text)


def test_hardly_any_number_is_left_to_the_thorough_reader():
    random = np.random.default_rng(0)
    texts = [repr(float(value)) for value in random.random(5000)] + [f"{v:.20f}" for v in random.random(5000)]
    assert sum(number(text)[0] == STOP for text in texts) < 5


@pytest.mark.parametrize(
    "text", ["", "-", "01", "-01", "+1", ".5", "1.", "1.e5", "1e", "1e+", "--1", "NaN", "Infinity", "1e999", "x"]
)
def test_what_is_no_number_is_not_read(text):
    assert number(text)[0] == STOP


@st.composite
def rows(draw, value):
    """Draw rows with keys in any order and further keys among them."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        row = {"image_id": draw(IDS), "category_id": draw(IDS), "bbox": draw(st.lists(SIZES, min_size=4, max_size=4))}
        if value == "score":
            row["score"] = draw(st.floats(-10, 10))
        elif draw(st.booleans()):
            row |= {"area": draw(SIZES), "iscrowd": draw(st.integers(0, 1)), "id": draw(IDS)}
        further = draw(st.dictionaries(st.text(), EXTRAS, max_size=2))
        keys = draw(st.permutations([*row, *(further.keys() - row.keys())]))
        found.append({key: row.get(key, further.get(key)) for key in keys})
    return found


def same(one, other):
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def written(path, content, indent, ascii_only):
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")


@examples(150)
@given(rows("score"), st.sampled_from([None, 0, 3]), st.booleans(), st.sampled_from([300, 4096]))
def test_detections_are_what_json_says(tmp_path_factory, content, indent, ascii_only, chunk):
    path = tmp_path_factory.mktemp("rows") / "found.json"
    written(path, content, indent, ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_rows, "CHUNK", chunk)
        plain = coco_rows.read_detections(path)
    if plain is not None and content:
        same(plain, rows_of(content, "score"))


@examples(100)
@given(rows("area"), st.sampled_from([None, 2]), st.booleans(), EXTRAS)
def test_annotations_are_what_json_says(tmp_path_factory, content, indent, ascii_only, extra):
    path = tmp_path_factory.mktemp("rows") / "truth.json"
    images, categories = [{"id": 1, "file_name": 'é " \\'}], [{"id": 2, "name": "ü"}]
    whole = {"info": extra, "images": images, "annotations": content, "licences": [extra], "categories": categories}
    written(path, whole, indent, ascii_only)
    plain = coco_rows.read_truth(path)
    if plain is not None:
        assert (json.loads(plain[1]), json.loads(plain[2])) == (images, categories)
        if content:
            same(plain[0], rows_of(content, "area"))


PLAIN = (
    b'[{"image_id": 1, "category_id": 2, "bbox": [0.5, 1e1, 20, 3.25], "score": 0.875, "x": {"a": [1, "\\u00e9"]}}, '
    b'{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1}]'
)


def test_whatever_is_accepted_is_accepted_by_the_thorough_reader_too(tmp_path, monkeypatch):
    """Change bytes at random: where the fast reader still answers, its answer is pydantic's."""
    monkeypatch.setattr(coco_rows, "CHUNK", 4096)
    random, path, accepted = np.random.default_rng(0), tmp_path / "found.json", 0
    signs = np.frombuffer(b'{}[]",:.-+eE0123456789 \\truefalsn\xc3\xa9\x00\n', np.uint8)
    for _ in range(drawn(2500)):
        text = bytearray(PLAIN)
        for _ in range(random.integers(1, 3)):
            place = int(random.integers(0, len(text)))
            if random.random() < 0.3:
                del text[place]
            else:
                text[place] = random.choice(signs)
        path.write_bytes(bytes(text))
        plain = coco_rows.read_detections(path)
        if plain is not None:
            accepted += 1
            same(plain, rows_of(DETECTIONS.validate_json(bytes(text)), "score"))
    assert accepted > drawn(80)


def test_annotations_that_are_accepted_are_accepted_by_the_thorough_reader_too(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_rows, "CHUNK", 4096)
    whole = {"images": [{"id": 1}], "annotations": json.loads(PLAIN), "categories": [{"id": 2, "name": "a"}]}
    base = json.dumps(whole).encode()
    random, path, accepted = np.random.default_rng(1), tmp_path / "truth.json", 0
    for _ in range(drawn(1200)):
        text = bytearray(base)
        text[int(random.integers(0, len(text)))] = random.choice(np.frombuffer(b'{}[]",:.-e01 \\tn', np.uint8))
        path.write_bytes(bytes(text))
        plain = coco_rows.read_truth(path)
        if plain is not None:
            with suppress(ValidationError):
                coco_files.IMAGES.validate_json(plain[1])
                coco_files.CATEGORIES.validate_json(plain[2])
                accepted += 1
                same(plain[0], rows_of(TRUTH.validate_json(bytes(text))["annotations"], "area"))
    assert accepted > drawn(40)


@pytest.mark.parametrize(
    "text",
    [PLAIN[:-1], PLAIN + b",", PLAIN + b"[]", PLAIN[:-1] + b",]", b"[,]", b"", b"[", b"{}", b"\xff\xfe[\x00]\x00",
     PLAIN.replace(b'"x"', b'"\xe9"'), PLAIN.replace(b'"x"', b'"score"'), PLAIN.replace(b"20,", b"-20,"),
     PLAIN.replace(b"[1, 2, 3, 4]", b"[1, 2, 3, 4, 5, 6]"), PLAIN.replace(b'"image_id": 1', b'"image_id": 1.5')],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_thorough_reader(tmp_path, text):
    path = tmp_path / "found.json"
    path.write_bytes(text)
    assert coco_rows.read_detections(path) is None
    with pytest.raises(BadInput, match=r"found\.json"):
        coco_files.read_detections(path, data_on(tmp_path, 1, 7))


def data_on(folder, *images):
    truth = {"images": [{"id": i} for i in images], "annotations": [], "categories": [{"id": 2, "name": "a"}]}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return coco_files.read_truth(folder / "truth.json")


def test_forms_that_only_the_thorough_reader_takes_are_read_all_the_same(tmp_path):
    path, data = tmp_path / "found.json", data_on(tmp_path, 1, 7)
    plain, _ = coco_files.read_detections(write(path, PLAIN), data)
    assert coco_rows.read_detections(path) is not None
    for text in (PLAIN.replace(b'"image_id": 1,', b'"image_id": 1.0,'), b"\xef\xbb\xbf" + PLAIN, PLAIN + b" \n "):
        found, _ = coco_files.read_detections(write(path, text), data)
        same(found, plain)


def write(path, content):
    path.write_bytes(content)
    return path


@given(st.sets(st.integers(-50, 50) | IDS, max_size=8), st.lists(st.integers(-60, 60) | IDS, max_size=20))
def test_numbers_are_looked_up(known, numbers):
    among = sorted(known)
    places = [among.index(number) if number in known else -1 for number in numbers]
    assert lookup(np.array(numbers, np.int64), among).tolist() == places


def test_strange_categories_get_labels_in_the_order_in_which_they_come(tmp_path):
    row = {"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    content = [row | {"category_id": category} for category in (9, 2, 4, 9, 3)]
    found, ids = coco_files.read_detections(
        write(tmp_path / "f.json", json.dumps(content).encode()), data_on(tmp_path, 1)
    )
    assert (found.labels.tolist(), ids) == ([1, 0, 2, 1, 3], [2, 9, 4, 3])
