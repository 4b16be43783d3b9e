"""errors.html: every miss and false alarm as a card, with boxes that a reader can fade and switch off."""

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from medaug_cli.figures.grid import as_picture
from medaug_cli.figures.overlays import windowed
from medaug_cli.figures.pages import filled, script_data

SIDE = 512  # pixels of a picture, at most


@dataclass(frozen=True)
class Outline:
    """One box on a picture: corners in percent of it."""

    x: float
    y: float
    width: float
    height: float
    kind: str  # annotated, missed, found or false
    words: str


@dataclass(frozen=True)
class Scene:
    """One slice as one detector sees it."""

    picture: int
    boxes: list[Outline]


@dataclass(frozen=True)
class Mistake:
    """One card: a missed lesion or a false alarm."""

    kind: str  # missed or false alarm
    error: str  # what kind of false alarm; how near a miss was, or ""
    detector: str
    image: str
    patient: str
    label: str
    score: float | None  # of a false alarm; of a miss, the best that touches it
    size: float
    scene: int
    focus: int  # which of the scene's boxes


def as_jpeg(image: np.ndarray) -> tuple[str, int, int]:
    """Return a slice (c, h, w) as base64 JPEG and the size at which it is shown."""
    from PIL import Image

    picture = Image.fromarray(as_picture(windowed(image)))
    factor = SIDE / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    target = io.BytesIO()
    picture.convert("L" if image.shape[0] != 3 else "RGB").save(target, format="JPEG", quality=85)
    return base64.b64encode(target.getvalue()).decode(), *size


def blank(width: int, height: int) -> tuple[str, int, int]:
    """Return an empty picture of the form of an image that cannot be seen."""
    factor = SIDE / max(width, height)
    return "", max(1, round(width * factor)), max(1, round(height * factor))


def errors_html(
    pictures: Sequence[tuple[str, int, int]], scenes: Sequence[Scene], mistakes: Sequence[Mistake],
    notes: Sequence[str], unit: str,
) -> str:  # fmt: skip
    """Return the page; `pictures` are base64 JPEG, width and height."""
    content = {
        "pictures": pictures, "scenes": [asdict(each) for each in scenes], "unit": unit,
        "mistakes": [asdict(each) for each in mistakes],
    }  # fmt: skip
    detectors = list(dict.fromkeys(each.detector for each in mistakes))
    kinds = list(dict.fromkeys(each.error for each in mistakes if each.kind == "false alarm"))
    return filled(
        "figures/errors_page.html",
        data=script_data(content),
        notes=notes,
        detectors=detectors,
        kinds=kinds,
    )
