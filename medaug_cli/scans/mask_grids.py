"""Whether a mask lies on its scan: compared in millimetres, then put onto the scan's grid, or refused by name.

Arrays are (c, z, y, x), or (c, y, x) of pictures; steps, corners and sizes are in voxels, x first.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Grid, StoredImage
from medaug_cli.scans.grids import as_image, index_map, upright
from medaug_cli.scans.reading import Pixels, Scan, read_stored
from medaug_cli.words import percent

NEAR = 0.1  # of a voxel, up to which the voxels of two grids are the same
MARKED = 0.5  # from which a voxel of a mask is marked
BESIDE = 1.0  # voxels, up to which a mask with its scan's shape may lie beside it: further off, its header is wrong


@dataclass(frozen=True)
class Frame:
    """Where the pixels of a scan lie, as its file holds them."""

    name: str  # what outputs call the scan
    shape: tuple[int, ...]  # (z, y, x), or (y, x) of a picture
    grid: Grid | None = None  # of a volume
    other_grid: Grid | None = None  # a second one that its file names


@dataclass(frozen=True)
class FittedMask:
    """A mask on the grid of its scan."""

    image: np.ndarray  # (c, *s)
    notes: tuple[str, ...] = ()  # in words, what had to be done
    lost: int = 0  # connected regions that leave no voxel there


def read_mask(path: Path, scan: Scan, pixels: Pixels, kind: str = "mask") -> FittedMask:
    """Read a mask onto the pixels of its scan, of a volume as axial slices of square pixels; see fit_mask."""
    shape = pixels.stored_shape or pixels.image.shape[1:]
    frame = Frame(scan.shown or scan.relative, shape, pixels.stored, pixels.other_grid)
    fitted = fit_mask(read_stored((path,), labels=True, reading=scan.reading), frame, path, kind)
    if pixels.stored is None:
        return fitted
    grid = pixels.true_stored or pixels.stored
    return replace(fitted, image=_each(fitted.image, lambda channel: upright(channel, grid, labels=True)[0]))


def fit_mask(mask: StoredImage, frame: Frame, path: object, kind: str = "mask") -> FittedMask:
    """Return a mask on the grid of its scan; of volumes, by place.

    A mask whose voxels are those of the scan, to a tenth of a voxel, is turned and mirrored as they are, and put in
    where it covers a part; any other is resampled by nearest neighbour. Both are noted. Raises BadInput for a mask that
    has its scan's shape and lies elsewhere, that does not say where it lies, or that marks nothing on the scan.
    """
    if mask.grid is None or frame.grid is None:
        _check_picture(mask, frame, path, kind)
        return FittedMask(mask.image)
    read = tuple(f"of its {kind}: {note}" for note in mask.notes)
    for grid, target, words in _claims(mask, frame):
        relation = _relation(grid, target, mask.image.shape)
        if relation.beside(frame.shape) <= NEAR:
            image = _each(mask.image, partial(_put_in, relation=relation, shape=frame.shape))
            return FittedMask(image, (*read, f"its {kind} is matched {words}") if words else read)
    moved = _onto_another_grid(mask, frame, path, kind)
    return replace(moved, notes=(*read, *moved.notes))


def _onto_another_grid(mask: StoredImage, frame: Frame, path: object, kind: str) -> FittedMask:
    """Put a mask in by its place where its voxels are of the scan's grid, resample it where they are not."""
    assert mask.grid is not None
    assert frame.grid is not None
    relation = _relation(mask.grid, frame.grid, mask.image.shape)
    _check_place(relation, mask.grid, frame, path, kind)
    move: Callable[[np.ndarray], np.ndarray]
    size = "x".join(map(str, mask.image.shape[:0:-1]))
    if relation.aligned:
        move, how = partial(_put_in, relation=relation, shape=frame.shape), f"({size} voxels) is placed by its position"
    else:
        move = partial(_resampled, grid=mask.grid, frame=frame)
        how = f"is resampled onto it by nearest neighbour: {_differences(mask.grid, frame.grid)}"
    lost, count = _lost_regions(mask, move, f"the {kind} {path}", frame)
    said = f"its {kind} has another grid and {how}"
    outside = _outside(mask.image, relation, frame.shape)
    said += f"; {percent(outside, 1)} of what it marks lies outside" if outside else ""
    said += f"; {lost} of its {count} regions leave no voxel there and are lost" if lost else ""
    return FittedMask(_each(mask.image, move), (said,), lost)


