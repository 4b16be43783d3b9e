"""From a processed image back to the scan: what a store's details say of where each pixel was."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Grid
from medaug_cli.scans.grids import moved_boxes
from medaug_cli.scans.placement import Placement


def scanner_boxes(details: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Return boxes (m, 4) of a processed slice, or (m, 6) of a cube, in the pixels of its file.

    They are (m, 4) for a picture; (m, 6) for a slice or cube of a volume, in voxels along the axes of the file as it is
    stored.
    Raises BadInput for details that no pre-processing wrote.
    """
    placed = Placement.from_details(dict(details.get("placement", {}))).inverse_boxes(boxes).astype(np.float64)
    if "grid" not in details:
        return placed
    try:
        grids = [Grid(**{key: tuple(value) for key, value in details[name].items()}) for name in ("grid", "stored")]
        if placed.shape[1] == 4:
            low = np.full((len(placed), 1), int(details["slice"]))
            placed = np.concatenate([placed[:, :2], low, placed[:, 2:], low + 1], 1)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"the details of an image are incomplete ({type(error).__name__}: {error})") from error
    return moved_boxes(placed, *grids)
