"""The page of a reader: one HTML file that holds all its images and loads nothing."""

from collections.abc import Sequence
from typing import Any

from medaug_cli.figures.pages import filled, script_data
from medaug_cli.turing.atlas import Atlas
from medaug_cli.turing.documents import Key


def reader_page(key: Key, seal: str, name: str, trials: Sequence[dict[str, Any]], pictures: Atlas) -> str:
    """Return the page of one reader; `trials` name cells of the atlas, boxes, and the truth of practice alone."""
    data = {
        "study": key.study,
        "seal": seal,
        "reader": name,
        "title": key.title,
        "pairs": key.pairs,
        "classes": key.classes if key.asks_class else [],
        "asksLesion": key.asks_lesion,
        "shape": list(pictures.shape),
        "perRow": pictures.per_row,
        "perPicture": pictures.per_picture,
        "trials": list(trials),
        "pictures": pictures.pictures,
    }
    return filled("turing/reader.html", title=key.title, data=script_data(data))