def _each(image: np.ndarray, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what a function makes of each channel; that of a single one is not copied."""
    moved = [move(channel) for channel in image]
    return np.stack(moved) if len(moved) > 1 else moved[0][None]


def _check_picture(mask: StoredImage, frame: Frame, path: object, kind: str) -> None:
    """Raise BadInput unless mask and scan are pictures of one size."""
    shape, kinds = mask.image.shape[1:], ["picture" if one.grid is None else "volume" for one in (mask, frame)]
    if kinds[0] != kinds[1]:
        raise BadInput(f"the {kind} {path} is a {kinds[0]}, its scan {frame.name} is a {kinds[1]}")
    if shape != frame.shape:
        raise BadInput(f"the {kind} {path} has the shape {shape}, its scan {frame.name} has {frame.shape}")


def _claims(mask: StoredImage, frame: Frame) -> Iterator[tuple[Grid, Grid, str]]:
    """Yield the ways in which the headers may put a mask on its scan, the usual one first."""
    assert mask.grid is not None
    assert frame.grid is not None
    yield mask.grid, frame.grid, ""
    if frame.other_grid is not None:
        yield mask.grid, frame.other_grid, "by the qform of the scan, not by its sform"
    if mask.other_grid is not None:
        yield mask.other_grid, frame.grid, "by its qform, not by its sform"
    if mask.other_grid is not None and frame.other_grid is not None:
        yield mask.other_grid, frame.other_grid, "by the qforms, not by the sforms"


@dataclass(frozen=True)
class _Relation:
    """How the voxels of a mask lie among those of its scan: there = matrix @ here + shift."""

    matrix: np.ndarray  # (3, 3)
    shift: np.ndarray  # (3,)
    turn: np.ndarray  # (3, 3) of -1, 0 and 1, which axis of the scan each of the mask's runs along
    size: np.ndarray  # (3,) of the mask

    @property
    def turned_size(self) -> np.ndarray:
        """Return the mask's voxels along the scan's axes (3,)."""
        return np.asarray(np.abs(self.turn) @ self.size)

    @property
    def start(self) -> np.ndarray:
        """Return the first of the scan's voxels that the mask covers, not rounded (3,)."""
        return np.asarray(self.shift + np.minimum(self.turn, 0) @ (self.size - 1))

    @property
    def aligned(self) -> bool:
        """Tell whether the mask's voxels are voxels of the scan's grid, within it or beyond."""
        return self._off(self.shift - self.start + np.rint(self.start)) <= NEAR

    def beside(self, shape: tuple[int, ...]) -> float:
        """Return how far its corners lie from those of a scan of `shape` (z, y, x); infinity for another shape."""
        if tuple(self.turned_size[::-1]) != shape:
            return np.inf
        return self._off(self.shift - self.start)

    def _off(self, shift: np.ndarray) -> float:
        """Return how far a corner lies from where `turn` and a shift (3,) have it, along one axis at most."""
        corners = np.array(list(itertools.product(*((0, side - 1) for side in self.size)))).T  # (3, 8)
        return float(np.abs((self.matrix - self.turn) @ corners + (self.shift - shift)[:, None]).max())


def _relation(grid: Grid, target: Grid, shape: tuple[int, ...]) -> _Relation:
    matrix, shift = index_map(grid, target)
    cosines = np.array(target.direction).reshape(3, 3).T @ np.array(grid.direction).reshape(3, 3)
    along = max(itertools.permutations(range(3)), key=lambda axes: np.abs(cosines[axes, range(3)]).sum())
    turn = np.zeros((3, 3), int)
    turn[along, range(3)] = np.where(cosines[along, range(3)] < 0, -1, 1)
    return _Relation(matrix, shift, turn, np.array(shape[:0:-1]))


def only_turned(grid: Grid, shape: tuple[int, ...], target: Grid, target_shape: tuple[int, ...]) -> bool:
    """Tell whether the voxels of two grids of some shapes (z, y, x) are the same, and stored in another order."""
    relation = _relation(grid, target, (1, *shape))
    return relation.beside(target_shape) <= NEAR and not (relation.turn == np.eye(3)).all()


def _check_place(relation: _Relation, grid: Grid, frame: Frame, path: object, kind: str) -> None:
    """Raise BadInput where a header cannot be right: it names no place, or another for the very shape of the scan."""
    assert frame.grid is not None
    same_shape = tuple(relation.turned_size[::-1]) == frame.shape
    if same_shape and relation.beside(frame.shape) > BESIDE:
        raise BadInput(
            f"the {kind} {path} has the shape of its scan {frame.name}, but its header puts it elsewhere "
            f"({_differences(grid, frame.grid)}); if its voxels are those of the scan, give it the scan's header"
        )
    nowhere, scan_nowhere = _is_default(grid), _is_default(frame.grid)
    if nowhere != scan_nowhere and (nowhere or not relation.aligned):
        raise BadInput(
            f"the header of {f'the {kind} {path}' if nowhere else frame.name} does not say where it lies: its origin "
            f"is 0, 0, 0, and it has another shape than {frame.name if nowhere else f'the {kind} {path}'}"
        )


def _is_default(grid: Grid) -> bool:
    """Tell whether a grid is what a program writes that knows no place."""
    axes = np.abs(np.array(grid.direction).reshape(3, 3))
    return not any(grid.origin) and bool((axes == np.eye(3)).all())


def _differences(grid: Grid, target: Grid) -> str:
    """Say in which respects two grids differ, such as: spacing 1 x 1 x 1 mm for 1.5 x 1.5 x 4 mm."""
    said = []
    for name, unit in (("spacing", " mm"), ("origin", " mm"), ("direction", "")):
        ours, theirs = (np.array(getattr(one, name), float) for one in (grid, target))
        if np.abs(ours - theirs).max() > 1e-3:
            words = [" ".join(f"{value + 0.0:.4g}" for value in values) for values in (ours, theirs)]
            said.append(f"{name} {words[0]} for {words[1]}{unit}")
    return ", ".join(said) or "its axes differ by less than a thousandth"


def _put_in(mask: np.ndarray, relation: _Relation, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array (z, y, x) on the scan's grid of `shape`, zero where it does not reach, without resampling."""
    axes = np.abs(relation.turn).argmax(1)  # which of the mask's axes runs along each of the scan's
    turned = mask.T.transpose(axes)
    turned = turned[tuple(slice(None, None, int(relation.turn[i, axis])) for i, axis in enumerate(axes))]
    start = np.rint(relation.start).astype(int)
    if turned.shape == shape[::-1] and not start.any():
        return turned.T
    whole = np.zeros(shape[::-1], mask.dtype)
    ends = zip(start.tolist(), turned.shape, whole.shape, strict=True)
    spans = [(max(low, 0), max(min(low + side, length), 0), low) for low, side, length in ends]
    if all(low < high for low, high, _ in spans):
        inside = tuple(slice(low - first, high - first) for low, high, first in spans)
        whole[tuple(slice(low, high) for low, high, _ in spans)] = turned[inside]
    return whole.T


def _resampled(mask: np.ndarray, grid: Grid, frame: Frame) -> np.ndarray:
    """Return an array (z, y, x) on a grid as it is on the scan's, by nearest neighbour."""
    import SimpleITK as sitk

    assert frame.grid is not None
    target = as_image(np.zeros(frame.shape, np.uint8), frame.grid)
    moved = sitk.Resample(as_image(mask, grid), target, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    return np.asarray(sitk.GetArrayFromImage(moved))


def _outside(image: np.ndarray, relation: _Relation, shape: tuple[int, ...]) -> float:
    """Return which share of the marked voxels of a mask (c, z, y, x) lies outside a scan of `shape` (z, y, x)."""
    voxels = np.argwhere(image.max(0) > MARKED)[:, ::-1]
    there = np.rint(voxels @ relation.matrix.T + relation.shift)
    outside = ((there < 0) | (there >= shape[::-1])).any(1)
    return float(outside.mean()) if len(outside) else 0.0


def _lost_regions(
    mask: StoredImage, move: Callable[[np.ndarray], np.ndarray], what: str, frame: Frame
) -> tuple[int, int]:
    """Return how many connected regions of a mask leave no voxel on the scan, of how many.

    Raises BadInput where none is left.
    """
    from scipy import ndimage

    numbered, count = ndimage.label(mask.image.max(0) > MARKED, np.ones((3, 3, 3)))
    lost = count - int(np.count_nonzero(np.unique(move(numbered))))
    if count and lost == count:
        raise BadInput(f"{what} does not overlap its scan {frame.name}: nothing that it marks lies inside")
    return lost, count
