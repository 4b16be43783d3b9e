"""The page of `medaug tsne`: the map with the images behind its dots; one in three dimensions can be turned."""

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from medaug_cli.figures.grid import as_picture
from medaug_cli.figures.pages import filled, script_data
from medaug_cli.tables import Table

SIDE = 64  # pixels of an image on the page
COLUMNS = 48


def map_html(
    title: str,
    note: str,
    places: np.ndarray,
    ids: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    by: str,
    images: Iterable[np.ndarray],
    tables: Sequence[Table] = (),
) -> str:
    """Return the page of places (n, 2 or 3) of images (c, *s).

    `groups` gives each dot's group by every way to colour them, "set" among them; `by` is the way at the start.
    The tables stand below the map, folded.
    """
    data = {
        "at": np.round(places.astype(np.float64), 3).tolist(),
        "ids": list(ids),
        "groups": {name: list(own) for name, own in groups.items()},
        "sets": list(dict.fromkeys(groups["set"])),
        "by": by,
        "side": SIDE,
        "columns": COLUMNS,
        "sheet": b64encode(_sheet(images, len(ids))).decode(),
    }
    return filled("figures/map_page.html", title=title, note=note, data=script_data(data), tables=tables)


def _sheet(images: Iterable[np.ndarray], count: int) -> bytes:
    """Return images side by side as one JPEG."""
    from PIL import Image

    sheet = Image.new("RGB", (COLUMNS * SIDE, max(1, -(-count // COLUMNS)) * SIDE))
    for k, image in enumerate(images):
        small = Image.fromarray(as_picture(np.asarray(image)))
        small.thumbnail((SIDE, SIDE))
        corner = k % COLUMNS * SIDE + (SIDE - small.width) // 2, k // COLUMNS * SIDE + (SIDE - small.height) // 2
        sheet.paste(small, corner)
    target = io.BytesIO()
    sheet.save(target, format="JPEG", quality=80)
    return target.getvalue()
