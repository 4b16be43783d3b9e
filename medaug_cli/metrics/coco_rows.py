"""Annotations and detections of COCO's JSON as flat arrays, read as a stream of bytes.

What is not plain JSON of the usual fields, or is wrong, is not read here: then the answer is None and
`coco_files` reads the file with pydantic, which takes every form that is allowed and names what is not.
"""

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 1 << 22  # bytes
PADDING = 8  # zeros after the text
LEAST_ROW = 40  # bytes of a row, about
MEMBERS = 64  # of a file of annotations, at most


@dataclass(frozen=True)
class Rows:
    """The n annotations or detections of a file, in its order."""

    images: np.ndarray  # (n,) int64, COCO's number of the image
    categories: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 2*d) float64: low corner, sides
    values: np.ndarray  # (n,) float64, score or area; NaN where there is none
    ids: np.ndarray  # (those that have one,) int64
    crowd: np.ndarray  # (n,) bool


def rows_of(content: Sequence[Any], value: str) -> Rows:
    """Return rows that are parsed already; all boxes must be of one length."""

    def column(key: str, default: Any, kind: type) -> np.ndarray:
        return np.array([row.get(key, default) for row in content], kind)

    boxes = np.array([row["bbox"] for row in content], np.float64).reshape(len(content), -1 if content else 4)
    ids = np.array([row["id"] for row in content if "id" in row], np.int64)
    return Rows(
        column("image_id", 0, np.int64),
        column("category_id", 0, np.int64),
        boxes=boxes,
        values=column(value, np.nan, np.float64),
        ids=ids,
        crowd=column("iscrowd", 0, bool),
    )


class RowReader:
    """Collects the rows of one list from one text or several."""

    def __init__(self, value: str) -> None:
        from medaug_cli.metrics import json_rows

        self.kernels = json_rows
        needed = json_rows.IMAGE | json_rows.CATEGORY | json_rows.BBOX
        self.value = json_rows.SCORE if value == "score" else json_rows.AREA
        self.needed = needed | self.value if value == "score" else needed
        self.wanted = self.needed if value == "score" else needed | self.value | json_rows.CROWD | json_rows.ID
        self.state, self.sides = json_rows.OPEN, 0
        self.parts: list[tuple[np.ndarray, ...]] = []
        most = CHUNK // LEAST_ROW
        self.wholes, self.boxes = np.empty((most, 4), np.int64), np.empty((most, 6))
        self.values, self.fields = np.empty(most), np.empty(most, np.int64)

    @property
    def closed(self) -> bool:
        """Tell whether the list has ended."""
        return self.state == self.kernels.CLOSED

    def read(self, text: np.ndarray, at: int) -> int:
        """Read rows of a text from a place on; return the place after the last whole one."""
        while not self.closed:
            count, at, self.state, self.sides = self.kernels.read_rows(
                text, at, self.state, self.wanted, self.needed, self.sides,
                self.wholes, self.boxes, self.values, self.fields,
            )  # fmt: skip
            if not count:
                break
            fields, wholes = self.fields[:count], self.wholes[:count]
            self.parts.append((
                wholes[:, 0].copy(), wholes[:, 1].copy(), self.boxes[:count, : self.sides].copy(),
                np.where(fields & self.value, self.values[:count], np.nan),
                wholes[(fields & self.kernels.ID) != 0, 2], wholes[:, 3] != 0,
            ))  # fmt: skip
        return at

    def rows(self) -> Rows:
        """Return all that was read."""
        if not self.parts:
            return rows_of((), "score")
        columns = [list(column) for column in zip(*self.parts, strict=True)]
        self.parts.clear()
        return Rows(*(np.concatenate(columns.pop(0)) for _ in range(6)))


def read_detections(path: Path) -> Rows | None:
    """Read detections, a list of rows; None where the file is not plain."""
    reader, buffer, kept = RowReader("score"), np.zeros(CHUNK + PADDING, np.uint8), 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    begun = False
    with path.open("rb", buffering=0) as file:
        while True:
            got = file.readinto(buffer[kept:CHUNK].data)
            end = kept + got
            buffer[end : end + PADDING] = 0
            if not _is_utf8(decoder, buffer[kept:end], last=not got):
                return None
            at = 0
            if not begun:
                at = _begin(buffer)
                if buffer[at] != reader.kernels.LIST:
                    return None
                begun, at = True, at + 1
            at = reader.read(buffer, at)
            if reader.closed:
                at = reader.kernels.skip_space(buffer, at)
            if not got:
                return reader.rows() if reader.closed and at == end else None
            if (at == 0 and end == CHUNK) or (reader.closed and at < end):
                return None
            kept = end - at
            buffer[:kept] = buffer[at:end]


def read_truth(path: Path) -> tuple[Rows, bytes, bytes] | None:
    """Read annotations; return their rows and the JSON of images and categories, None where the file is not plain."""
    reader, content = RowReader("area"), path.read_bytes()
    text = np.zeros(len(content) + PADDING, np.uint8)
    text[: len(content)] = np.frombuffer(content, np.uint8)
    if not _is_utf8(codecs.getincrementaldecoder("utf-8")(), text[: len(content)], last=True):
        return None
    spans = np.empty((MEMBERS, 4), np.int64)
    count, end = reader.kernels.find_members(text, _begin(text), spans)
    if count == reader.kernels.STOP or reader.kernels.skip_space(text, end) != len(content):
        return None
    names = [content[begin:end] for begin, end in spans[:count, :2]]
    values = {name: (int(begin), int(end)) for name, (_, _, begin, end) in zip(names, spans[:count], strict=True)}
    if len(values) != count or any(b"\\" in name for name in names):
        return None
    if not {b'"images"', b'"categories"', b'"annotations"'} <= values.keys():
        return None
    begin, end = values[b'"annotations"']
    if text[begin] != reader.kernels.LIST or reader.read(text, begin + 1) != end:
        return None
    images, categories = (content[slice(*values[name])] for name in (b'"images"', b'"categories"'))
    return reader.rows(), images, categories


def _begin(text: np.ndarray) -> int:
    """Return the place of the first sign, after a byte order mark and space."""
    from medaug_cli.metrics.json_rows import skip_space

    return skip_space(text, 3 if bytes(text[:3]) == codecs.BOM_UTF8 else 0)


def _is_utf8(decoder: codecs.IncrementalDecoder, part: np.ndarray, last: bool) -> bool:
    if part.max(initial=0) < 128 and not decoder.getstate()[0]:
        return True
    try:
        decoder.decode(part.tobytes(), last)
    except UnicodeDecodeError:
        return False
    return True


def lookup(numbers: np.ndarray, known: Iterable[int]) -> np.ndarray:
    """Return the place of each number (n,) in `known`, ascending and distinct; -1 where it is not there."""
    among = np.array(list(known), np.int64)
    if not len(among):
        return np.full(len(numbers), -1, np.int64)
    span = int(among[-1]) - int(among[0]) + 1
    if span <= 1 << 22:
        table = np.full(span, -1, np.int64)
        table[among - among[0]] = np.arange(len(among))
        inside = (numbers >= among[0]) & (numbers <= among[-1])
        return np.where(inside, table[np.where(inside, numbers - among[0], 0)], -1)
    place = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    return np.where(among[place] == numbers, place, -1)
