"""preprocess.json and preprocess.html: what happened to every slice."""

import base64
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medaug_cli.boxes import Strict

SHOWN = 60  # doubtful slices with a picture
EXAMPLES = 24  # other slices with a picture
SIDE = 192  # pixels of a picture

State = Literal["kept", "skipped", "no annotation", "blank"]


class SliceReport(Strict):
    """What happened to one slice."""

    id: str
    file: str
    slice: int | None = None  # of a volume, from 0
    state: State
    patient: str | None = None
    split: str | None = None
    boxes: int = 0
    dropped_boxes: list[str] = []  # each with the reason
    strip: str = "none"
    doubtful: bool = False
    reason: str = ""
    measures: dict[str, float] = {}


class PreprocessReport(Strict):
    """preprocess.json."""

    version: Literal[1] = 1
    tool_version: str
    settings: dict[str, Any]
    split_by: Literal["patient", "image"]
    slices: list[SliceReport]

    def sentences(self) -> list[str]:
        """Return what a person should know, the doubtful things first."""
        states: Counter[str] = Counter(each.state for each in self.slices)
        doubtful = sum(each.doubtful and each.state == "kept" for each in self.slices)
        dropped = sum(len(each.dropped_boxes) for each in self.slices)
        said = []
        if self.split_by == "image":
            said.append("No patient is named, so the split is by image: slices of one patient may stand on both sides.")
        if doubtful:
            said.append(f"{doubtful} slices are doubtful; look at them below.")
        if dropped:
            said.append(f"{dropped} boxes were dropped: too little of them was left in the frame, or they were empty.")
        for state, words in (
            ("skipped", "were skipped because they could not be read or stripped"),
            ("no annotation", "have no annotation and were left out"), ("blank", "are blank and were left out"),
        ):  # fmt: skip
            if states[state]:
                said.append(f"{states[state]} slices {words}.")
        return said

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Return (split, slices, patients, boxes) of what was kept."""
        rows = []
        for split in ("train", "val", "test"):
            own = [each for each in self.slices if each.state == "kept" and each.split == split]
            rows.append((split, len(own), len({each.patient for each in own}), sum(each.boxes for each in own)))
        return rows


def chosen(report: PreprocessReport) -> list[SliceReport]:
    """Return the slices to show with a picture: the doubtful ones, then examples spread over the rest."""
    kept = [each for each in report.slices if each.state == "kept"]
    doubtful = [each for each in kept if each.doubtful or each.dropped_boxes][:SHOWN]
    others = [each for each in kept if each not in doubtful]
    step = max(1, len(others) // EXAMPLES)
    return doubtful + others[::step][:EXAMPLES]


def page(report: PreprocessReport, pictures: Callable[[SliceReport], str | None]) -> str:
    """Return the HTML page; `pictures` returns a slice's picture as a data URL."""
    from jinja2 import Environment

    template = Path(__file__).with_name("preprocess.html").read_text(encoding="utf-8")
    shown = [(each, pictures(each)) for each in chosen(report)]
    return Environment(autoescape=True).from_string(template).render(report=report, shown=shown)


def picture(before: np.ndarray, before_boxes: np.ndarray, after: np.ndarray, boxes: np.ndarray) -> str:
    """Draw a slice before and after, (c, h, w) in [0, 1] each, with its boxes; return a data URL."""
    from PIL import Image

    panels = [_panel(before, before_boxes), _panel(after, boxes)]
    both = Image.fromarray(np.concatenate(panels, 1))
    target = io.BytesIO()
    both.save(target, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _panel(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return an RGB picture of SIDE pixels with boxes in orange."""
    from PIL import Image, ImageDraw

    grey = image[:1] if len(image) not in (1, 3) else image
    pixels = np.moveaxis(np.repeat(grey, 3, 0) if len(grey) == 1 else grey, 0, -1)
    pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    small = Image.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale))))
    canvas = Image.new("RGB", (SIDE + 4, SIDE + 4))
    canvas.paste(small, (2, 2))
    draw = ImageDraw.Draw(canvas)
    for box in np.asarray(boxes).reshape(-1, 4) * scale + 2:
        draw.rectangle([float(v) for v in box], outline=(230, 159, 0), width=2)
    return np.asarray(canvas)
