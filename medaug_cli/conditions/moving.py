"""Slightly different masks (Han et al., 2.6): one affine and a small smooth warp move a mask and its boxes together.

Legend: *s spatial axes in numpy order, d of them, m boxes. Every random number is drawn once, in [-1, 1].
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

LEAST_SHARE = 0.3  # of a lesion that must stay inside the frame
ATTEMPTS = (1.0, 0.5, 0.25)  # shares of the change that are tried, until no lesion is lost
WARP = 0.125  # largest displacement of the warp, of `jitter` times a lesion's side
LEAST_STEP = 4.0  # pixels between the nodes of a warp


@dataclass(frozen=True)
class Move:
    """How a mask is moved about the centre of what it marks, at `jitter` 1."""

    centre: np.ndarray  # (d,)
    sides: np.ndarray  # (d,) of a lesion in the middle of all, which shifts and warps are measured by
    shift: np.ndarray  # (d,) of the sides
    zoom: float
    angle: float  # in the last two axes, radians
    warp: np.ndarray  # (d, *nodes), a lesion's side between nodes

    @classmethod
    def drawn(cls, owners: np.ndarray, rng: np.random.Generator) -> Self:
        """Draw the move of lesions, `owners` (*s) by their number from 1."""
        bounds = [(at.min(0), at.max(0) + 1) for k in range(1, int(owners.max()) + 1) if len(at := _places(owners, k))]
        low, high = (np.array(corner, float) for corner in zip(*bounds, strict=True))  # (lesions, d) each
        sides = np.median(high - low, 0)
        d = owners.ndim
        nodes = [int(np.ceil(n / step)) + 4 for n, step in zip(owners.shape, _steps(sides), strict=True)]
        return cls(
            centre=(low.min(0) + high.max(0)) / 2,
            sides=sides,
            shift=rng.uniform(-1, 1, d),
            zoom=float(rng.uniform(-1, 1)),
            angle=float(rng.uniform(-1, 1)),
            warp=rng.uniform(-1, 1, (d, *nodes)),
        )

    def frame(self, owners: np.ndarray, jitter: float) -> tuple[slice, ...]:
        """Return the part of an image that lesions can be moved into."""
        at = np.argwhere(owners > 0)
        half = (at.max(0) + 1 - at.min(0)) / 2
        reach = (1 + jitter) * (half + jitter * (np.hypot(*half[-2:]) + WARP * self.sides)) + jitter * self.sides + 2
        low = np.maximum(0, np.floor(self.centre - reach)).astype(int)
        high = np.minimum(owners.shape, np.ceil(self.centre + reach)).astype(int)
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True))

    def sources(self, frame: tuple[slice, ...], jitter: float) -> np.ndarray:
        """Return the pixel (d, *s) that each pixel of a part of the moved mask is taken from, as whole numbers."""
        column = (len(frame), *[1] * len(frame))
        shape = [part.stop - part.start for part in frame]
        at = np.indices(shape) + 0.5 + np.reshape([part.start for part in frame], column)  # (d, *s)
        offset = at - (self.centre + self.shift * self.sides * jitter).reshape(column)
        turned = np.tensordot(self._rotation(-jitter), offset, 1) / (1 + self.zoom * jitter)
        source = turned + self.centre.reshape(column) + self._displacement(at) * (jitter * WARP)
        return np.floor(source).astype(np.int64)

    def box(self, box: np.ndarray, jitter: float) -> np.ndarray:
        """Return a box (2*d,) that owns no pixel, moved without turning its sides, x first."""
        d = len(self.centre)
        low, high = box[:d][::-1], box[d:][::-1]
        zoom = 1 + self.zoom * jitter
        offset = self._rotation(jitter) @ ((low + high) / 2 - self.centre) * zoom
        middle, half = self.centre + self.shift * self.sides * jitter + offset, (high - low) / 2 * zoom
        return np.concatenate([(middle - half)[::-1], (middle + half)[::-1]])

    def _rotation(self, jitter: float) -> np.ndarray:
        turn, angle = np.eye(len(self.centre)), self.angle * jitter
        turn[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return turn

    def _displacement(self, at: np.ndarray) -> np.ndarray:
        """Return a smooth displacement (d, *s) in pixels, at most a lesion's sides: cubic B-splines over the nodes."""
        from scipy import ndimage

        nodes = [axis / step + 1 for axis, step in zip(at, _steps(self.sides), strict=True)]
        smooth = [ndimage.map_coordinates(one, nodes, order=3, mode="nearest", prefilter=False) for one in self.warp]
        return np.stack([one * side for one, side in zip(smooth, self.sides, strict=True)])


