"""Whether an image is stripped already, and whether a brain mask can be right."""

from collections.abc import Sequence

import numpy as np

from medaug_cli.brain.head import head_depth, head_mask, largest, unit_range
from medaug_cli.words import percent

AGREEMENT = 0.75  # of two methods; below it one of them is wrong, and who knows which
SHARE = (0.25, 0.97)  # of the head that a brain takes
COMPACT = 0.45  # circumference of the disc of equal area, divided by that of the mask
FACES = {2: 4 / np.pi, 3: 3 / 2}  # of a disc's or ball's voxels, by its true surface
FRAME = 0.9  # of its bounding box: what takes more is not a brain
SECTORS, DEPTHS = 36, 10  # of the skull that is looked for, and how many mm deep


def judge(
    mask: np.ndarray, head: np.ndarray, measures: dict[str, float], spacing: Sequence[float] | None = None
) -> tuple[str, dict[str, float]]:
    """Return why a mask cannot be a brain's, empty if it can, and the measures that were taken."""
    if not mask.any():
        return "no brain was found", {**measures, "head_share": 0.0}
    measures = {
        **measures,
        "head_share": float((mask & head).sum() / max(head.sum(), 1)),
        "compactness": compactness(mask, spacing),
        "border": border_share(mask, spacing),
    }
    low, high = SHARE
    reasons = [
        (measures["head_share"] < low, f"it is {percent(measures['head_share'])} of the head"),
        (measures["head_share"] > high, f"it is {percent(measures['head_share'])} of the head: nothing was removed"),
        (measures["border"] > 0.15, f"{percent(measures['border'])} of its outline lies on the image's border"),
        (measures["compactness"] < COMPACT, f"its outline is ragged (compactness {measures['compactness']:.2f})"),
        (
            measures.get("agreement", 1.0) < AGREEMENT,
            f"two methods agree in {measures.get('agreement', 1.0):.2f} of it",
        ),
    ]
    return "; ".join(text for wrong, text in reasons if wrong), measures


def compactness(mask: np.ndarray, spacing: Sequence[float] | None = None) -> float:
    """Return 1 for a disc or ball and less for anything ragged: the surface it needs, by the one it has.

    `spacing` is mm per voxel in numpy axis order; without it voxels count as cubes.
    """
    step = _steps(mask, spacing)
    size = float(mask.sum() * np.prod(step))
    needed = 2 * np.sqrt(np.pi * size) if mask.ndim == 2 else (36 * np.pi) ** (1 / 3) * size ** (2 / 3)
    return float(min(FACES[mask.ndim] * needed / max(sum(_faces(mask, step)), 1e-9), 1))


def border_share(mask: np.ndarray, spacing: Sequence[float] | None = None) -> float:
    """Return the share of a mask's surface that lies on the image's border; `spacing` as in `compactness`."""
    border, inner = _faces(mask, _steps(mask, spacing))
    return border / max(border + inner / FACES[mask.ndim], 1e-9)


def _steps(mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    return np.ones(mask.ndim) if spacing is None else np.array(spacing, float)


def _faces(mask: np.ndarray, step: np.ndarray) -> tuple[float, float]:
    """Return the mm, or mm², of a mask's voxel faces on the image's border and within the image."""
    border = inner = 0.0
    for axis in range(mask.ndim):
        size = float(np.prod(step) / step[axis])
        border += size * int(np.take(mask, [0, -1], axis).sum())
        inner += size * int(np.diff(mask, axis=axis).sum())
    return border, inner


def is_stripped(image: np.ndarray, spacing: Sequence[float] | None = None) -> bool:
    """Return whether an image shows a brain alone: constant around it, and no skull under its outline.

    Of a volume the middle slice that is fullest decides.
    """
    if image.ndim == 3:
        lit = (image != surroundings(image)).sum((1, 2))
        middle = len(image) // 4 + int(lit[len(image) // 4 : max(3 * len(image) // 4, len(image) // 4 + 1)].argmax())
        return is_stripped(image[middle], spacing[1:] if spacing is not None else None)
    around = surroundings(image)
    background = image == around
    border = np.concatenate([background[0], background[-1], background[:, 0], background[:, -1]])
    if border.mean() < 0.98 or not 0.15 < background.mean() < 0.97:
        return False
    content = largest(~background)
    if content.sum() < 0.9 * (~background).sum() or _fill(content) > FRAME:
        return False
    if around > image.min():  # standardized: where its black was is not known, but below its least value
        image = np.where(background, image.min() - np.ptp(image) / 2, image)
    return skull_share(image, spacing) < 0.15


def surroundings(image: np.ndarray) -> float:
    """Return the value that most of an image's border has, which of a stripped one need not be its least."""
    frame = np.ones(image.shape, bool)
    frame[(slice(1, -1),) * image.ndim] = False
    values, counts = np.unique(image[frame], return_counts=True)
    return float(values[counts.argmax()])


def _fill(mask: np.ndarray) -> float:
    """Return the share of its bounding box that a mask takes: 0.79 for an ellipse, 1 for a picture in a black frame."""
    sides = [np.ptp(np.flatnonzero(mask.any(axis))) + 1 for axis in (0, 1)]
    return float(mask.sum() / (sides[0] * sides[1]))


def skull_share(image: np.ndarray, spacing: Sequence[float] | None = None) -> float:
    """Return the share of directions in which a slice grows dark again under its surface, as it does in a skull."""
    from medaug_cli.brain.brain2d import assumed_spacing, on_millimetres

    step = tuple(spacing) if spacing is not None else assumed_spacing(image)
    grey = on_millimetres(unit_range(image), step)
    head = head_mask(grey)
    if not head.any():
        return 0.0
    depth = head_depth(head, (1, 1))
    deep = grey[depth > 0.35 * depth.max()]
    typical = float(np.median(deep[deep >= 0.3 * np.median(deep)]))
    y, x = np.indices(head.shape)
    middle = np.argwhere(head).mean(0)
    angle = (np.arctan2(y - middle[0], x - middle[1]) + np.pi) / (2 * np.pi)
    sector = np.minimum((angle * SECTORS).astype(int), SECTORS - 1)
    rim = (depth > 0) & (depth < DEPTHS)
    bins = sector[rim] * DEPTHS + depth[rim].astype(int)
    total = np.bincount(bins, grey[rim] / max(typical, 1e-6), SECTORS * DEPTHS)
    profile = (total / np.maximum(np.bincount(bins, minlength=SECTORS * DEPTHS), 1)).reshape(SECTORS, DEPTHS)
    drop = np.maximum.accumulate(profile, axis=1) - profile  # (sectors, depths)
    return float((drop.max(1) > 0.3).mean())
