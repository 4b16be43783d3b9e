"""filter.html: the contact sheet in which a person overrules the filter."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medaug_cli.figures.grid import as_picture
from medaug_cli.figures.pages import filled, script_data
from medaug_cli.figures.planes import flattened

THUMB = 96  # pixels at most
MOST = 6000  # images on the page


@dataclass(frozen=True)
class Card:
    """One image on the sheet."""

    id: str
    image: np.ndarray  # (c, *s)
    boxes: np.ndarray  # (m, 2*d)
    keep: bool
    reason: str
    evidence: float | None  # of its best box
    decided: bool = False  # by a person, before


def filter_html(cards: Iterable[Card], note: str, source: str, command: str) -> str:
    """Return the page: dropped images first, then the kept ones with the least evidence.

    `command` filters again with the decisions that the page exports, those of images that it does not show among them.
    """
    rows = [_row(card) for card in cards]
    rows.sort(key=lambda row: (row["keep"], row["evidence"] if row["evidence"] is not None else 2))
    shown, more = rows[:MOST], rows[MOST:]
    kept = sum(bool(row["keep"]) for row in more)
    data = {
        "rows": shown, "kept": kept, "dropped": len(more) - kept,
        "decided": [{"id": row["id"], "now": row["keep"]} for row in more if row["decided"]],
    }  # fmt: skip
    return filled(
        "figures/filter_page.html",
        note=note,
        source=source,
        command=command,
        data=script_data(data),
        kept=kept,
        dropped=len(more) - kept,
    )


def _row(card: Card) -> dict[str, object]:
    """Return what the page's script needs of one image; boxes in percent of the picture."""
    from PIL import Image

    image, flat = flattened(card.image, card.boxes)
    picture = Image.fromarray(as_picture(image))
    width, height = picture.size
    thumb = THUMB if card.image.ndim == 3 else 2 * THUMB
    picture.thumbnail((thumb, thumb))
    target = io.BytesIO()
    picture.convert("L" if card.image.shape[0] != 3 else "RGB").save(target, format="JPEG", quality=72)
    scale = np.array([100 / width, 100 / height, 100 / width, 100 / height])
    boxes = [[round(float(v), 1) for v in box] for box in flat * scale]
    return {
        "id": card.id, "image": base64.b64encode(target.getvalue()).decode(), "boxes": boxes, "keep": card.keep,
        "reason": card.reason, "evidence": card.evidence, "decided": card.decided,
    }  # fmt: skip
