"""The page of a reader: one HTML file that holds all its images and loads nothing."""

import json
from collections.abc import Sequence
from typing import Any

from medaug_cli.turing.atlas import Atlas
from medaug_cli.turing.documents import Key


def reader_page(key: Key, seal: str, name: str, trials: Sequence[dict[str, Any]], pictures: Atlas) -> str:
    """Return the page of one reader; `trials` name cells of the atlas, boxes, and the truth of practice alone."""
    from jinja2 import Environment, PackageLoader

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
    environment = Environment(loader=PackageLoader("medaug_cli", "turing"), autoescape=True, trim_blocks=True)
    # "<" would end the script, whatever a title or a class is called
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    return environment.get_template("reader.html").render(title=key.title, data=text)
