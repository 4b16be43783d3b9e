"""From a processed image back to the scan: what a store's details say of where each pixel was."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Grid
from medaug_cli.scans.geometry import Placement
from medaug_cli.scans.grids import moved_boxes


def scanner_boxes(details: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Return boxes (m, 4) of a processed slice in the pixels of its file.

    They are (m, 4) for a picture; (m, 6) for a slice of a volume, in voxels along the axes of the file as it is stored.
    Raises BadInput for details that no pre-processing wrote.
    """
    flat = Placement.from_details(dict(details.get("placement", {}))).inverse_boxes(boxes).astype(np.float64)
    if "grid" not in details:
        return flat
    try:
        z = int(details["slice"])
        grids = [Grid(**{key: tuple(value) for key, value in details[name].items()}) for name in ("grid", "stored")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"the details of an image are incomplete ({type(error).__name__}: {error})") from error
    low, high = np.full((len(flat), 1), z), np.full((len(flat), 1), z + 1)
    return moved_boxes(np.concatenate([flat[:, :2], low, flat[:, 2:], high], 1), *grids)
