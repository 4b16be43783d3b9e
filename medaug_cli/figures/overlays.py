"""Pictures of what each detector found, missed and imagined, side by side (as Fig. 2 of Han et al. 2019).

The first panel shows the annotated boxes. In a detector's panel: a true positive is solid green, a
missed lesion dashed red with a cross beside it, a false positive thin blue; both kinds of detection
carry a caption. An arrow points at a lesion that this detector found and another one missed, with a V beside it as in
that figure. Nothing but outlines covers the tissue inside a lesion.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaug_cli.figures.drawing import quiet_matplotlib
from medaug_cli.figures.grid import as_picture, flat_boxes

CELL, GAP, TITLE, LEGEND = 400, 8, 22, 26
TRUE, FOUND, MISSED, FALSE, ARROW = (255, 196, 0), (0, 214, 143), (255, 92, 72), (86, 180, 233), (255, 255, 255)
PAPER, INK = (24, 24, 24), (235, 235, 235)
KEY = (
    (TRUE, "annotated"),
    (FOUND, "found"),
    (MISSED, "missed"),
    (FALSE, "false positive"),
    (ARROW, "found here, missed by another"),
)


@dataclass(frozen=True)
class View:
    """One detector's boxes on one image; all boxes (m, 2*d) corners in pixels."""

    title: str
    hits: np.ndarray  # (h, 2*d) detections that are true positives
    hit_captions: Sequence[str]  # score, and class where there are several
    false: np.ndarray  # (f, 2*d)
    false_captions: Sequence[str]
    found: np.ndarray  # (m,) bool of the true boxes
    only_here: np.ndarray  # (m,) bool: found here and missed by another


