"""Volumes as axial slices of square pixels, seen as a radiologist does, and the way between them and what is stored."""

import itertools

import numpy as np

from medaug_cli.plugin import Grid

SQUARE = 0.01  # difference of the two in-plane spacings up to which pixels count as square


def as_image(image: np.ndarray, grid: Grid):  # type: ignore[no-untyped-def]
    """Return a volume (z, y, x) as an image of SimpleITK."""
    import SimpleITK as sitk

    made = sitk.GetImageFromArray(np.ascontiguousarray(image))
    made.SetSpacing(grid.spacing)
    made.SetOrigin(grid.origin)
    made.SetDirection(grid.direction)
    return made


def upright(image: np.ndarray, grid: Grid, labels: bool) -> tuple[np.ndarray, Grid]:
    """Return a volume (z, y, x) float32 as axial slices of square pixels, and its grid; labels stay whole numbers."""
    import SimpleITK as sitk

    turned = _square(sitk.DICOMOrient(as_image(image.astype(np.float32, copy=False), grid), "LPS"), labels)
    return sitk.GetArrayFromImage(turned), Grid(turned.GetSpacing(), turned.GetOrigin(), turned.GetDirection())


def _square(scan, labels: bool):  # type: ignore[no-untyped-def]
    """Return a volume whose in-plane pixels are square, resampled to the finer spacing if they were not.

    The faces of the volume, rather than the middles of its first voxels, stay where they are.
    """
    import SimpleITK as sitk

    x, y, z = scan.GetSpacing()
    if abs(x - y) <= SQUARE * min(x, y):
        return scan
    finer = min(x, y)
    columns, rows, slices = scan.GetSize()
    size = [max(1, round(columns * x / finer)), max(1, round(rows * y / finer)), slices]
    how = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    middle = [(length - 1) / 2 for length in (columns, rows)]
    first = [half - (n - 1) / 2 * finer / step for half, n, step in zip(middle, size[:2], (x, y), strict=True)]
    origin = scan.TransformContinuousIndexToPhysicalPoint((*first, 0.0))
    return sitk.Resample(scan, size, sitk.Transform(), how, origin, (finer, finer, z), scan.GetDirection(), 0.0)


def resampled_back(mask: np.ndarray, grid: Grid, stored: Grid, shape: tuple[int, ...]):  # type: ignore[no-untyped-def]
    """Return a mask (z, y, x) on `grid` as an image of SimpleITK on the stored grid of `shape` (z, y, x)."""
    import SimpleITK as sitk

    reference, kept = as_image(np.zeros(shape, np.uint8), stored), as_image(mask.astype(np.uint8), grid)
    return sitk.Resample(kept, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)


def moved_boxes(boxes: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return boxes (m, 6) in voxels of one grid as boxes in voxels of another whose axes are parallel to its."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 3)
    points = np.array([corners[:, pick, range(3)] for pick in itertools.product((0, 1), repeat=3)])  # (8, m, 3)
    there = _from_place(_to_place(points - 0.5, source), target) + 0.5
    return np.concatenate([there.min(0), there.max(0)], 1)


def placed_boxes(boxes: np.ndarray, target: Grid) -> np.ndarray:
    """Return boxes (m, 6) in millimetres, along DICOM's axes, as boxes in voxels of a grid."""
    return moved_boxes(np.asarray(boxes, np.float64) + 0.5, Grid((1.0, 1.0, 1.0)), target)


def index_map(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix (3, 3) and the shift (3,) from voxels, x first, of one grid to those of another."""
    inverse = np.linalg.inv(_axes(target))
    return inverse @ _axes(source), inverse @ (np.array(source.origin) - np.array(target.origin))


def carried(grid: Grid, source: Grid, target: Grid) -> Grid:
    """Return the grid whose voxels lie among those of `target` as the given one's lie among those of `source`."""
    matrix, shift = (each.round(12) for each in index_map(grid, source))  # voxels that are the same stay so exactly
    axes = _axes(target) @ matrix
    steps = np.linalg.norm(axes, axis=0)
    (dx, dy, dz), (x, y, z) = steps.tolist(), _to_place(shift, target).tolist()
    return Grid((dx, dy, dz), (x, y, z), tuple((axes / steps).ravel().tolist()))


def _axes(grid: Grid) -> np.ndarray:
    return np.array(grid.direction, np.float64).reshape(3, 3) * np.array(grid.spacing)


def _to_place(points: np.ndarray, grid: Grid) -> np.ndarray:
    return points @ _axes(grid).T + np.array(grid.origin)


def _from_place(points: np.ndarray, grid: Grid) -> np.ndarray:
    return (points - np.array(grid.origin)) @ np.linalg.inv(_axes(grid)).T
