"""Small pictures of a slice, region or volume before and after, with its boxes and the brain mask's outline."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from medaug_cli.figures.planes import planes
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.scans.intensity import scale_intensity
from medaug_cli.scans.placement import Placement
from medaug_cli.store import Record

SIDE = 192  # pixels of a picture
DOUBTFUL_A_SCAN = 2  # pictures of doubtful slices of one scan
BOX, OUTLINE = (230, 159, 0), (86, 180, 233)  # orange and sky blue, told apart by all eyes


def add_pictures(
    records: Sequence[Record], reports: Sequence[SliceReport], image: np.ndarray, mask: np.ndarray | None, example: bool
) -> None:
    """Give a picture to some doubtful slices of a scan (c, *s), and as an example to one that is not."""
    known = {record.id: record for record in records}
    kept = [report for report in reports if report.id in known]
    doubtful = [report for report in kept if report.flagged]
    doubtful = [report for report in doubtful if report.boxes or report.dropped_boxes] or doubtful
    several = min(DOUBTFUL_A_SCAN, len(doubtful))
    chosen = [doubtful[(k + 1) * len(doubtful) // (several + 1)] for k in range(several)]
    others = [report for report in kept if not report.flagged]
    if example and others:
        with_boxes = [report for report in others if report.boxes] or others
        chosen.append(with_boxes[len(with_boxes) // 2])
    for report in chosen:
        report.picture = (_cube if known[report.id].image.ndim == 4 else _picture)(image, mask, known[report.id])


def _picture(image: np.ndarray, brain: np.ndarray | None, record: Record) -> str:
    """Draw a picture or slice of a scan (c, *s) and what it became side by side; return a data URL."""
    z = record.details.get("slice")
    before = image if z is None else image[:, z]
    outline = brain if z is None or brain is None else brain[z]
    placed = Placement.from_details(record.details["placement"]).inverse_boxes(record.boxes)
    panels = [_panel(_grey(before), placed, outline), _panel(_stored(record), np.asarray(record.boxes), None)]
    return _url(np.concatenate(panels, 1))


def _cube(image: np.ndarray, brain: np.ndarray | None, record: Record) -> str:
    """Draw the slice of a volume (c, z, y, x) in the middle of a cube, and the cube's three planes; return a data URL.

    The first shows where the cube lies.
    """
    placement = Placement.from_details(record.details["placement"])
    z = int(np.clip((placement.low[0] + placement.high[0]) / 2, 0, image.shape[1] - 1))
    frame = np.array([[*placement.low[:0:-1], *placement.high[:0:-1]]])
    panels = [_panel(_grey(image[:, z]), frame, None if brain is None else brain[z])]
    panels += [_panel(picture, boxes, None) for picture, boxes in planes(_stored(record), record.boxes)]
    return _url(np.concatenate([np.concatenate(panels[:2], 1), np.concatenate(panels[2:], 1)]))


def _grey(image: np.ndarray) -> np.ndarray:
    return scale_intensity(image, None, (0.5, 99.8))


def _stored(record: Record) -> np.ndarray:
    return record.image / np.iinfo(record.image.dtype).max


def _url(pixels: np.ndarray) -> str:
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _panel(image: np.ndarray, boxes: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return an RGB picture of SIDE pixels."""
    from PIL import Image, ImageDraw

    grey = image[:1] if len(image) not in (1, 3) else image
    pixels = np.moveaxis(np.repeat(grey, 3, 0) if len(grey) == 1 else grey, 0, -1)
    pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.array(Image.fromarray(pixels).resize(size))
    if mask is not None:
        small[_outline(np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size)) > 127)] = OUTLINE
    canvas = Image.new("RGB", (SIDE + 4, SIDE + 4))
    canvas.paste(Image.fromarray(small), (2, 2))
    draw = ImageDraw.Draw(canvas)
    for box in np.asarray(boxes).reshape(-1, 4) * scale + 2:
        draw.rectangle([float(v) for v in box], outline=BOX, width=2)
    return np.asarray(canvas)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask (h, w) that have one outside it beside them."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
