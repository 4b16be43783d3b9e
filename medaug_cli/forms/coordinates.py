"""Corners of boxes in numbers: as text, in other tools' order, and without the dust of arithmetic.

Ours are half-open corners, low then high, x first. Fifteen digits are written, and readers take the dust off, so that
boxes come back as they were.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput

DIGITS, DUST = 7, 1e-11  # a coordinate so near one of so many decimals is that one
CORNERS = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)


def rounded(value: float) -> float:
    """Return a coordinate without the dust of its arithmetic."""
    near = round(value, DIGITS)
    return near if abs(near - value) < DUST else value


def number(value: float) -> str:
    """Return a number as short as can be: 12, 12.5."""
    return f"{value:.15g}"


def decimal(text: Any) -> float:
    """Read a number, with a decimal comma too; raise TypeError or ValueError where it is none."""
    if isinstance(text, bool):
        raise TypeError("a truth value")
    if isinstance(text, str) and DECIMAL_COMMA.fullmatch(text.strip()):
        text = text.replace(",", ".")
    return float(text)


def numbers(place: str, values: Any, count: int | None = None) -> tuple[float, ...]:
    """Read the numbers of a box, 4 or 6 unless `count` says how many; raise BadInput that names the place."""
    try:
        box = tuple(decimal(value) for value in values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{place}: expected the numbers of a box, got {values}") from error
    if len(box) not in ((4, 6) if count is None else (count,)):
        raise BadInput(f"{place}: {len(box)} numbers, a box has {count or '4 (6 in 3D)'}")
    return box


def slice_number(place: str, value: Any) -> int:
    """Read the number of a slice, 2 as well as 2.0; raise BadInput that names the place."""
    try:
        number = decimal(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise BadInput(f"{place}: expected the number of a slice, got {value!r}")
    return int(number)


def corners(box: Sequence[float], mode: str) -> tuple[float, ...]:
    """Return 4 numbers, or 6 in 3D, as low corner and high corner.

    xyxy: low corner, high corner. xxyy: low and high along each axis in turn. xywh: low corner and size. ccwh: centre
    and size. (MONAI's StandardMode, CornerCornerModeTypeB, CornerSizeMode, CenterSizeMode.)
    """
    d = len(box) // 2
    if mode == "xxyy":
        return (*box[::2], *box[1::2])
    first, second = box[:d], box[d:]
    if mode == "xywh":
        return (*first, *(rounded(low + side) for low, side in zip(first, second, strict=True)))
    if mode == "ccwh":
        both = list(zip(first, second, strict=True))
        return (*(rounded(c - side / 2) for c, side in both), *(rounded(c + side / 2) for c, side in both))
    return tuple(box)


def low_and_size(box: Sequence[float]) -> list[float]:
    """Return a box as COCO writes it: low corner and size."""
    half = len(box) // 2
    sizes = [rounded(high - low) for low, high in zip(box[:half], box[half:], strict=True)]
    return [*map(float, box[:half]), *sizes]


def turned(points: Sequence[Sequence[float]], degrees: float, about: Sequence[float]) -> list[tuple[float, float]]:
    """Return points (x, y) turned clockwise, as an image shows them, about another one."""
    (x, y), c, s = about, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(x + c * (a - x) - s * (b - y), y + s * (a - x) + c * (b - y)) for a, b in points]


def turned_box(box: Sequence[float], degrees: float) -> tuple[float, ...]:
    """Return the box around a box (4 corners) that is turned about its middle."""
    if not degrees:
        return tuple(box)
    ends = [(box[i], box[j]) for i in (0, 2) for j in (1, 3)]
    return around(turned(ends, degrees, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)))


def around_ellipse(x: float, y: float, across: float, down: float, degrees: float = 0.0) -> tuple[float, ...]:
    """Return the box around an ellipse with such radii that is turned about its middle."""
    if not degrees:
        return x - across, y - down, x + across, y + down
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    wide, high = rounded(math.hypot(across * c, down * s)), rounded(math.hypot(across * s, down * c))
    return x - wide, y - high, x + wide, y + high


def around(points: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the box around some points (n, d); its corners are NaN where a point is."""
    values = np.array(points, np.float64)
    return (*values.min(0).tolist(), *values.max(0).tolist())
