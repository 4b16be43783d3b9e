"""Where the region of interest goes in the training frame, for images and for boxes, and the way back.

Images are (c, *s), boxes (m, 2*d): half-open corners, low corner then high corner, x first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import numpy as np

from medaug_cli.errors import BadInput, UsageError

Fit = Literal["pad", "stretch"]
Order = Literal["linear", "nearest", "area"]


@dataclass(frozen=True)
class Placement:
    """One crop of an image, in numpy axis order, resized to `size` along every axis, or to a size for each.

    The crop may reach outside the image; what lies there is zero. Its bounds are whole pixels, or, for `sample`, not.
    """

    source: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    size: int | tuple[int, ...]
    fit: Fit = "pad"

    def __post_init__(self) -> None:
        """Refuse a placement that has no pixels."""
        if not len(self.source) == len(self.low) == len(self.high) or len(self.source) not in (2, 3):
            raise UsageError(f"a crop needs one low and one high bound per axis of an image of shape {self.source}")
        if min(self.frame) < 1 or any(high <= low for low, high in zip(self.low, self.high, strict=True)):
            raise UsageError(f"the crop from {self.low} to {self.high} in a frame of {self.size} pixels is empty")

    @property
    def frame(self) -> tuple[int, ...]:
        """Return the pixels of the frame along every numpy axis (d,)."""
        return self.size if isinstance(self.size, tuple) else (self.size,) * len(self.source)

    @property
    def scale(self) -> np.ndarray:
        """Return frame pixels per source pixel along every numpy axis (d,)."""
        return np.array(self.frame) / (np.array(self.high, np.float64) - np.array(self.low, np.float64))

    def apply(self, image: np.ndarray, order: Order = "linear") -> np.ndarray:
        """Return the crop of an image (c, *s) as (c, size, ...); shrinking averages, so nothing aliases.

        Its bounds are whole pixels.
        """
        self._check(image, order)
        crop = self._crop(image)
        for axis, (length, size) in enumerate(zip(crop.shape[1:], self.frame, strict=True), start=1):
            crop = _resized(crop, axis, length, size, order)
        return np.ascontiguousarray(crop)

    def sample(self, image: np.ndarray, order: Order = "linear", beyond: bool = False) -> np.ndarray:
        """Return the crop of an image (c, *s) as (c, size, ...), its bounds anywhere between pixels.

        Unlike `apply` it looks at the image's pixels around the crop too, and is exactly zero where the middle of a
        pixel of the frame lies outside the image; with `beyond` only where all of the pixel does, for an area.
        """
        self._check(image, order)
        if order == "nearest":
            raise UsageError("a crop between pixels is sampled by linear or area")
        for axis, (length, size) in enumerate(zip(self.source, self.frame, strict=True), start=1):
            low, high = float(self.low[axis - 1]), float(self.high[axis - 1])
            if (low, high) == (0, length) and size == length:
                continue
            weights = _weights(length, size, order, low, high)
            middles = low + (np.arange(size) + 0.5) * ((high - low) / size)
            if not beyond:
                weights = weights * ((middles >= 0) & (middles < length))[:, None].astype(np.float32)
            used = np.flatnonzero(weights.any(0))
            near = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
            part = image[(slice(None),) * axis + (near,)].astype(np.float32, copy=False)
            image = np.moveaxis(np.tensordot(weights[:, near], part, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(image)

    def _check(self, image: np.ndarray, order: str) -> None:
        if image.shape[1:] != self.source:
            raise UsageError(f"an image of shape {image.shape[1:]} was given, but its crop was made for {self.source}")
        if order not in get_args(Order):
            raise UsageError(f"interpolation {order!r} is not known; the choices are {', '.join(get_args(Order))}")

    def _crop(self, image: np.ndarray) -> np.ndarray:
        whole = [(int(low), int(high)) for low, high in zip(self.low, self.high, strict=True)]
        crop = np.zeros((len(image), *(high - low for low, high in whole)), image.dtype)
        inside, into = [slice(None)], [slice(None)]
        for (low, high), length in zip(whole, self.source, strict=True):
            start, stop = min(max(low, 0), length), max(min(high, length), 0)
            inside.append(slice(start, max(start, stop)))
            into.append(slice(start - low, max(start, stop) - low))
        if image[tuple(inside)].size:
            crop[tuple(into)] = image[tuple(inside)]
        return crop

    def boxes(self, boxes: np.ndarray, clip: bool = True) -> np.ndarray:
        """Return boxes (m, 2*d) of the image as boxes of the frame; `clip` cuts them off at its border."""
        corners = np.asarray(boxes, np.float64).reshape(-1, 2 * len(self.source))
        moved = (corners - self._offset()) * np.tile(self.scale[::-1], 2)
        return (np.clip(moved, 0, np.tile(self.frame[::-1], 2)) if clip else moved).astype(np.float32)

    def inverse_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Return boxes (m, 2*d) of the frame as boxes of the image."""
        corners = np.asarray(boxes, np.float64).reshape(-1, 2 * len(self.source))
        return (corners / np.tile(self.scale[::-1], 2) + self._offset()).astype(np.float32)

    def inverse_labels(self, labels: np.ndarray) -> np.ndarray:
        """Return whole numbers (*frame) of the frame as those (*source) of the image, 0 outside the crop."""
        for axis, (length, low) in enumerate(zip(self.source, self.low, strict=True)):
            index = np.floor((np.arange(length) + 0.5 - low) * self.scale[axis]).astype(int)
            inside = (index >= 0) & (index < labels.shape[axis])
            taken = np.take(labels, index.clip(0, labels.shape[axis] - 1), axis)
            labels = np.where(np.expand_dims(inside, [a for a in range(labels.ndim) if a != axis]), taken, 0)
        return labels

    def _offset(self) -> np.ndarray:
        return np.tile(np.array(self.low[::-1], np.float64), 2)

    def details(self) -> dict[str, Any]:
        """Return what a JSON file needs to undo this placement."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_details(cls, details: dict[str, Any]) -> "Placement":
        """Return the placement that `details` described; raise BadInput where a field is missing or wrong."""
        try:
            source = tuple(int(n) for n in details["source"])
            low, high = (tuple(_number(n) for n in details[name]) for name in ("low", "high"))
            size, fit = _size(details["size"]), _checked_fit(details["fit"])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BadInput(f"a stored placement is incomplete or malformed ({reason})") from error
        return cls(source, low, high, size, fit)


def place(
    spatial: tuple[int, ...], mask: np.ndarray | None, size: int, fit: Fit = "pad", margin: float = 0.05
) -> Placement:
    """Return the placement of a mask's bounding box, or of the whole image where there is no mask.

    `pad` keeps the aspect ratio with one square or cubic crop; `stretch` scales every axis on its own.
    `margin` is the share of the box's extent that is kept around it on each side.
    """
    _checked_fit(fit)
    spatial = tuple(int(n) for n in spatial)
    low, high = _extent(spatial, mask)
    if mask is not None and mask.any():
        extent = high - low
        border = margin * (np.full(len(spatial), extent.max()) if fit == "pad" else extent)
        low, high = np.floor(low - border), np.ceil(high + border)
    if fit == "pad":
        side = (high - low).max()
        low = np.floor((low + high - side) / 2)
        high = low + side
    else:
        low, high = np.maximum(low, 0), np.minimum(high, spatial)
    return Placement(spatial, tuple(int(n) for n in low), tuple(int(n) for n in high), size, fit)


def place_volume(
    spatial: tuple[int, ...],
    mask: np.ndarray | None,
    spacing: tuple[float, ...],
    *,
    frame: tuple[int, ...],
    fit: Fit = "pad",
    margin: float = 0.05,
    mm: float | None = None,
) -> Placement:
    """Return the placement of a mask's bounding box, or of a whole volume, in a frame (z, y, x) of voxels.

    `pad` gives cubic voxels, as large as the box asks for or of `mm`; `stretch` scales every axis on its own. `spacing`
    is mm in numpy axis order, `margin` the share of the box's extent that is kept around it on each side.
    """
    low, high = _extent(spatial, mask)
    if mask is not None and mask.any():
        border = margin * (high - low)
        low, high = np.maximum(low - border, 0), np.minimum(high + border, spatial)
    sides = high - low
    if _checked_fit(fit) == "pad":
        wide = mm or float((sides * spacing / frame).max())
        sides = np.array(frame) * wide / np.array(spacing)
    low = (low + high - sides) / 2
    return Placement(spatial, tuple(low.tolist()), tuple((low + sides).tolist()), frame, fit)


def _size(value: Any) -> int | tuple[int, ...]:
    return tuple(int(side) for side in value) if isinstance(value, list) else int(value)


def _number(value: Any) -> float:
    return value if isinstance(value, int) else float(value)


def _checked_fit(fit: str) -> Fit:
    if fit not in get_args(Fit):
        raise UsageError(f"fit {fit!r} is not known; the choices are {', '.join(get_args(Fit))}")
    return cast(Fit, fit)


def _extent(spatial: tuple[int, ...], mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    whole = np.zeros(len(spatial)), np.array(spatial, np.float64)
    if mask is None or not mask.any():
        return whole
    if mask.shape != spatial:
        raise UsageError(f"a mask of shape {mask.shape} does not fit an image of shape {spatial}")
    axes = range(mask.ndim)
    where = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return np.array([w[0] for w in where], np.float64), np.array([w[-1] + 1 for w in where], np.float64)


def around(spatial: tuple[int, ...], centre: Sequence[float], sides: Sequence[float], size: int) -> Placement:
    """Return the placement of a box around a point: `centre` and `sides` in pixels, numpy axis order, as they are."""
    low = tuple(float(middle - side / 2) for middle, side in zip(centre, sides, strict=True))
    high = tuple(start + float(side) for start, side in zip(low, sides, strict=True))
    return Placement(tuple(int(n) for n in spatial), low, high, size)


def _resized(array: np.ndarray, axis: int, old: int, new: int, order: Order) -> np.ndarray:
    if old == new:
        return array
    if order == "nearest":
        index = np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        return np.take(array, index, axis)
    weights = _weights(old, new, order, 0, old)  # (new, old)
    moved = np.tensordot(weights, array.astype(np.float32, copy=False), axes=(1, axis))
    return np.moveaxis(moved, 0, axis)


@lru_cache(maxsize=64)
def _weights(old: int, new: int, order: Order, begin: float, end: float) -> np.ndarray:
    """Return how much each of `old` pixels gives to each of `new` ones from `begin` to `end`, (new, old).

    Every row sums to one; it is zero where an `area` meets no pixel.
    """
    step = (end - begin) / new
    if order == "area":
        low, high = (begin + (np.arange(new)[:, None] + share) * step for share in (0, 1))
        weights = np.clip(np.minimum(high, np.arange(old) + 1) - np.maximum(low, np.arange(old)), 0, None)
    else:  # a triangle as wide as a new pixel when shrinking, as an old one when enlarging
        centre = np.clip(begin + (np.arange(new)[:, None] + 0.5) * step - 0.5, 0, old - 1)
        weights = np.clip(1 - np.abs(np.arange(old) - centre) / max(step, 1.0), 0, None)
    total = weights.sum(1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32)
