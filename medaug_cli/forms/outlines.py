"""The outline of a lesion as COCO has it: polygons, or run lengths of its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.forms.coordinates import around, decimal

NEAR = 1e-3  # pixels, up to which a corner of an outline is that of its box


@dataclass(frozen=True)
class Outline:
    """The pixels of one lesion: polygons of corners (n, 2), x first, or run lengths down the columns of `size`."""

    place: str  # file and number of the annotation
    polygons: tuple[np.ndarray, ...] = ()
    runs: tuple[int, ...] = ()
    size: tuple[int, int] | None = None  # height and width that run lengths are of

    @property
    def box(self) -> tuple[float, ...]:
        """Return the corners of the box around it; zeros where it marks nothing."""
        if self.polygons:
            return around([(float(x), float(y)) for polygon in self.polygons for x, y in polygon])
        assert self.size is not None
        height, ends = self.size[0], np.cumsum(self.runs)
        first, last = ends[:-1:2], ends[1::2] - 1  # of the pixels of each run that is marked
        first, last = first[last >= first], last[last >= first]
        if not len(first):
            return 0.0, 0.0, 0.0, 0.0
        several = (first // height != last // height).any()  # a run that goes on in the next column
        low, high = (0, height) if several else ((first % height).min(), (last % height).max() + 1)
        return float(first[0] // height), float(low), float(last[-1] // height + 1), float(high)

    def pixels(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return its pixels (h, w) bool: of polygons those whose middle lies in one of them.

        Of polygons that hold no middle, being thin or small, it is the pixel in the middle of their box. Raises
        BadInput for run lengths of another size.
        """
        if self.polygons:
            inside = _inside(self.polygons, shape)
            low, high = np.clip(np.reshape(self.box, (2, 2)), 0, shape[::-1])
            if not inside.any() and (high > low).all():
                x, y = np.floor((low + high) / 2).astype(int)
                inside[y, x] = True
            return inside
        if self.size != shape:
            raise BadInput(
                f"{self.place}: its run lengths are of {_sides(self.size)} pixels, its image has {_sides(shape)}"
            )
        return np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs).reshape(shape[::-1]).T

    def is_box(self, box: Sequence[float]) -> bool:
        """Tell whether it is one polygon that is no more than a box, as some programs write one for each box."""
        if len(self.polygons) != 1 or not 4 <= len(self.polygons[0]) <= 5:
            return False
        ends = np.array(box).reshape(2, 2)
        return bool((np.abs(self.polygons[0][:, None] - ends).min(1) < NEAR).all())


def read_outline(place: str, given: Any) -> Outline | None:
    """Return what COCO's `segmentation` says, None where it says nothing; raise BadInput where it is broken."""
    if not given:
        return None
    try:
        if isinstance(given, dict):
            return _of_runs(place, given)
        lists = [polygon for polygon in (given if isinstance(given[0], list) else [given]) if polygon]
        polygons = [np.array([decimal(number) for number in polygon]) for polygon in lists]
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise BadInput(
            f"{place}: its segmentation is neither a list of polygons [x, y, x, y, ...] nor run lengths "
            "{size: [height, width], counts}"
        ) from error
    if any(len(polygon) % 2 for polygon in polygons):
        raise BadInput(f"{place}: a polygon of its segmentation has an odd number of coordinates")
    return Outline(place, tuple(polygon.reshape(-1, 2) for polygon in polygons)) if polygons else None


def _of_runs(place: str, given: dict[str, Any]) -> Outline:
    height, width = (int(side) for side in given["size"])
    counts = given["counts"]
    runs = _unpacked(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(height, width) < 1 or sum(runs) != height * width or min(runs, default=0) < 0:
        raise BadInput(f"{place}: the run lengths of its segmentation do not fill {width}x{height} pixels")
    return Outline(place, runs=tuple(runs), size=(height, width))


def _unpacked(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed text: six bits a letter, differences to the last but one run."""
    runs: list[int] = []
    letters = iter(text.encode("ascii"))
    for letter in letters:
        value, shift = 0, 0
        while True:
            part = letter - 48
            value |= (part & 31) << shift
            shift += 5
            if not part & 32:
                break
            letter = next(letters, 48)
        if part & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _inside(polygons: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels (h, w) bool whose middle lies in one of some polygons."""
    from matplotlib.path import Path

    inside = np.zeros(shape, bool)
    for polygon in polygons:
        low = np.floor(polygon.min(0).clip(0, shape[::-1])).astype(int)
        high = np.ceil(polygon.max(0).clip(0, shape[::-1])).astype(int)
        if len(polygon) < 3 or (high <= low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        middles = np.stack([x.ravel(), y.ravel()], 1) + 0.5
        held = Path(np.concatenate([polygon, polygon[:1]]), closed=True).contains_points(middles)
        inside[low[1] : high[1], low[0] : high[0]] |= held.reshape(x.shape)
    return inside


def label_map(
    outlines: Sequence[Outline | None], labels: Sequence[str], shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[frozenset[int], str]]:
    """Return outlines as values (h, w) int32, and what these stand for; where two overlap, the smaller counts."""
    names = list(dict.fromkeys(labels))
    values = np.zeros(shape, np.int32)
    drawn = [(one.pixels(shape), label) for one, label in zip(outlines, labels, strict=True) if one is not None]
    for pixels, label in sorted(drawn, key=lambda one: -int(one[0].sum())):
        values[pixels] = names.index(label) + 1
    return values, {frozenset([number]): name for number, name in enumerate(names, 1)}


def _sides(shape: tuple[int, ...] | None) -> str:
    return "x".join(map(str, (shape or ())[::-1]))