def moved(
    mask: np.ndarray, boxes: np.ndarray, jitter: float, rng: np.random.Generator, mirror: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask (*s) and the boxes (m, 2*d) of its lesions, mirrored half the time if at all, and moved.

    Shifts are up to `jitter` of a lesion's sides, zooms up to `jitter`, turns up to `jitter` radians; with the warp no
    length changes by more than about twice `jitter`. Values stay as they are. A box is that of the pixels that its
    lesion has then. A move that would lose a lesion, or most of it, is made smaller until it does not.
    """
    boxes = np.asarray(boxes, np.float64)
    owners = owned(mask, boxes)
    if rng.random() < 0.5 and mirror:
        mask, owners, boxes = mask[..., ::-1], owners[..., ::-1], mirrored(boxes, mask.shape[-1])
    move, joint = Move.drawn(owners, rng), _joint(owners, boxes)
    for share in ATTEMPTS:
        there = _moved(mask, owners, joint=joint, boxes=boxes, move=move, jitter=jitter * share)
        if there is not None:
            return there
    return np.ascontiguousarray(mask), _boxes(owners, joint, boxes).astype(np.float32)


def _moved(
    mask: np.ndarray, owners: np.ndarray, joint: list[list[int]], boxes: np.ndarray, move: Move, jitter: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the moved mask and boxes; None where a lesion is lost, or most of it."""
    frame = move.frame(owners, jitter)
    sources = move.sources(frame, jitter)
    inside = np.logical_and.reduce([(s >= 0) & (s < n) for s, n in zip(sources, mask.shape, strict=True)])
    at = tuple(np.where(inside, one, 0) for one in sources)
    taken, there = np.zeros_like(owners), np.zeros_like(mask)
    taken[frame], there[frame] = np.where(inside, owners[at], 0), np.where(inside, mask[at], 0)
    count = len(boxes) + 2
    before, after = (np.bincount(one.ravel(), minlength=count)[1:] for one in (owners, taken))
    least = np.where(before > 0, np.maximum(1, LEAST_SHARE * before * (1 + move.zoom * jitter) ** mask.ndim), 0)
    if (after < least).any():
        return None
    found = _boxes(taken, joint, np.array([move.box(box, jitter) for box in boxes]).reshape(boxes.shape))
    size = np.tile(mask.shape[::-1], 2)
    d, cut = mask.ndim, np.clip(found, 0, size)
    kept, whole = cut[:, d:] - cut[:, :d], found[:, d:] - found[:, :d]
    if (kept.prod(1) < LEAST_SHARE * whole.prod(1)).any():
        return None
    return there, cut.astype(np.float32)


def owned(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return which box each pixel of a mask (*s) is of, from 1; 0 outside, m + 1 what lies in no box.

    Pixels of one value that touch belong together: to the box that holds most of them, of several the smallest.
    """
    from scipy import ndimage

    owners = np.zeros(mask.shape, np.int64)
    d = mask.ndim
    areas = (boxes[:, d:] - boxes[:, :d]).prod(1)
    for value in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == value, np.ones((3,) * d))
        for part, where in enumerate(ndimage.find_objects(parts), 1):
            own = parts[where] == part
            corner = np.array([side.start for side in where])
            at = (np.argwhere(own) + corner)[:, ::-1] + 0.5  # (pixels, d), x first
            held = ((at >= boxes[:, None, :d]) & (at < boxes[:, None, d:])).all(2).sum(1)  # (m,)
            best = min(range(len(boxes)), key=lambda k: (-held[k], areas[k]), default=len(boxes))
            owners[where][own] = best + 1 if len(boxes) and held[best] else len(boxes) + 1
    return owners


def mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    """Return boxes (m, 2*d) mirrored left to right."""
    d = boxes.shape[1] // 2
    turned = boxes.copy()
    turned[:, 0], turned[:, d] = width - boxes[:, d], width - boxes[:, 0]
    return turned


def _joint(owners: np.ndarray, boxes: np.ndarray) -> list[list[int]]:
    """Return whose pixels each box is drawn around: its own, and those within it where its own do not fill it.

    So it is where one label is a part of another, as the core of a tumour is.
    """
    d, count = owners.ndim, len(boxes)
    bounds = {k: _bounds(owners, [k]) for k in range(1, count + 2) if (owners == k).any()}
    found = []
    for k, box in enumerate(boxes, 1):
        inside = {j: (own[:d] >= box[:d] - 1).all() and (own[d:] <= box[d:] + 1).all() for j, own in bounds.items()}
        within = [j for j, held in inside.items() if held and j != k]
        candidates: list[tuple[int, ...]] = [(k,), (k, *within)] if k in bounds else []
        far = [float(np.abs(_bounds(owners, list(ids)) - box).max()) for ids in candidates]
        found.append(list(candidates[int(np.argmin(far))]) if far else [k])
    return found


def _boxes(owners: np.ndarray, joint: list[list[int]], boxes: np.ndarray) -> np.ndarray:
    """Return boxes (m, 2*d), those that own pixels as tight as these lie."""
    found = boxes.copy()
    for k, ids in enumerate(joint):
        if (owners == k + 1).any():
            found[k] = _bounds(owners, ids)
    return found


def _bounds(owners: np.ndarray, ids: list[int]) -> np.ndarray:
    """Return the box (2*d,) around the pixels of some numbers, x first."""
    at = np.argwhere(np.isin(owners, ids))
    return np.array([*at.min(0)[::-1], *(at.max(0) + 1)[::-1]], float)


def _places(owners: np.ndarray, number: int) -> np.ndarray:
    """Return the pixels (p, d) of one number."""
    return np.argwhere(owners == number)


def _steps(sides: np.ndarray) -> np.ndarray:
    """Return the pixels between the nodes of a warp along each axis."""
    return np.maximum(sides, LEAST_STEP)
