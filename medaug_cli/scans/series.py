"""Which image of a DICOM series is which slice of the volume that was read of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Grid


def in_order(images: Sequence[Any], grid: Grid, count: int, name: str) -> list[int]:
    """Return which image is each of `count` slices of a series: they are read in the order in which they lie.

    Distances do not tell, as positions are rounded and gaps may differ a little. Raises BadInput where these headers
    are not those of the volume with this grid.
    """
    across = np.array(grid.direction).reshape(3, 3)[:, 2]
    places = [np.array(image.get("ImagePositionPatient", ()), np.float64) for image in images]
    if len(images) != count or any(place.shape != (3,) for place in places):
        raise BadInput(f"{name} had {count} slices and has {len(images)} images now; its files have changed")
    away = (np.array(places) - np.array(grid.origin)) @ across
    if abs(away.min()) > grid.spacing[2] / 2:
        raise BadInput(f"{name} began {away.min():.1f} mm from where its first image lies now; its files have changed")
    return np.argsort(away, kind="stable").tolist()
