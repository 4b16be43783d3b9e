"""Where the voxels of a NIfTI file lie: by its sform, else by its qform, and what there is to say about the two.

The sform comes first, as in nibabel and FSL, whatever the codes say; a valid qform that differs is kept beside it:
ITK would have taken that one unless the sform's code is 1.
https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields/nifti1fields_pages/qsform.html
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.plugin import BadInput, Grid
from medaug_plugins.readers.volumes import checked_grid, damaged

UNITS = {1: 1000.0, 3: 0.001}  # metres and micrometres in mm; all else is taken for mm
NEAR = 0.1  # of a voxel, up to which two grids put a corner of the volume in the same place
SHEAR = 0.02  # cosine of the angle of two axes, up to which they count as at right angles: 1.1 degrees off
STRAIGHT = 1e-3  # and up to which there is nothing to say
SAME_SPACE = 0.01  # of a voxel's longest side, by which qform and sform may differ where their codes are equal
TO_DICOM = np.array([[-1.0], [-1.0], [1.0]])  # NIfTI's axes run to the right and the front


@dataclass(frozen=True)
class Places:
    """Where the voxels of a file lie, in DICOM's axes."""

    grid: Grid
    other: Grid | None = None  # the qform's, where it is valid and differs
    notes: tuple[str, ...] = ()


def places(path: Path, fields: Mapping[str, tuple[Any, ...]], shape: Sequence[int]) -> Places:
    """Return where the fields of a header put a volume of `shape`, x first.

    Raises BadInput where the sform is sheared and there is no qform to take its place, and where two forms of one code
    contradict each other.
    """
    codes, numbers = fields["codes"], np.array(fields["places"], np.float64)
    unit, widths = UNITS.get(fields["xyzt_units"][0] & 7, 1.0), np.abs(fields["pixdim"][1:4])
    if max(codes) < 1:  # no place at all
        x, y, z = map(float, widths * unit)
        return Places(Grid((x, y, z)))
    sform = numbers[6:].reshape(3, 4) if codes[1] > 0 else None
    qform = np.column_stack([_turned(fields["pixdim"], numbers), numbers[3:6]]) if codes[0] > 0 else None
    if sform is None or qform is None:
        return _only(path, unit, sform, qform)
    if codes[0] == codes[1] and not _same_space(sform, qform, widths):
        raise BadInput(
            f"{path} places its voxels twice in one space (code {codes[0]}), and its qform and sform contradict each "
            f"other by {_apart(sform, qform, shape):.1f} voxels; set the code of the wrong one to 0"
        )
    if not _is_place(sform) or not _is_place(qform):
        return _only(path, unit, sform if _is_place(sform) else None, qform)
    if (shear := _shear(sform)) > SHEAR:
        return Places(_grid(path, qform, unit), None, (f"its sform is sheared ({_off(shear)}); its qform is used",))
    apart = _apart(sform, qform, shape)
    if apart <= NEAR:
        return Places(_grid(path, sform, unit), None, _sheared(shear))
    said = f"its qform and sform are both valid and differ by {apart:.1f} voxels; its sform is used"
    return Places(_grid(path, sform, unit), _grid(path, qform, unit), (*_sheared(shear), said))


def _only(path: Path, unit: float, sform: np.ndarray | None, qform: np.ndarray | None) -> Places:
    """Return the place that the sform gives, or else the qform, where there is no choice between the two."""
    if sform is None:
        assert qform is not None
        return Places(_grid(path, qform, unit))
    grid, shear = _grid(path, sform, unit), _shear(sform)
    if shear > SHEAR:
        raise BadInput(
            f"{path} has a sheared sform, its axes are {_off(shear)}; resample it onto orthogonal axes, or set its "
            f"qform"
        )
    return Places(grid, None, _sheared(shear))


def _sheared(shear: float) -> tuple[str, ...]:
    return (f"its sform is sheared ({_off(shear)}), its axes are taken as orthogonal",) if shear > STRAIGHT else ()


def _off(shear: float) -> str:
    return f"{math.degrees(math.asin(min(1.0, shear))):.1f} degrees off a right angle"


def _turned(pixdim: Sequence[float], numbers: np.ndarray) -> np.ndarray:
    """Return the axes (3, 3) in mm, a column an axis, that the quaternion of the qform describes."""
    b, c, d = numbers[:3] / max(1.0, float(np.linalg.norm(numbers[:3])))
    a = np.sqrt(np.maximum(0.0, 1 - b * b - c * c - d * d))
    turned = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    return turned * np.array(pixdim[1:4]) * [1, 1, -1 if pixdim[0] < 0 else 1]


def _same_space(sform: np.ndarray, qform: np.ndarray, widths: np.ndarray) -> bool:
    near, apart = SAME_SPACE * float(widths.max()), np.abs(sform - qform)
    return bool(apart[:, :3].max() <= near and apart[:, 3].max() <= 10 * near)


def _is_place(form: np.ndarray) -> bool:
    return bool(np.isfinite(form).all() and abs(np.linalg.det(form[:, :3])) > 0)


def _shear(form: np.ndarray) -> float:
    """Return the largest cosine of the angle of two axes, 0 for right angles."""
    axes = form[:, :3] / np.linalg.norm(form[:, :3], axis=0)
    return float(np.abs(np.triu(axes.T @ axes, 1)).max())


def _apart(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    """Return how far two forms (3, 4) put a corner of the volume from each other, in voxels of the first."""
    sides = [*shape, 1, 1][:3]
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, side - 1) for side in sides))]).T
    return float(np.abs(np.linalg.solve(first[:, :3], (second - first) @ corners)).max())


def _grid(path: Path, form: np.ndarray, unit: float) -> Grid:
    placed = form * TO_DICOM * unit
    spacing = np.linalg.norm(placed[:, :3], axis=0)
    if not np.isfinite(placed).all() or spacing.min() <= 0:
        raise damaged(path, "its sform or qform does not say where its voxels lie")
    return checked_grid(path, spacing.tolist(), placed[:, 3].tolist(), placed[:, :3] / spacing)
