"""From a processed image back to its scan as it is stored: what a record's details say of where each pixel was."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Grid
from medaug_cli.scans.grids import index_map, moved_boxes, resampled_back
from medaug_cli.scans.placement import Placement


def scanner_boxes(details: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Return boxes (m, 4) of a processed picture or slice, or (m, 6) of a cube, in the pixels of its file.

    They are (m, 4) for a picture; (m, 6) for a slice or cube of a volume, in voxels along the axes of the file as it is
    stored, cut off at its border; those of a slice are one voxel thick along one axis.
    Raises BadInput for details that no pre-processing wrote.
    """
    placed = _placement(details).inverse_boxes(boxes).astype(np.float64)
    flat = placed.shape[1] == 4
    if "grid" in details:
        grid, stored = _grids(details)
        if flat:
            low = np.full((len(placed), 1), _number(details, "slice"))
            placed = np.concatenate([placed[:, :2], low, placed[:, 2:], low + 1], 1)
        placed = moved_boxes(placed, grid, stored)
        if flat:
            thin = [_across(grid, stored), _across(grid, stored) + 3]
            placed[:, thin] = np.rint(placed[:, thin])
    return placed.clip(0, np.tile(scan_size(details), 2))


def scan_mask(details: Sequence[Mapping[str, Any]], masks: Sequence[np.ndarray]) -> tuple[np.ndarray, Grid | None]:
    """Return label maps (*frame) of all images of one scan as one (*s) uint8 in the pixels of its file, and its grid.

    The images are a picture, a whole volume, or slices of a volume; where no image was kept there is 0.
    """
    placed = [_placement(own).inverse_labels(mask) for own, mask in zip(details, masks, strict=True)]
    first = details[0]
    if "grid" not in first:
        return placed[0].astype(np.uint8), None
    grid, stored = _grids(first)
    shape = scan_size(first)[::-1]
    upright = placed[0]
    if "slice" in first:
        upright = np.zeros((shape[2 - _across(grid, stored)], *placed[0].shape), np.uint8)
        for own, mask in zip(details, placed, strict=True):
            upright[_number(own, "slice")] = mask
    from SimpleITK import GetArrayFromImage

    return GetArrayFromImage(resampled_back(upright, grid, stored, shape)), stored


def scan_size(details: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the size of the file that a processed image comes from, x first."""
    if "grid" not in details:
        return _placement(details).source[::-1]
    try:
        depth, height, width = (int(side) for side in details["stored_shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise _incomplete(error) from error
    return width, height, depth


def stored_slice(details: Mapping[str, Any]) -> int | None:
    """Return which slice of its file a processed slice is; None for a picture, and where it cuts through all of them.

    The file's slices are those along its last axis, from 0.
    """
    if "grid" not in details or "slice" not in details:
        return None
    grid, stored = _grids(details)
    matrix, shift = index_map(grid, stored)
    return round(float(matrix[2, 2] * _number(details, "slice") + shift[2])) if _across(grid, stored) == 2 else None


def stored_grid(details: Mapping[str, Any]) -> Grid | None:
    """Return where the voxels of the file lie that a processed image comes from; None for a picture."""
    return _grids(details)[1] if "grid" in details else None


def placed_grid(details: Mapping[str, Any], spacing: Sequence[float]) -> Grid | None:
    """Return where the voxels of a processed volume lie, of this spacing (x first); None where no scan is known."""
    if "grid" not in details or "placement" not in details:
        return None
    grid, placement = _grids(details)[0], _placement(details)
    step = 1 / placement.scale[::-1]  # voxels of the scan, x first
    first = np.array(placement.low[::-1]) + step / 2 - 0.5
    axes = np.array(grid.direction).reshape(3, 3) * (np.array(spacing) / step)
    x, y, z = (float(value) for value in np.array(grid.origin) + axes @ first)
    return Grid((spacing[0], spacing[1], spacing[2]), (x, y, z), grid.direction)


def _placement(details: Mapping[str, Any]) -> Placement:
    return Placement.from_details(dict(details.get("placement", {})))


def _grids(details: Mapping[str, Any]) -> tuple[Grid, Grid]:
    """Return the grid of the axial slices that were processed, and that of the file."""
    try:
        return (
            Grid(**{key: tuple(value) for key, value in details["grid"].items()}),
            Grid(**{key: tuple(value) for key, value in details["stored"].items()}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _incomplete(error) from error


def _number(details: Mapping[str, Any], name: str) -> int:
    try:
        return int(details[name])
    except (KeyError, TypeError, ValueError) as error:
        raise _incomplete(error) from error


def _incomplete(error: Exception) -> BadInput:
    return BadInput(
        f"the details of an image are incomplete ({type(error).__name__}: {error}); they were not written by this "
        "version's preprocess, run it again"
    )


def _across(grid: Grid, stored: Grid) -> int:
    """Return the axis of the file that axial slices are stacked along."""
    return int(np.abs(index_map(grid, stored)[0][:, 2] * np.array(stored.spacing)).argmax())