def draw_overlay(image: np.ndarray, truth: np.ndarray, views: Sequence[View], title: str, captions: Sequence[str] = ()):
    """Return a PIL picture of an image (c, *s): the annotation, captioned if asked for, then each detector."""
    from PIL import Image, ImageDraw

    if image.ndim == 4:
        depth = middle_depth(image.shape[1], truth)
        here = crosses(truth, depth)
        captions = [captions[i] for i in np.flatnonzero(here).tolist()] if captions else []
        image, truth, views = image[:, depth], truth[here], [_on_slice(view, depth, here) for view in views]
    picture = as_picture(windowed(image))
    height, width = picture.shape[:2]
    factor = CELL / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    cell = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    panels = 1 + len(views)
    sheet_width = max(panels * (CELL + GAP) + GAP, 600)
    sheet = Image.new("RGB", (sheet_width, TITLE + size[1] + GAP + LEGEND), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i in range(panels):
        sheet.paste(cell, (GAP + i * (CELL + GAP), TITLE))
    _annotation(pen, (GAP, TITLE), flat_boxes(truth) * factor, title, captions)
    for i, view in enumerate(views, 1):
        _detector(pen, (GAP + i * (CELL + GAP), TITLE), flat_boxes(truth) * factor, view, factor)
    _legend(pen, TITLE + size[1] + GAP)
    return sheet


def middle_depth(slices: int, boxes: np.ndarray) -> int:
    """Return the slice through the middle of the first box (m, 6), or of the volume where there is none."""
    depth = (boxes[0, 2] + boxes[0, 5]) / 2 if len(boxes) else slices / 2
    return int(np.clip(depth, 0, slices - 1))


def crosses(boxes: np.ndarray, depth: int) -> np.ndarray:
    """Tell which boxes (m, 6) reach into a slice, (m,) bool."""
    return (boxes[:, 2] < depth + 1) & (boxes[:, 5] > depth)


def _on_slice(view: View, depth: int, here: np.ndarray) -> View:
    hits, false = crosses(view.hits, depth), crosses(view.false, depth)
    return View(
        view.title,
        view.hits[hits],
        hit_captions=[view.hit_captions[i] for i in np.flatnonzero(hits).tolist()],
        false=view.false[false],
        false_captions=[view.false_captions[i] for i in np.flatnonzero(false).tolist()],
        found=view.found[here],
        only_here=view.only_here[here],
    )


def windowed(image: np.ndarray) -> np.ndarray:
    """Return grey levels (c, h, w) stretched to the window from 0 to the 99.5th percentile; colours stay.

    Only three channels are colours: of others the first is shown.
    """
    if len(image) == 3:
        return image
    grey = image[:1].astype(np.float64)
    return np.clip(grey / (np.percentile(grey, 99.5) or grey.max() or 1.0), 0, 1)


def _annotation(pen, origin: tuple[int, int], truth: np.ndarray, title: str, captions: Sequence[str]) -> None:
    _title(pen, origin, title)
    for i, box in enumerate(truth):
        place = _placed(box, origin)
        pen.rectangle(place, outline=TRUE, width=2)
        if captions:
            _write(pen, (place[0], place[3] + 2), captions[i], TRUE)


def _detector(pen, origin: tuple[int, int], truth: np.ndarray, view: View, factor: float) -> None:
    _title(pen, origin, view.title)
    for box, caption in zip(flat_boxes(view.false) * factor, view.false_captions, strict=True):
        place = _placed(box, origin)
        pen.rectangle(place, outline=FALSE, width=1)
        _write(pen, (place[0], place[1] - 14), caption, FALSE)
    for box, caption in zip(flat_boxes(view.hits) * factor, view.hit_captions, strict=True):
        place = _placed(box, origin)
        pen.rectangle(place, outline=FOUND, width=2)
        _write(pen, (place[0], place[3] + 2), caption, FOUND)
    for box, found, only in zip(truth, view.found, view.only_here, strict=True):
        place = _placed(box, origin)
        if not found:
            _dashed(pen, place)
            _cross(pen, place)
        elif only:
            _arrow(pen, place, origin)
            _vee(pen, place)


def _title(pen, origin: tuple[int, int], text: str) -> None:
    while text and pen.textlength(text, font=_font()) > CELL:
        text = text[:-2] + "…"
    pen.text((origin[0], 3), text, fill=INK, font=_font())


def _write(pen, place: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    """Write with a dark rim, so that a caption can be read on bright tissue."""
    pen.text(place, text, fill=colour, font=_font(11), stroke_width=2, stroke_fill=PAPER)


def _placed(box: np.ndarray, origin: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y = origin
    x_min, y_min, x_max, y_max = (float(v) for v in box)
    return x + x_min, y + y_min, x + max(x_max - 1, x_min), y + max(y_max - 1, y_min)


def _dashed(pen, place: tuple[float, float, float, float], dash: float = 6) -> None:
    x_min, y_min, x_max, y_max = place
    for y in (y_min, y_max):
        for x in np.arange(x_min, x_max, 2 * dash):
            pen.line((x, y, min(x + dash, x_max), y), fill=MISSED, width=2)
    for x in (x_min, x_max):
        for y in np.arange(y_min, y_max, 2 * dash):
            pen.line((x, y, x, min(y + dash, y_max)), fill=MISSED, width=2)


def _cross(pen, place: tuple[float, float, float, float], reach: float = 5) -> None:
    """Draw a cross beside the box's upper right corner, off the lesion."""
    x, y = place[2] + reach + 4, place[1] - reach - 1
    for slope in (-1, 1):
        pen.line((x - reach, y - slope * reach, x + reach, y + slope * reach), fill=MISSED, width=2)


def _vee(pen, place: tuple[float, float, float, float], reach: float = 6) -> None:
    """Draw a V beside the box's upper right corner, off the lesion."""
    x, y = place[2] + reach + 4, place[1] - 1
    pen.line((x - reach, y - 2 * reach, x, y, x + reach, y - 2 * reach), fill=ARROW, width=3, joint="curve")


def _arrow(pen, place: tuple[float, float, float, float], origin: tuple[int, int], length: float = 34) -> None:
    """Point at the box's corner that is nearest the middle of the panel, from the middle's side."""
    middle = np.array([origin[0] + CELL / 2, origin[1] + CELL / 2])
    corners = np.array([[x, y] for x in place[::2] for y in place[1::2]])
    tip = corners[np.argmin(np.linalg.norm(corners - middle, axis=1))]
    away = middle - tip
    away = away / (np.linalg.norm(away) or 1.0)
    tip, tail = tip + 3 * away, tip + length * away
    pen.line((*tip, *tail), fill=ARROW, width=3)
    side = np.array([-away[1], away[0]])
    pen.polygon([tuple(tip), tuple(tip + 11 * away + 6 * side), tuple(tip + 11 * away - 6 * side)], fill=ARROW)


def _legend(pen, y: int) -> None:
    x = GAP
    for colour, text in KEY:
        pen.rectangle((x, y + 4, x + 12, y + 14), outline=colour, width=2)
        pen.text((x + 18, y + 1), text, fill=INK, font=_font())
        x += 18 + int(pen.textlength(text, font=_font())) + 16


@functools.cache
def _font(size: int = 12):
    """Return matplotlib's own font, which has more letters than Pillow's."""
    from PIL import ImageFont

    return ImageFont.truetype(f"{quiet_matplotlib().get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
